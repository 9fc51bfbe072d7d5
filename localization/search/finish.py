"""Checks the finalists on pictures: which members are needless, and whether each one is enough alone.

The model's own output counts every change of the picture, also changes that are not the concept: a word may change a
shadow at three sites and draw its subject at one. And a site that carries three fifths of what its twin and it do
together may draw the whole subject alone. So a witness, where there is one, decides. The model's output proposes: what
each member *carries*, with the donor's text everywhere else, costs a few evaluations and puts the members in order.
Then pictures are drawn, of the prompts that were searched with and never of those that the answer is checked on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from localization.contrasts import Contrast, SiteSet
from localization.measure.gallery import Gallery, SeenPictures, treatment_of
from localization.measure.questions import Bench
from localization.search.answers import AnswerKind
from localization.search.smallest_set import Found

__all__ = ["Finish", "finish", "finish_contrasts"]

_PICTURES = 8  # at least; contrasts are drawn again with other noise until there are so many
_SHOWN = 4  # pictures that must show the concept plainly: of fewer nothing is concluded
_CARRIES = 0.9  # of what all members carry: fewer members that carry so much are shown in pictures
_FLOOR = 0.7  # of the full swap's effect: a set that takes less away is not drawn, whatever its pictures would show
_LIKELY = 0.4  # of what all members carry: where each carries so much alone, pictures tell whether each is enough
_KEPT = 0.85  # of the pictures that show it plainly: 7 of 8, which nine in ten reach four times in five


@dataclass(frozen=True, slots=True)
class Finish:
    """What was found after the finalists were checked on pictures, and the answer to each question.

    The cost in row evaluations: `measured` of the model's own output, `drawn` of pictures.
    """

    found: Found
    asked: tuple[Mapping[str, Any], ...] = ()
    measured: int = 0
    drawn: int = 0

    @property
    def rows(self) -> int:
        """The whole cost."""
        return self.measured + self.drawn


@dataclass(slots=True)
class _Pictures:
    """What is left of the own concept in pictures that show it plainly."""

    gallery: Gallery
    sites: Sequence[str]
    units: Sequence[str]
    shown: Sequence[int]

    def taken(self, units: SiteSet | Sequence[str]) -> SeenPictures:
        """What is seen with the donor's text at these units."""
        return self.gallery.look(treatment_of(units, sites=self.sites, units=self.units))

    def left(self, units: SiteSet | Sequence[str]) -> frozenset[int]:
        """The pictures that still show it with the donor's text at these units."""
        own = self.taken(units).own or ()
        return frozenset(i for i in self.shown if own[i])

    def carried(self, units: SiteSet | Sequence[str]) -> frozenset[int]:
        """The pictures that still show it with the donor's text everywhere else."""
        return self.left(frozenset(self.units) - set(units))

    def whole(self, units: Sequence[str]) -> dict[str, Any]:
        """What all members do, as a row of the evidence."""
        return self._row(units, len(self.left(units)), len(self.carried(units)), True)

    def compare(self, fewer: Sequence[str], units: Sequence[str]) -> dict[str, Any]:
        """Whether fewer units are enough: they remove the concept from every picture from which all remove it, show the
        donor's as often, and it is seen as often when they alone keep the own text."""
        left = self.left(fewer)
        donors, wanted = (sum(self.taken(s).donor or ()) for s in (fewer, units))
        if not left <= self.left(units) or donors < wanted:
            return self._row(fewer, len(left), None, False)  # no need to draw the other half
        carried = len(self.carried(fewer))
        return self._row(fewer, len(left), carried, carried >= len(self.carried(units)))

    def alone(self, unit: str) -> dict[str, Any]:
        """Whether a unit is enough to draw the concept, whatever all others are shown."""
        carried = len(self.carried([unit]))
        return self._row([unit], None, carried, carried >= _KEPT * len(self.shown))

    def _row(self, units: Sequence[str], left: int | None, carried: int | None, enough: bool) -> dict[str, Any]:
        return {
            "sites": list(units),
            "shown plainly": len(self.shown),
            "left when these are swapped": left,
            "left when all others are swapped": carried,
            "enough": enough,
        }


def finish_contrasts(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """The contrasts of a search, again and again with other noise until there are enough for pictures."""
    more = -(-_PICTURES // len(contrasts))
    return [replace(c, seed=c.seed + 7919 * n) for n in range(more) for c in contrasts]


def finish(found: Found, bench: Bench, gallery: Gallery, *, sites: Sequence[str]) -> Finish:
    """The finding, without members that pictures show to be needless, and with the kind of answer that they show.

    Args:
        bench: the one that was searched on.
        gallery: of `finish_contrasts` of its contrasts; without a witness nothing changes.
    """
    if not found.grown.compact or len(found.chosen) < 2:
        return Finish(found)
    before = bench.rows
    carried = _carried(found, bench)
    order = sorted(found.chosen, key=lambda u: -carried[frozenset({u})])
    together = carried[frozenset(found.chosen)]
    fewer = _promising(order, together, bench)
    likely = min(carried[frozenset({u})] for u in order) >= _LIKELY * together > 0
    pictures = _look(found, gallery, bench, sites) if fewer or likely else None
    if pictures is None:
        return Finish(found, measured=bench.rows - before, drawn=gallery.rows)
    asked = [pictures.whole(found.chosen)]
    chosen = found.chosen
    for members in fewer:
        asked.append(pictures.compare(members, found.chosen))
        if asked[-1]["enough"]:
            chosen = tuple(u for u in bench.units if u in members)
            break
    each = len(chosen) > 1 and likely
    for unit in chosen if each else ():
        asked.append(pictures.alone(unit))
        each = asked[-1]["enough"]
        if not each:
            break
    answer: AnswerKind = "pooled" if not set(chosen) & set(sites) else "alternatives" if each else "set"
    alternatives = tuple((u,) for u in chosen) if each else (chosen,)
    (all_,) = _carry([frozenset(chosen)], bench).values()  # known already
    alone = {"together": all_} | {u: carried[frozenset({u})] for u in chosen}
    better = replace(found, chosen=chosen, answer=answer, alternatives=alternatives, carried=alone)
    return Finish(better, tuple(asked), bench.rows - before, gallery.rows)


def _carried(found: Found, bench: Bench) -> dict[SiteSet, float]:
    """What the chosen carry together, and each alone."""
    sets = [frozenset(found.chosen), *(frozenset({u}) for u in found.chosen)]
    return _carry(sets, bench)


def _carry(sets: Sequence[SiteSet], bench: Bench) -> dict[SiteSet, float]:
    others = bench.ask([bench.everything - s for s in sets])
    return {s: 1 - o.share() for s, o in zip(sets, others, strict=True)}


def _promising(order: Sequence[str], together: float, bench: Bench) -> list[tuple[str, ...]]:
    """Beginnings of the order, the shortest first, that carry nearly all and take nearly as much away."""
    beginnings = [tuple(order[:k]) for k in range(1, len(order))]
    carried = _carry([frozenset(b) for b in beginnings], bench)
    able = [b for b in beginnings if carried[frozenset(b)] >= _CARRIES * together > 0]
    taken = bench.ask([frozenset(b) for b in able]) if able else []
    return [b for b, t in zip(able, taken, strict=True) if t.share() >= _FLOOR]


def _look(found: Found, gallery: Gallery, bench: Bench, sites: Sequence[str]) -> _Pictures | None:
    """Plain pictures, if there is a witness and enough of them show the concept."""
    own = gallery.look(treatment_of((), sites=sites, units=bench.units)).own
    shown = [i for i, seen in enumerate(own or ()) if seen]
    return _Pictures(gallery, sites, bench.units, shown) if len(shown) >= _SHOWN else None
