"""Asks what sets of units do: makes cells of the questions, shares of the answers, and counts the cost.

Units are a host's sites and, where pooled text enters, that place: swapping all units is the whole other prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from localization.contrasts import Contrast, Shares, SiteSet
from localization.errors import NotDrawn
from localization.measure.cells import Cell, CellAnswer
from localization.measure.executors import Executor

__all__ = ["Bench", "Tick"]

Tick = Callable[[int, int], None]  # cells done, of how many
_ALIKE = 1e-9  # of the prediction's own square: less is no answer to another prompt


@dataclass(slots=True)
class Bench:
    """Measures any sets of units on some contrasts.

    `rows` counts denoiser evaluations of one row, the unit of cost, of every cell once; answers are kept, so that
    asking twice costs once. `steps` of the runs in which calls are captured; None: the model's own.
    """

    executor: Executor
    units: tuple[str, ...]
    contrasts: Sequence[Contrast]
    levels: tuple[float, ...]
    steps: int | None = None
    twins: int = 0  # rows that a joint host adds to an evaluation
    tick: Tick = lambda done, total: None
    rows: int = 0
    _full: Tensor | None = None
    _known: dict[SiteSet, Shares] = field(default_factory=dict)

    @property
    def everything(self) -> SiteSet:
        """All units: the full swap."""
        return frozenset(self.units)

    def full(self) -> Tensor:
        """The squares of the full swap's changes, [contrasts, levels]. Raises: NotDrawn, when there are none."""
        if self._full is None:
            answers = self._asked([self._cell("ends", c) for c in self.contrasts])
            full = torch.tensor([a["full"] for a in answers], dtype=torch.float64)
            own = torch.tensor([a["own"] for a in answers], dtype=torch.float64)
            alike = (full.sum(1) <= _ALIKE * own.sum(1)).nonzero().flatten().tolist()
            if alike:
                c = self.contrasts[alike[0]]
                raise NotDrawn(
                    f"the model answers prompt and donor alike ({len(alike)} of {len(self.contrasts)} pairs), so there"
                    f" is nothing to locate: `{c.prompt}` and `{c.donor}`."
                    " Its tokenizer may have cut both before they differ"
                )
            self._full = full
        return self._full

    def ask(self, sets: Iterable[SiteSet]) -> list[Shares]:
        """The effect of swapping each set of units, all sets as rows of one batch."""
        full, wanted = self.full(), list(sets)
        self._known.setdefault(frozenset(), Shares(torch.zeros_like(full), full))
        self._known.setdefault(self.everything, Shares(full, full))
        new = [s for s in dict.fromkeys(wanted) if s not in self._known]
        if new:
            points = tuple(tuple(float(u in s) for u in self.units) for s in new)
            answers = self._asked([self._cell("effects", c, points) for c in self.contrasts])
            along = torch.tensor([a["along"] for a in answers], dtype=torch.float64)  # contrasts, sets, levels
            self._known.update({s: Shares(along[:, i], full) for i, s in enumerate(new)})
        return [self._known[s] for s in wanted]

    def alone(self, count: int) -> Tensor:
        """The exact effect of each unit alone, as a share of the full swap's, on the first `count` contrasts only,
        [units, levels]."""
        full = self.full()[:count]
        each = tuple(tuple(float(u == v) for v in self.units) for u in self.units)
        answers = self._asked([self._cell("effects", c, each) for c in self.contrasts[:count]])
        return torch.tensor([a["along"] for a in answers], dtype=torch.float64).sum(0) / full.sum()

    def cost_of(self, sets: int) -> int:
        """The cost of measuring so many new sets."""
        return len(self.contrasts) * len(self.levels) * (sets + self.twins) if sets else 0

    def slopes(self, points: Sequence[Sequence[float]]) -> Tensor:
        """How fast the product with the full change grows with each share, [points, contrasts, levels, units]."""
        self.full()
        fixed = tuple(tuple(map(float, p)) for p in points)
        answers = self._asked([self._cell("slopes", c, fixed) for c in self.contrasts])
        return torch.tensor([a["slopes"] for a in answers], dtype=torch.float64).transpose(0, 1)

    def writes(self, *, published: bool = False) -> Tensor:
        """The contributions of the concept's tokens at each site, [contrasts, levels, sites]."""
        self.full()
        answers = self._asked([self._cell("writes", c, published=published) for c in self.contrasts])
        return torch.tensor([a["writes"] for a in answers], dtype=torch.float64)

    def _cell(
        self, kind: str, contrast: Contrast, points: tuple[tuple[float, ...], ...] = (), *, published: bool = False
    ) -> Cell:
        return Cell(kind, (contrast,), self.levels, self.steps, points, published)  # type: ignore[arg-type]

    def _asked(self, cells: Sequence[Cell]) -> list[CellAnswer]:
        answers: list[CellAnswer | None] = [None] * len(cells)
        self.tick(0, len(cells))
        for done, (n, answer) in enumerate(self.executor.answers(cells), 1):
            answers[n] = answer
            self.rows += int(answer["rows"])
            self.tick(done, len(cells))
        got = [a for a in answers if a is not None]
        assert len(got) == len(cells)
        return got
