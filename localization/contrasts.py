"""The values of a search: a contrast, and the share of a full swap's effect that a set of sites carries."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from localization.errors import BadContrasts

__all__ = ["Contrast", "Shares", "SiteSet", "check_contrasts", "digest_of"]

SiteSet = frozenset[str]


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two prompts that differ in one concept only, and the seed of the noise that both start from."""

    prompt: str
    donor: str
    seed: int


@dataclass(frozen=True, slots=True)
class Shares:
    """Products of a site set's change with the full swap's, [contrasts, levels], and the full swap's own squares.

    Changes are per contrast, so that intervals can be had by resampling contrasts.
    """

    along: Tensor
    full: Tensor

    def share(self, rows: Tensor | None = None) -> float:
        """The set's share of the full effect over all levels; `rows` picks contrasts, with repetition if resampled."""
        along, full = (self.along, self.full) if rows is None else (self.along[rows], self.full[rows])
        return float(along.sum() / full.sum())

    def by_level(self) -> Tensor:
        """The share at each noise level, [levels]."""
        return self.along.sum(0) / self.full.sum(0)

    def error(self) -> float:
        """One standard error of the share over contrasts, as that of a ratio (Cochran, 1977); 0 for a single one."""
        along, full, n = self.along.sum(1), self.full.sum(1), len(self.along)
        off = along - self.share() * full
        return float((off.square().sum() * n / max(1, n - 1)).sqrt() / full.sum()) if n > 1 else 0.0

    def interval(self, *, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
        """The share's 95 % bootstrap interval over contrasts."""
        generator = torch.Generator().manual_seed(seed)
        count = len(self.along)
        rows = torch.randint(0, count, (draws, count), generator=generator)
        shares = self.along[rows].sum((1, 2)) / self.full[rows].sum((1, 2))
        low, high = torch.quantile(shares, torch.tensor([0.025, 0.975], dtype=shares.dtype)).tolist()
        return low, high


def digest_of(*sets: Sequence[Contrast]) -> str:
    """Sha256 of sets of contrasts; equal for equal sets on any machine."""
    text = json.dumps([[[c.prompt, c.donor, c.seed] for c in s] for s in sets])
    return hashlib.sha256(text.encode()).hexdigest()


def check_contrasts(contrasts: Sequence[Contrast], phrases: Sequence[str], *, mutual: bool = False) -> None:
    """Nothing, when each prompt names the concept and its donor does not.

    Without `phrases` the prompts need only differ, and no prompt may be another's donor, unless pairs are `mutual`
    (two words of lettering, of which either may stand for the other). Raises: BadContrasts, naming the pair.
    """
    if not contrasts:
        raise BadContrasts("need at least one pair of prompts, got none")
    named = re.compile("|".join(rf"(?<!\w){re.escape(p)}(?!\w)" for p in phrases), re.IGNORECASE) if phrases else None
    donors = {c.donor: n for n, c in enumerate(contrasts, 1)}
    for n, c in enumerate(contrasts, 1):
        if c.prompt == c.donor:
            raise BadContrasts(f"pair {n}: prompt and donor must differ, got `{c.prompt}` twice")
        if named is None:
            if c.prompt in donors and not mutual:
                raise BadContrasts(
                    f"pairs {n} and {donors[c.prompt]} contradict each other: `{c.prompt}` is prompt and donor"
                )
            continue
        words = " or ".join(f"`{p}`" for p in phrases)
        if not named.search(c.prompt):
            turned = "; the donor names it, so the pair is the wrong way round" if named.search(c.donor) else ""
            raise BadContrasts(f"pair {n}: the prompt must name {words}, got `{c.prompt}`{turned}")
        if named.search(c.donor):
            raise BadContrasts(f"pair {n}: the donor must not name {words}, got `{c.donor}`")
