"""The result of `Host.generate`: the pictures, and for each a report of what was done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from steering.batch.row_program import COUNTED, AddedRows
from steering.editing.trajectory import Trajectory
from steering.families.discovery import Placed
from steering.plans import Plan, Swap
from steering.run.call import CallFacts
from steering.sentinel import Sentinel, SentinelReading
from steering.values import WHERES

__all__ = ["Edited", "Output", "PictureReport", "Shape", "reports", "with_readings"]

_CHANGES = [COUNTED.index(c) for c in ("swap", "pin", *WHERES)]  # values go with the keys of a swap
_EDITS = [COUNTED.index(c) for c in WHERES]


@dataclass(frozen=True, slots=True)
class Shape:
    """The execution shape of one picture: pictures are bit for bit the same within one shape (`docs/architecture.md`).

    `batch` pictures in the call, those of added rows included, of which this is `row`; `text_tokens` is the padded
    length; `kernels` is `eager` or `compiled`; `threads` is how many a CPU splits its sums among, None on other
    devices.
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
    """The record of what was done to one picture.

    `plan`: the plan's digest, or None. `fired`: for each site of the plan, and the global one where pooled text was
    swapped, the number of rows that were changed, summed over the denoiser's calls and over the places of edits (text,
    keys, values, ...). `dose`: for each site of an `Edit`, its projections' size, the mean over tokens, places and
    changed rows, which is what the edit found there and does not depend on its strength; `moved`: how far it moved the
    hidden states, `|y - x| / |x|`, the same mean: 0.1 is a tenth of their length. Both None without edits.
    `extra_rows`: pictures that were added to the batch for this one; one that several share counts for each.
    `sentinel`: by concept, what the call's sentinels read of this picture, as its plan drew it.
    """

    seed: int
    plan: str | None
    fired: Mapping[str, int]
    dose: Mapping[str, float] | None
    moved: Mapping[str, float] | None
    source: str | None
    shape: Shape
    extra_rows: int
    sentinel: Mapping[str, SentinelReading] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Output:
    """Pictures in the order of prompts, a prompt's `num_images_per_prompt` pictures side by side, and a report for
    each.

    `images` is what the pipeline gave: a list of PIL pictures, or an array or tensor as `output_type` says;
    `trajectories`: the way of each picture, of a call that was to write them down.
    """

    images: Any
    report: tuple[PictureReport, ...]
    trajectories: tuple[Trajectory, ...] = ()


@dataclass(frozen=True, slots=True)
class Edited:
    """An edited picture beside its source, at the source's size. `drawn`: what the model drew, before the parts outside
    the mask were made the source's again; `trajectory`: the source's."""

    image: Image.Image
    source: Image.Image
    drawn: Image.Image
    trajectory: Trajectory
    report: PictureReport


def reports(
    stages: Sequence[tuple[CallFacts, Sequence[Placed]]],
    plans: Sequence[Plan | None],
    seeds: Sequence[int],
    added: AddedRows,
    kernels: str,
) -> tuple[PictureReport, ...]:
    """A report for each picture; `plans` and `seeds` have one entry a picture. `stages`: facts and sites of each
    pipeline, in order; the shape is the first one's."""
    return tuple(_one(stages, plans[r], seeds[r], added, kernels, r) for r in range(len(plans)))


def with_readings(
    given: Sequence[PictureReport],
    read: np.ndarray,
    sentinels: Sequence[Sentinel],
    texts: Sequence[Mapping[str, float]],
) -> tuple[PictureReport, ...]:
    """The reports with what sentinels read. read: [pictures, sentinels] along the path; `texts`: each prompt's scores.

    Raises: NotFinite.
    """
    images = len(given) // len(texts)
    return tuple(
        replace(
            report,
            sentinel={
                s.concept: SentinelReading(texts[r // images][s.concept], s.path_score(float(read[r, k])))
                for k, s in enumerate(sentinels)
            },
        )
        for r, report in enumerate(given)
    )


def _one(
    stages: Sequence[tuple[CallFacts, Sequence[Placed]]],
    plan: Plan | None,
    seed: int,
    added: AddedRows,
    kernels: str,
    row: int,
) -> PictureReport:
    first = stages[0][0]
    threads = torch.get_num_threads() if first.device == "cpu" else None
    shape = Shape(first.pictures, row, first.text_tokens, first.dtype, first.device, kernels, threads)
    if plan is None:
        return PictureReport(seed, None, {}, None, None, None, shape, 0)
    edited = {name for act in plan.interventions if not isinstance(act, Swap) for name in act.sites}
    fired: dict[str, int] = {}
    dose: dict[str, float] = {}
    moved: dict[str, float] = {}
    pools = any(isinstance(act, Swap) and act.pooled != "keep" for act in plan.interventions)
    for facts, sites in stages:
        if facts.fired is None or facts.dose is None or facts.moved is None:
            continue
        for i, placed in enumerate(sites):
            name = placed.name
            if name in plan.sites or (pools and placed.site.kind == "global"):
                fired[name] = int(facts.fired[_CHANGES, i, row].sum())
            if name in edited:
                edits = int(facts.fired[_EDITS, i, row].sum())
                dose[name] = float(facts.dose[i, row]) / max(edits, 1)
                moved[name] = float(facts.moved[i, row]) / max(edits, 1)
    source = next((act.source for act in plan.interventions if isinstance(act, Swap)), None)
    return PictureReport(seed, plan.digest, fired, dose or None, moved or None, source, shape, added.rows_of(row))
