"""Owns the self-test: the laws that a host must keep on its own weights before anybody trusts an intervention.

It runs the real pipeline through the real engine, small and quick: two steps at a small size, two prompts, every site
once alone. So it also sees what the tables of families cannot: graphs traced too early, wrapped modules, a projection
that moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .families import Family
from .plans import Plan, Swap
from .sites import Site

__all__ = ["Check", "SelfTest", "run_self_test"]

_PROMPTS = ("red", "a green ring")  # short, and of different lengths
_CHUNK = 14  # sites in one call, beside three rows of control


class _Generates(Protocol):
    sites: tuple[Site, ...]

    def generate(
        self, prompts: Sequence[str], *, plans: Sequence[Plan | None], seeds: Sequence[int], **kwargs: Any
    ) -> Any: ...


@dataclass(frozen=True, slots=True)
class Check:
    """One law, tried on the host's weights."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The findings of a self-test; a host is trusted when `passed`."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True when every law held."""
        return all(c.passed for c in self.checks)

    def failures(self) -> str:
        """The laws that did not hold, in one line."""
        return "; ".join(f"{c.name}: {c.detail}" for c in self.checks if not c.passed)


def run_self_test(host: _Generates, family: Family, pipe: Any) -> SelfTest:
    """The findings for a host, from a few small calls of its pipeline. Never raises for a law that does not hold."""
    if getattr(pipe, family.encode.encoder, None) is None:
        return SelfTest(
            (Check("runs", False, f"the pipeline has no `{family.encode.encoder}`, so prompts cannot be tried"),)
        )
    checks: list[Check] = []
    try:
        for start in range(0, len(host.sites), _CHUNK):
            checks += _try(host, [s.name for s in host.sites[start : start + _CHUNK]], family, pipe)
    except Exception as error:  # whatever the pipeline raises, the finding is that it cannot be steered
        checks.append(Check("runs", False, f"{type(error).__name__}: {error}"))
    return SelfTest(tuple(checks))


def _try(host: _Generates, names: Sequence[str], family: Family, pipe: Any) -> list[Check]:
    """Rows: untouched, every site swapped, each site of `names` alone, and the donor's own picture."""
    own, donor = _PROMPTS
    everywhere = Plan(Swap(donor, sites=tuple(s.name for s in host.sites), pooled="donor"))
    alone = [Plan(Swap(donor, sites=(name,), pooled="keep")) for name in names]
    prompts = [own] * (2 + len(alone)) + [donor]
    stock = _latents(host, prompts, [None] * len(prompts), family, pipe)
    steered = _latents(host, prompts, [None, everywhere, *alone, None], family, pipe)

    apart = float((stock[0] - stock[-1]).abs().max())
    missed = float((steered[1] - stock[-1]).abs().max())
    share = 1e-3 if stock.dtype == torch.float32 else 5e-2
    dead = [n for n, row in zip(names, range(2, 2 + len(alone)), strict=True) if torch.equal(steered[row], stock[row])]
    same = torch.equal(steered[0], stock[0]) and torch.equal(steered[-1], stock[-1])
    return [
        Check("prompts differ", apart > 1e-4, f"two prompts give pictures {apart:.1e} apart"),
        Check(
            "neighbours untouched",
            same,
            "rows without a plan equal the stock pipeline's, bit for bit" if same else "they moved",
        ),
        Check(
            "all sites are the donor",
            missed <= share * apart,
            f"{missed:.1e} from the donor's picture, {apart:.1e} apart",
        ),
        Check(
            "every site is alive",
            not dead,
            f"no effect at {', '.join(dead)}" if dead else f"{len(names)} sites change the picture",
        ),
    ]


def _latents(
    host: _Generates, prompts: Sequence[str], plans: Sequence[Plan | None], family: Family, pipe: Any
) -> torch.Tensor:
    side = family.small_latent * int(getattr(pipe, "vae_scale_factor", 8))
    arguments = {
        "height": side,
        "width": side,
        "num_inference_steps": 2,
        "guidance_scale": 2.0,
        "output_type": "latent",
    }
    quiet = getattr(pipe, "_progress_bar_config", None)
    pipe.set_progress_bar_config(disable=True)
    try:
        out = host.generate(prompts, plans=plans, seeds=[0] * len(prompts), **arguments, **family.small_call)
    finally:
        pipe._progress_bar_config = quiet or {}
    return torch.as_tensor(out.images).detach().cpu()
