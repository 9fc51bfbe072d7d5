"""The screening: one score for each unit and noise level, by one of three methods, to propose which sets to measure.

Sites back each other up, so single effects are small and do not add up. Whatever the method, the choice is made on
joint effects (see `choose`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from localization.measure.questions import Bench

__all__ = ["METHODS", "Method", "Screen", "look_again", "screen", "screen_of"]

Method = Literal["gradient", "contribution", "patching"]
METHODS: tuple[Method, ...] = ("gradient", "contribution", "patching")
# where on the way from the own text to the donor's slopes are taken, with weights (Gauss and Legendre)
_NODES: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.5, 1.0),),
    2: ((0.21132, 0.5), (0.78868, 0.5)),
    3: ((0.1127, 0.27778), (0.5, 0.44444), (0.8873, 0.27778)),
    5: ((0.04691, 0.11846), (0.23077, 0.23931), (0.5, 0.28444), (0.76923, 0.23931), (0.95309, 0.11846)),
}


_LEAST = 0.25  # of the whole: slopes that add up to less have missed it


@dataclass(frozen=True, slots=True)
class Screen:
    """The scores of a method.

    `scores` [units, levels], shares of the whole that add up to about 1, unless it was missed; `total`: what they added
    up to before (for `gradient` 1 when the path was followed finely enough); `rows`: the cost; `upstream`: units of
    text alone, which come last in a ranking: what is swapped there reaches all others, lettering and subject alike.
    """

    method: Method
    scores: Tensor
    total: float
    rows: int
    upstream: frozenset[str] = frozenset()

    @property
    def missed(self) -> bool:
        """True for slopes that add up to nothing like the whole, so that their order says nothing.

        Other methods' scores need not add up: contributions have no unit, and sites that back each other up do little
        alone.
        """
        return self.method == "gradient" and self.total < _LEAST

    def ranked(self, units: tuple[str, ...]) -> tuple[str, ...]:
        """Units by score, the highest first, and after all others those upstream."""
        order = self.scores.sum(1).argsort(descending=True, stable=True).tolist()
        return tuple(sorted((units[i] for i in order), key=self.upstream.__contains__))

    def weakest(self, units: tuple[str, ...], count: int) -> tuple[str, ...]:
        """The `count` units of the lowest scores, of those that are not upstream."""
        return tuple(u for u in self.ranked(units) if u not in self.upstream)[-count:]

    def enough(self, target: float) -> int:
        """How many of the best units add up to `target`."""
        best = self.scores.sum(1).clamp(min=0).sort(descending=True).values
        sums = (best / best.sum().clamp(min=1e-12)).cumsum(0)
        return min(len(best), int((sums < target - 1e-9).sum()) + 1)


def screen(bench: Bench, method: Method, *, points: int = 1) -> Screen:
    """Scores of all units by a method.

    * `patching`: the exact effect of each unit alone.
    * `gradient`: slopes along the way from the own text to the donor's at all units together, at `points` places. One
      is attribution patching in the middle of the way, where most models change over from one text to the other; more
      are integrated gradients.
    * `contribution`: what the concept's tokens write at each site; where pooled text enters, and at sites of text
      alone, the exact effect.
    """
    before = bench.rows
    full = bench.full()
    if method == "patching":
        raw = torch.stack([s.along for s in bench.ask([frozenset({u}) for u in bench.units])])
        scores = raw.sum(1) / full.sum()
    elif method == "gradient":
        nodes = _NODES[points]
        slopes = bench.slopes([[at] * len(bench.units) for at, _ in nodes])
        weights = torch.tensor([w for _, w in nodes], dtype=torch.float64)
        scores = torch.einsum("p,pclu->ul", weights, slopes) / full.sum()
    else:
        scores = _written(bench, bench.writes())
    return screen_of(method, scores, bench.rows - before)


def look_again(bench: Bench, first: Screen, *, rows: int) -> Screen:
    """A second screening where slopes missed: the exact effects of each unit alone, on as many contrasts as `rows` row
    evaluations allow. The first one stays when they allow none, or when the effects add up to even less.

    Half-way between the two texts the model's output may be unlike either one; slopes there mean nothing.
    """
    count = min(len(bench.contrasts), rows // (len(bench.levels) * (len(bench.units) + bench.twins)))
    if not first.missed or count <= 0:
        return first
    before = bench.rows
    second = screen_of("patching", bench.alone(count), 0)
    best = second if second.total > first.total else first
    return replace(best, rows=first.rows + bench.rows - before)


def screen_of(method: Method, scores: Tensor, rows: int) -> Screen:
    """The screen of raw scores, whose order is never turned round: a sum that is nothing or less divides nothing."""
    total = float(scores.sum())
    whole = total if total > 1e-9 else float(scores.abs().sum()) or 1.0
    return Screen(method, scores / whole, total, rows)


def _written(bench: Bench, writes: Tensor) -> Tensor:
    """Scores [units, levels] from what is written [contrasts, levels, sites]. Units that write nothing into the picture
    themselves have their exact effect: those of pooled text, beside the sites, and those of text alone, through them.
    """
    mean = writes.mean(0).T / writes.shape[1]
    count = mean.shape[0]
    silent = [n for n in range(len(bench.units)) if n >= count or bool(mean[n].isnan().any())]
    if not silent:
        return mean
    asked = bench.ask([frozenset({bench.units[n]}) for n in silent])
    alone = torch.stack([s.along.sum(0) / bench.full().sum() for s in asked])
    beside = alone[[k for k, n in enumerate(silent) if n >= count]]
    scores = torch.cat([mean / mean.nansum() * (1 - float(beside.sum().clamp(0, 1))), beside])
    scores[silent] = alone
    return scores
