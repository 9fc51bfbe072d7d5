"""Draws stock pictures and takes down what sites wrote into them along the way: the samples that sentinels learn from.

Nothing is changed: the pipeline runs unmodified, watched as for a steered call, and to its end, because what the
picture shows is the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from steering.errors import BadPlan, NotFinite, NotFired, UnknownSite
from steering.measure.activations import listen
from steering.run.call import SessionExtras
from steering.run.checks import check_lengths, check_values
from steering.run.prepared import uncompiled
from steering.run.session import Session
from steering.sentinel import EncodedText

if TYPE_CHECKING:
    from steering.families.discovery import Placed
    from steering.host import Host

__all__ = ["Traces", "trace"]


@dataclass(frozen=True, slots=True)
class Traces:
    """What stock runs left: the pictures, each prompt's encoded text, and for each site the mean over the picture's
    tokens of what it wrote into the cond rows, float32 [prompts, steps, width]."""

    images: list[Any]
    texts: tuple[EncodedText, ...]
    means: dict[str, torch.Tensor]


def trace(
    host: Host,
    prompts: Sequence[str],
    *,
    sites: Sequence[str],
    seeds: Sequence[int],
    timeout: float | None = None,
    **pipeline_kwargs: Any,
) -> Traces:
    """The traces of one call of the first pipeline with all of `prompts`, under no plan.

    Raises: UnknownSite, BadPlan; NotFired, when a site was not called in each step; NotFinite.
    """
    check_lengths(prompts, seeds=seeds)
    check_values(prompts, seeds)
    prepared = host._prepared[0]
    placed = {p.name: p for p in prepared.sites}
    strange = [name for name in sites if name not in placed]
    if strange:
        raise UnknownSite(f"unknown site `{strange[0]}` for the first pipeline of host `{host.name}`")
    if not prompts:
        raise BadPlan("prompts must be at least one, got none")
    arguments = host._arguments(pipeline_kwargs)
    arguments |= {"prompt": list(prompts), "generator": [torch.Generator("cpu").manual_seed(s) for s in seeds]}
    texts: list[EncodedText] = []
    session = Session(prepared, [None] * len(prompts), None, SessionExtras(on_encoded=texts.extend), watch=True)
    held: dict[str, dict[int, torch.Tensor]] = {name: {} for name in sites}

    def keep(site: Placed, tokens: torch.Tensor, shown: torch.Tensor | None) -> None:
        layout, step = session.layout, session.clock.step
        if layout is None or step in held[site.name]:
            return
        rows = [row for picture in range(len(prompts)) for row in layout.rows(picture, "cond")]
        if rows:
            held[site.name][step] = tokens[rows].float().mean(1).cpu()

    with host._lock.held(timeout), uncompiled(prepared), torch.no_grad(), session.attached(), ExitStack() as stack:
        for name in sites:
            stack.callback(listen(prepared, placed[name], "output", session, keep).remove)
        images = prepared.pipe(**arguments).images
        steps = session.clock.steps
    missing = [name for name, taken in held.items() if set(taken) != set(range(steps))]
    if missing:
        raise NotFired(f"site `{missing[0]}` was not called in each of {steps} steps")
    means = {name: torch.stack([taken[s] for s in range(steps)], 1) for name, taken in held.items()}
    broken = [name for name, rows in means.items() if not bool(torch.isfinite(rows).all())]
    if broken:
        raise NotFinite(f"site `{broken[0]}` wrote values that are not finite into a picture without a plan")
    return Traces(list(images), tuple(texts), means)
