"""Measures how much of a full swap's effect a set of sites carries, exactly, in the model's own output.

A contrast is a pair of prompts that differ in the concept only. The denoiser's calls of one unsteered run are
captured at a few noise levels and replayed with many plans at once, one row a plan: no plan (`v_0`), the donor's text
at all sites (`v_all`), and each set of sites that is asked about (`v_S`). The effect of S is the share of the full
swap that it carries along the full swap's own direction,

    effect(S) = <v_S - v_0, v_all - v_0> / ||v_all - v_0||^2,

pooled over contrasts as a ratio of sums. Nothing is trained and no picture is read, so K needs no external metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steering import Host, Plan, Swap

__all__ = ["Bench", "Contrast", "Shares", "SiteSet"]

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

    def interval(self, *, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
        """The share's 95 % bootstrap interval over contrasts."""
        generator = torch.Generator().manual_seed(seed)
        count = len(self.along)
        rows = torch.randint(0, count, (draws, count), generator=generator)
        shares = self.along[rows].sum((1, 2)) / self.full[rows].sum((1, 2))
        low, high = torch.quantile(shares, torch.tensor([0.025, 0.975], dtype=shares.dtype)).tolist()
        return low, high


@dataclass(slots=True)
class Bench:
    """Captured denoiser calls of a set of contrasts, ready to be asked about any sets of sites.

    `rows` counts denoiser evaluations of one row, the unit of cost; answers are kept, so that asking twice costs
    once.
    """

    host: Host
    contrasts: Sequence[Contrast]
    levels: tuple[float, ...]
    rows: int = 0
    _calls: list[tuple[Any, ...]] = field(default_factory=list)
    _ends: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list)
    _known: dict[SiteSet, Shares] = field(default_factory=dict)

    @property
    def all_sites(self) -> SiteSet:
        """Every site of the host."""
        return frozenset(site.name for site in self.host.sites)

    def capture(self) -> None:
        """Runs each contrast's prompt once and keeps the calls at the noise levels; done on first need."""
        steps = self.host.defaults.num_inference_steps or 0
        for contrast in self.contrasts[len(self._calls) :]:
            calls = self.host.capture(contrast.prompt, seed=contrast.seed, at=self.levels)
            self.rows += 2 * steps
            ends = []
            for call in calls:
                stock, full = self._replay(call, [None, self._plan(contrast, self.all_sites)])
                ends.append((stock, full - stock))
            self._calls.append(calls)
            self._ends.append(ends)

    def ask(self, sets: Iterable[SiteSet]) -> list[Shares]:
        """The effect of swapping each set of sites, all sets as rows of one batch."""
        self.capture()
        wanted = list(sets)
        new = [s for s in dict.fromkeys(wanted) if s not in self._known]
        if new:
            along = torch.zeros(len(new), len(self.contrasts), len(self.levels), dtype=torch.float64)
            full = torch.zeros(len(self.contrasts), len(self.levels), dtype=torch.float64)
            for c, contrast in enumerate(self.contrasts):
                plans = [self._plan(contrast, s) for s in new]
                for b, (call, (stock, change)) in enumerate(zip(self._calls[c], self._ends[c], strict=True)):
                    moved = (self._replay(call, plans) - stock).double().flatten(1)
                    along[:, c, b] = moved @ change.double().flatten()
                    full[c, b] = change.double().square().sum()
            self._known.update({s: Shares(along[i], full) for i, s in enumerate(new)})
        return [self._known[s] for s in wanted]

    def _plan(self, contrast: Contrast, sites: SiteSet) -> Plan | None:
        if not sites:
            return None
        ordered = tuple(site.name for site in self.host.sites if site.name in sites)
        return Plan(Swap(contrast.donor, sites=ordered, pooled="keep", source=self.host.usual_source))

    def _replay(self, call: Any, plans: Sequence[Plan | None]) -> Tensor:
        self.rows += len(plans)
        return self.host.replay(call, plans)
