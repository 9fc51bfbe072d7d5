"""Owns what each row of a batch is shown at each step: plans of requests, laid out as tables of indices. Host side,
numpy, no model.

`L` sites, `R` pictures, `B` rows of the denoiser's batch (`R`, or `2R` under classifier-free guidance).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from .errors import BadPlan
from .plans import Donor, Edit, Intervention, Operator, Plan, Rows, Swap

__all__ = ["COUNTED", "Layout", "Program", "Setting"]

COUNTED = ("swap", "text", "output")  # what is counted at a site: swaps, edits of the text, edits of the output

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Layout:
    """Which rows of the batch belong to which picture."""

    pictures: int
    order: Literal["uncond-first", "cond-first", "cond-only"]

    @property
    def batch(self) -> int:
        """Rows in one call of the denoiser."""
        return self.pictures * (1 if self.order == "cond-only" else 2)

    def rows(self, picture: int, rows: Rows) -> list[int]:
        """The batch rows of a picture under a role; none for uncond rows in a call that has none."""
        cond = picture + (self.pictures if self.order == "uncond-first" else 0)
        uncond = picture + (self.pictures if self.order == "cond-first" else 0)
        has_uncond = self.order != "cond-only"
        return [cond] * (rows != "uncond") + [uncond] * (rows != "cond" and has_uncond)


@dataclass(frozen=True, slots=True)
class Setting:
    """The tables of one step. A row that nothing touches has its own index, alpha 1, slot 0."""

    src: Ints  # [L, B] into concat(batch rows, bank)
    alpha: Floats  # [L, B]
    slot: Mapping[str, Ints]  # "text" and "output" -> [L, B] into the operators' tables
    scale: Mapping[str, Floats]
    hits: Bools  # [3, L, B] in the order of COUNTED
    blends: bool  # some alpha is not 1


class Program:
    """The settings of one call, from the plans of its pictures. `donors` and `operators` are in the order of bank and
    tables."""

    def __init__(self, names: Sequence[str], layout: Layout, plans: Sequence[Plan | None]) -> None:
        self.layout = layout
        self._index = {name: i for i, name in enumerate(names)}
        self._acts = [(r, i) for r, plan in enumerate(plans) if plan for i in plan.interventions if i.strength > 0.0]
        self._refuse_missing_rows()
        self.donors: tuple[str | Donor, ...] = _different(i.donor for _, i in self._acts if isinstance(i, Swap))
        self.operators: tuple[Operator, ...] = _different(i.operator for _, i in self._acts if isinstance(i, Edit))
        self.touched = {self._index[name] for _, i in self._acts for name in i.sites}
        self._settings: dict[tuple[bool, ...], Setting] = {}

    def at(self, step: int, steps: int) -> Setting:
        """The setting of a step; the same object as long as the same windows are open."""
        active = tuple(i.window.covers(step, steps) for _, i in self._acts)
        if active not in self._settings:
            self._settings[active] = self._lay_out([act for act, on in zip(self._acts, active, strict=True) if on])
        return self._settings[active]

    def _lay_out(self, acts: Sequence[tuple[int, Intervention]]) -> Setting:
        shape = (len(self._index), self.layout.batch)
        src = np.broadcast_to(np.arange(shape[1], dtype=np.int64), shape).copy()
        alpha = np.ones(shape, np.float32)
        slot = {where: np.zeros(shape, np.int64) for where in ("text", "output")}
        scale = {where: np.zeros(shape, np.float32) for where in ("text", "output")}
        hits = np.zeros((len(COUNTED), *shape), np.bool_)
        for picture, act in acts:
            at = np.ix_([self._index[name] for name in act.sites], self.layout.rows(picture, act.rows))
            if isinstance(act, Swap):
                src[at] = shape[1] + self.donors.index(act.donor)
                alpha[at] = act.strength
                hits[0][at] = True
            else:
                where = act.operator.where
                slot[where][at] = 1 + self.operators.index(act.operator)
                scale[where][at] = act.strength
                hits[COUNTED.index(where)][at] = True
        return Setting(src, alpha, slot, scale, hits, bool((alpha != 1).any()))

    def _refuse_missing_rows(self) -> None:
        if self.layout.order == "cond-only" and any(i.rows == "uncond" for _, i in self._acts):
            raise BadPlan(
                "a plan steers the uncond rows, and this call has none: guidance_scale must be above 1, or rows `cond`"
            )


def _different(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))
