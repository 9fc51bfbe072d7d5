"""Prompt-to-Prompt: the peer that edits of generated pictures are measured against.

Our own small implementation of attention replacement (Hertz and others, arXiv 2208.01626, section 3), for comparison
only. Source and target prompt run in one batch from the same noise. In the first part of the steps the target's rows
attend as the source's do and read their own values. An attention map is a function of queries and keys alone, so the
target's rows are given the source's queries and keys, and nothing of attention has to be written anew. The published
local blend and the reweighting of words are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import nn

from steering import Host, NotSupported
from steering.attach import after, before
from steering.families.description import SiteRule
from steering.families.discovery import is_fused

__all__ = ["Pairs", "prompt_to_prompt"]

_SCORED = ("to_q", "to_k", "add_q_proj", "add_k_proj")  # the projections that an attention map is made of


@dataclass(frozen=True, slots=True)
class Pairs:
    """The pictures of the source prompts, and those of the target prompts with the source's attention."""

    sources: tuple[Image.Image, ...]
    targets: tuple[Image.Image, ...]


def prompt_to_prompt(
    host: Host,
    sources: Sequence[str],
    targets: Sequence[str],
    seeds: Sequence[int],
    *,
    tau: float = 0.8,
    own: float = 0.4,
    **pipeline_kwargs: Any,
) -> Pairs:
    """Each source prompt's picture, and it with the target prompt in its place; words stand at the same tokens in both,
    so a word must be replaced by one of as many tokens.

    Args:
        tau: share of the steps, the first ones, in which attention to text is the source's. On joint hosts attention to
            text and to the picture is one map, which is replaced whole.
        own: the same for the picture's attention to itself, where that is apart. Both are as in the authors' examples.

    Raises:
        ValueError: numbers of prompts or seeds that differ, or shares outside [0, 1].
        NotSupported: a host of several pipelines, one that is compiled, or one whose projections are fused.
    """
    if not len(sources) == len(targets) == len(seeds):
        raise ValueError(
            f"sources, targets and seeds must be equally many, got {len(sources)}, {len(targets)} and {len(seeds)}"
        )
    for name, share in (("tau", tau), ("own", own)):
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} must be a share of the steps, 0 to 1, got {share}")
    count = len(sources)
    with _attending(host, count, tau, own) as step:
        prompts, plans = [*sources, *targets], [None] * (2 * count)
        made = host.generate(prompts, plans=plans, seeds=[*seeds, *seeds], on_step=step, **pipeline_kwargs)
    return Pairs(tuple(made.images[:count]), tuple(made.images[count:]))


@contextmanager
def _attending(host: Host, count: int, tau: float, own: float) -> Iterator[Callable[[int, int], None]]:
    """What to call after each step. Inside, the last `count` of the prompts attend as the first `count` do."""
    if len(host.pipes) > 1 or host.prepared.keeps_hooks:
        raise NotSupported(f"host `{host.name}` must be one pipeline that is not compiled, for Prompt-to-Prompt")
    sites = {placed.module: placed.rule for placed in host.prepared.sites}
    others = [m for m in host.denoiser.modules() if m not in sites and hasattr(m, "to_q") and hasattr(m, "to_k")]
    if fused := [p.name for p in host.prepared.sites if is_fused(p.module)]:
        raise NotSupported(f"site `{fused[0]}` must have its projections apart, got fused ones")
    done = 0.0

    def rows(values: torch.Tensor) -> torch.Tensor:
        return _as_sources(values, count, uncond_first=host.family.guidance != "cond-first")

    def projected(share: float) -> Callable[..., torch.Tensor | None]:
        return lambda module, args, output: rows(output) if done < share else None

    def masked(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            mask = kwargs.get(name)
            return (args, kwargs | {name: rows(mask)}) if mask is not None and done < tau else None

        return hook

    def step(i: int, n: int) -> None:
        nonlocal done
        done = (i + 1) / n

    with ExitStack() as stack:
        for module, rule in sites.items():
            if isinstance(rule, SiteRule) and rule.mask is not None:
                stack.enter_context(before(module, masked(rule.mask.argument)))
        for share, modules in ((tau, [*sites]), (own, others)):
            for part in (getattr(m, name, None) for m in modules for name in _SCORED):
                if part is not None:
                    stack.enter_context(after(part, projected(share)))
        yield step


def _as_sources(rows: torch.Tensor, count: int, *, uncond_first: bool) -> torch.Tensor:
    """The rows of a call with those of the target prompts exchanged for the sources'; rows without the prompt stay.

    rows: [b, ...], where b is `2 count` without guidance and else `4 count`; sources stand before targets.
    """
    if rows.shape[0] not in (2 * count, 4 * count):
        raise ValueError(f"a call for {count} pairs must have {2 * count} or {4 * count} rows, got {rows.shape[0]}")
    first = rows.shape[0] - 2 * count if uncond_first else 0
    out = rows.clone()
    out[first + count : first + 2 * count] = rows[first : first + count]
    return out
