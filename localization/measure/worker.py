"""A worker answers cells on one host: it measures effects, and chooses nothing. Equal cells get equal answers.

The model's own output is measured first. A contrast's prompt is run once, quickly, until the last noise level that is
needed; each captured call is then repeated under mixtures of its text and the donor's. With `v_0` the own prediction
and `v_all` that of the full swap, the effect of a mixture is its share of the full swap's change, along it:

    effect(S) = <v_S - v_0, v_all - v_0> / ||v_all - v_0||^2.
"""

from __future__ import annotations

import base64
import io
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from localization.contrasts import Contrast
from localization.measure.cells import Cell, CellAnswer, Treatment
from steering import Call, Host, Plan, Swap, Window

__all__ = ["Witness", "Worker", "change_of", "plan_for"]

# what is still seen of the prompt's own concept, and of the donor's if that is looked for, picture by picture
Witness = Callable[[Sequence[Image.Image], Sequence[Contrast]], tuple[list[bool], list[bool] | None]]
_KEPT = 64  # captured contrasts, and batches of pictures, that stay in memory
_ROWS = 32  # of one evaluation
_SMALL = 96  # pixels of a picture in a report


@dataclass(frozen=True, slots=True)
class _Ends:
    """One captured call, its change under the full swap, and the rows that this cost."""

    call: Call
    change: Tensor
    rows: int


class Worker:
    """Answers cells on a host; `witness` judges pictures."""

    def __init__(self, host: Host, witness: Witness | None = None) -> None:
        self.host, self.witness = host, witness
        self._ends: OrderedDict[tuple[Any, ...], list[_Ends]] = OrderedDict()
        self._pictures: OrderedDict[tuple[Any, ...], list[Image.Image]] = OrderedDict()
        self._per_run: int | None = None

    @property
    def digest(self) -> str:
        """Names the host and the arguments of its calls."""
        own = sorted((k, repr(v)) for k, v in self.host.defaults.arguments().items())
        return f"{self.host.fingerprint.digest}/{own}"

    def answer(self, cell: Cell) -> CellAnswer:
        """The answer to a cell, with its cost in row evaluations as if nothing had been asked before."""
        answers: dict[str, Callable[[Cell], CellAnswer]] = {
            "ends": self._answer_ends,
            "effects": self._answer_effects,
            "slopes": self._answer_slopes,
            "writes": self._answer_writes,
            "pictures": self._answer_pictures,
        }
        return answers[cell.kind](cell)

    # in the model's own output

    def _captured(self, cell: Cell) -> list[_Ends]:
        (contrast,) = cell.contrasts
        return _kept(self._ends, (contrast, cell.levels, cell.steps), lambda: self._capture(contrast, cell))

    def _capture(self, contrast: Contrast, cell: Cell) -> list[_Ends]:
        steps: Any = {} if cell.steps is None else {"num_inference_steps": cell.steps}
        calls = self.host.capture(contrast.prompt, seed=contrast.seed, at=cell.levels, **steps)
        found = []
        for n, call in enumerate(calls):
            full = self.host.blend(call, contrast.donor, torch.ones(1, len(self.host.units)))
            run = max(c.spent for c in calls) if n == 0 else 0
            found.append(_Ends(call, full.predictions[0] - call.prediction, full.rows + run))
        return found

    def _answer_ends(self, cell: Cell) -> CellAnswer:
        ends = self._captured(cell)
        return {
            "rows": sum(e.rows for e in ends),
            "full": [float(e.change.double().square().sum()) for e in ends],
            "own": [float(e.call.prediction.double().square().sum()) for e in ends],
        }

    def _answer_effects(self, cell: Cell) -> CellAnswer:
        """along [points][levels]."""
        rows, columns = 0, []
        for end in self._captured(cell):
            along: list[float] = []
            for first in range(0, len(cell.points), _ROWS):
                shares = torch.tensor(cell.points[first : first + _ROWS])
                blend = self.host.blend(end.call, cell.contrasts[0].donor, shares)
                moved = (blend.predictions - end.call.prediction).double().flatten(1)
                along += (moved @ end.change.double().flatten()).tolist()
                rows += blend.rows
            columns.append(along)
        return {"rows": rows, "along": [list(point) for point in zip(*columns, strict=True)]}

    def _answer_slopes(self, cell: Cell) -> CellAnswer:
        """slopes [points][levels][units], of the product with the full change."""
        rows, columns = 0, []
        for end in self._captured(cell):
            shares = torch.tensor(cell.points)
            blend = self.host.blend(end.call, cell.contrasts[0].donor, shares, direction=end.change)
            assert blend.slopes is not None
            columns.append(blend.slopes.tolist())
            rows += blend.rows
        return {"rows": rows, "slopes": [list(point) for point in zip(*columns, strict=True)]}

    def _answer_writes(self, cell: Cell) -> CellAnswer:
        """writes [levels][sites]."""
        donor = cell.contrasts[0].donor
        found = [
            self.host.contributions(e.call, donor, published=cell.published).tolist() for e in self._captured(cell)
        ]
        return {"rows": len(found), "writes": found}

    # on pictures

    def _answer_pictures(self, cell: Cell) -> CellAnswer:
        """own, donor seen (None without a witness), drift: the mean absolute change, in [0, 1]; all by picture."""
        plain, _ = self._drawn(cell.contrasts, Treatment())
        images, rows = self._drawn(cell.contrasts, cell.treatment)
        seen = self.witness(images, list(cell.contrasts)) if self.witness is not None else (None, None)
        own, donor = (None if s is None else [bool(v) for v in s] for s in seen)
        return {
            "rows": rows,
            "own": own,
            "donor": donor,
            "drift": [change_of(a, b) for a, b in zip(plain, images, strict=True)],
            "small": [_small(image) for image in images[: cell.keep]],
        }

    def _drawn(self, contrasts: tuple[Contrast, ...], treatment: Treatment) -> tuple[list[Image.Image], int]:
        made = _kept(self._pictures, (contrasts, treatment), lambda: self._draw(contrasts, treatment))
        return made, self._run_rows(contrasts, treatment)

    def _draw(self, contrasts: Sequence[Contrast], treatment: Treatment) -> list[Image.Image]:
        plans = [plan_for(self.host, c.donor, treatment) for c in contrasts]
        prompts, seeds = [c.prompt for c in contrasts], [c.seed for c in contrasts]
        return list(self.host.generate(prompts, plans=plans, seeds=seeds).images)

    def _run_rows(self, contrasts: Sequence[Contrast], treatment: Treatment) -> int:
        """Denoiser evaluations of one row in a whole run: both halves under guidance, every step, twins as well."""
        if self._per_run is None:
            (first,) = self.host.capture(contrasts[0].prompt, seed=contrasts[0].seed, at=(0.0,))
            self._per_run = first.steps * first.spent
        return len(contrasts) * self._per_run * (2 if self.host.joint and treatment.sites else 1)


def plan_for(host: Host, donor: str, treatment: Treatment) -> Plan | None:
    """The plan of a treatment with a donor; None without sites."""
    if not treatment.sites:
        return None
    swap = Swap(
        donor,
        sites=treatment.sites,
        pooled=treatment.pooled,
        source=host.usual_source,
        window=Window(*treatment.window),
        strength=treatment.strength,
    )
    return Plan(swap)


def _kept(known: OrderedDict[tuple[Any, ...], Any], key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    if key not in known:
        known[key] = make()
    known.move_to_end(key)
    while len(known) > _KEPT:
        known.popitem(last=False)
    return known[key]


def change_of(a: Image.Image, b: Image.Image) -> float:
    """The mean absolute difference of two pictures, in [0, 1]."""
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() / 255)


def _small(image: Image.Image) -> str:
    """A PNG of at most `_SMALL` pixels a side, base64."""
    copy = image.convert("RGB")
    copy.thumbnail((_SMALL, _SMALL))
    data = io.BytesIO()
    copy.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()
