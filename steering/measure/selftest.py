"""The self-test: laws that a host must keep on its own weights before an intervention is trusted.

It runs the real pipeline with the real hooks, small and quick: two steps at a small size, two prompts, every site
alone once, and one picture decoded. So it also finds what the tables of families cannot show: graphs traced too early,
wrapped modules, a projection that moved, a decoder that overflows.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from steering.errors import BrokenPicture
from steering.families.description import SiteRule
from steering.families.discovery import is_fused
from steering.plans import Plan, Swap
from steering.run.prepared import PreparedPipeline
from steering.sites import Site

__all__ = ["Check", "SelfTest", "run_self_test"]

_PROMPTS = ("red", 'a "green" ring')  # short, of different lengths, one with a word for an encoder of glyphs
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


def run_self_test(host: _Generates, pipelines: Sequence[PreparedPipeline]) -> SelfTest:
    """The findings for a host, from a few small calls of its pipelines. Never raises for a law that does not hold."""
    for prepared in pipelines:
        encoder = prepared.family.encode.encoders[0]
        if getattr(prepared.encoder, encoder, None) is None:
            missing = f"the pipeline has no `{encoder}`, so prompts cannot be tried"
            return SelfTest((Check("runs", False, missing),))
    checks: list[Check] = []
    try:
        for start in range(0, len(host.sites), _CHUNK):
            checks += _try(host, [s.name for s in host.sites[start : start + _CHUNK]], pipelines)
        checks += _decoded(host, pipelines)
    except Exception as error:  # whatever the pipeline raises, the finding is that it cannot be steered
        checks.append(Check("runs", False, f"{type(error).__name__}: {error}"))
    return SelfTest(tuple(checks))


def _try(host: _Generates, names: Sequence[str], pipelines: Sequence[PreparedPipeline]) -> list[Check]:
    """Rows: untouched, every site swapped, each site of `names` alone, and the donor's own picture."""
    own, donor = _PROMPTS
    how = _how(pipelines[0])
    everywhere = Plan(Swap(donor, sites=tuple(s.name for s in host.sites), pooled="donor", **how))
    alone = [Plan(Swap(donor, sites=(name,), pooled="keep", **how)) for name in names]
    prompts = [own] * (2 + len(alone)) + [donor]
    # on joint hosts plans add a twin of the donor; the stock call has the same row, so that shapes are equal
    stock = _latents(host, prompts + [donor] * pipelines[0].family.needs_twin, None, pipelines)[: len(prompts)]
    steered = _latents(host, prompts, [None, everywhere, *alone, None], pipelines)

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


def _how(prepared: PreparedPipeline) -> dict[str, Any]:
    """The way of swapping that the host has: on joint hosts keys and values, or streams where those are fused."""
    if not prepared.family.needs_twin:
        return {}
    fused = any(is_fused(p.module) for p in prepared.sites)
    streams = fused or not all(
        hasattr(p.module, p.rule.keys[0]) for p in prepared.sites if isinstance(p.rule, SiteRule)
    )
    return {"source": "twin", "mode": "pinned" if streams else "kv"}


def _decoded(host: _Generates, pipelines: Sequence[PreparedPipeline]) -> list[Check]:
    """Whether a picture can be decoded; nothing for a pipeline without a decoder, which gives latents only."""
    if getattr(pipelines[-1].pipe, "vae", pipelines) is None:
        return []
    try:
        _small_call(host, _PROMPTS[:1], [None], pipelines, output_type="pil")
    except BrokenPicture as error:
        return [Check("a picture can be decoded", False, str(error))]
    return [Check("a picture can be decoded", True, "its values are finite")]


def _latents(
    host: _Generates, prompts: Sequence[str], plans: Sequence[Plan | None] | None, pipelines: Sequence[PreparedPipeline]
) -> torch.Tensor:
    """What the last pipeline gives for `prompts` with one seed; without plans, the stock pipelines' pictures."""
    images = _small_call(host, prompts, plans or [None] * len(prompts), pipelines, output_type="latent")
    return torch.as_tensor(images).detach().cpu()


def _small_call(
    host: _Generates,
    prompts: Sequence[str],
    plans: Sequence[Plan | None],
    pipelines: Sequence[PreparedPipeline],
    *,
    output_type: str,
) -> Any:
    first = pipelines[0]
    side = first.family.small_latent * int(getattr(first.pipe, "vae_scale_factor", 8))
    common = {"num_inference_steps": 2, "guidance_scale": 2.0, "output_type": output_type}
    own = [dict(prepared.family.small_call) for prepared in pipelines]
    taken = inspect.signature(first.pipe.__call__).parameters
    common = {k: v for k, v in common.items() if k in taken}
    own[0] |= {k: side for k in ("height", "width") if k in taken}
    own[0] |= _starting_picture(first, len(prompts), side)
    with ExitStack() as stack:
        for prepared in pipelines:
            stack.enter_context(_quiet(prepared.pipe))
        return host.generate(prompts, plans=plans, seeds=[0] * len(prompts), stages=own, **common).images


def _starting_picture(prepared: PreparedPipeline, rows: int, side: int) -> dict[str, torch.Tensor]:
    """What a pipeline that does not start from noise alone is given: the same soft picture for every row."""
    if prepared.family.image == "none":
        return {}
    channels, size = 3, side
    if prepared.family.image == "latents":
        channels, size = int(prepared.pipe.vae.config.latent_channels), prepared.family.small_latent
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, channels, size, size, generator=generator).repeat(rows, 1, 1, 1)
    return {"image": picture.to(next(prepared.denoiser.parameters()).dtype)}


@contextmanager
def _quiet(pipe: Any) -> Iterator[None]:
    quiet = getattr(pipe, "_progress_bar_config", None)
    pipe.set_progress_bar_config(disable=True)
    try:
        yield
    finally:
        pipe._progress_bar_config = quiet or {}
