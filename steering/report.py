"""Owns what `Host.generate` gives back: the pictures, and for each the account of what was done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .plans import Plan, Swap
from .session import Facts

__all__ = ["Output", "PictureReport", "Shape", "reports"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The execution shape of one picture: identity is promised within one shape (DESIGN 4, untouched).

    `batch` pictures in the call, of which this is `row`; `text_tokens` is the padded length; `kernels` is `eager` or
    `compiled`; `threads` is how many a CPU splits its sums among, None on other devices.
    """

    batch: int
    row: int
    text_tokens: int
    dtype: str
    device: str
    kernels: str
    threads: int | None


@dataclass(frozen=True, slots=True)
class PictureReport:
    """What was done to one picture.

    `plan`: the plan's digest, or None. `fired`: for each site of the plan, rows that were really changed, summed over
    the steps. `dose`: for each site of an `Edit`, its projections' size, the mean over tokens and changed rows; None
    without edits.
    """

    seed: int
    plan: str | None
    fired: Mapping[str, int]
    dose: Mapping[str, float] | None
    source: str | None
    shape: Shape
    extra_rows: int


@dataclass(frozen=True, slots=True)
class Output:
    """Pictures in the order of prompts, a prompt's `num_images_per_prompt` pictures side by side, and a report for
    each.

    `images` is what the pipeline gave: a list of PIL pictures, or an array or tensor as `output_type` says.
    """

    images: Any
    report: tuple[PictureReport, ...]


def reports(
    facts: Facts, plans: Sequence[Plan | None], seeds: Sequence[int], sites: Sequence[str], kernels: str
) -> tuple[PictureReport, ...]:
    """A report for each picture of a call; `seeds` has one entry a picture."""
    return tuple(
        _one(facts, plans[r // facts.images], seeds[r], sites, kernels, r) for r in range(facts.layout.pictures)
    )


def _one(facts: Facts, plan: Plan | None, seed: int, sites: Sequence[str], kernels: str, row: int) -> PictureReport:
    threads = torch.get_num_threads() if facts.device == "cpu" else None
    shape = Shape(facts.layout.pictures, row, facts.text_tokens, facts.dtype, facts.device, kernels, threads)
    if plan is None or facts.fired is None or facts.dose is None:
        return PictureReport(seed, None, {}, None, None, shape, 0)
    rows = facts.layout.rows(row, "both")
    at = {name: sites.index(name) for name in plan.sites}
    fired = {name: int(facts.fired[:, i, rows].sum()) for name, i in at.items()}
    edited = {name for act in plan.interventions if not isinstance(act, Swap) for name in act.sites}
    edits = {name: int(facts.fired[1:, i, rows].sum()) for name, i in at.items()}
    dose = {name: float(facts.dose[i, rows].sum()) / max(edits[name], 1) for name, i in at.items() if name in edited}
    source = next((act.source for act in plan.interventions if isinstance(act, Swap)), None)
    return PictureReport(seed, plan.digest, fired, dose or None, source, shape, 0)
