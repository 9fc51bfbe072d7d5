"""Pictures have the last word on the finalists: needless members go, and places of which each is enough are told so.

The model here is a table: what each set of places does to the output, and in which pictures the concept is seen. Real
ones are asked in `tests/reference/test_planted_shipped.py`.

| law | mutation that turned it red |
|---|---|
| a member that pictures need stays | the pictures under a swap of fewer not compared |
| a member without which the donor's word is not written stays | donors not counted |
| what all others cannot do without stays | the pictures with all others swapped not compared |
| two of which each is enough are alternatives | `_LIKELY` at 1 |
| one of two being enough is no alternative | only the last member asked |
| few plain pictures settle nothing | `_SHOWN` at 0 |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from localization import Bench, Cell, Contrast, Found, Grown
from localization.measure.gallery import Gallery
from localization.search.finish import Finish, finish, finish_contrasts
from localization.search.screen import screen_of

UNITS = ("s0", "s1", "s2", "s3", "s4", "s5", "pooled")
SITES = UNITS[:-1]
PAIRS = tuple(Contrast(f"a cat {i}", f"a circle {i}", i) for i in range(4))
Sees = Callable[[frozenset[str], int], bool]


@dataclass
class Table:
    """Answers cells: a set's effect adds up its members'; `own` and `donor` say in which pictures what is seen."""

    effects: Mapping[str, float]
    own: Sees
    donor: Sees | None = None
    drawn: int = 0

    def answers(self, cells: Sequence[Cell]) -> Iterator[tuple[int, dict[str, Any]]]:
        for n, cell in enumerate(cells):
            yield n, self.pictures(cell) if cell.kind == "pictures" else self.numbers(cell)

    def numbers(self, cell: Cell) -> dict[str, Any]:
        if cell.kind == "ends":
            return {"rows": 1, "full": [1.0], "own": [1.0]}
        shares = [sum(p * self.effects.get(u, 0.0) for p, u in zip(point, UNITS, strict=True)) for point in cell.points]
        return {"rows": len(shares), "along": [[s] for s in shares]}

    def pictures(self, cell: Cell) -> dict[str, Any]:
        treatment, count = cell.treatment, len(cell.contrasts)
        swapped = frozenset(treatment.sites) | ({"pooled"} if treatment.pooled == "donor" else set())
        places = range(self.drawn % 8, self.drawn % 8 + count)  # eight pictures a look, in two batches
        self.drawn += count
        donor = None if self.donor is None else [self.donor(swapped, i) for i in places]
        own = [self.own(swapped, i) for i in places]
        return {"rows": 10, "own": own, "donor": donor, "drift": [0.0] * count, "small": []}


def ended(table: Table, chosen: Sequence[str], *, compact: bool = True) -> Finish:
    bench = Bench(table, UNITS, PAIRS, (0.5,))  # type: ignore[arg-type]
    share = bench.ask([frozenset(chosen)])[0].share()
    grown = Grown(tuple(chosen), share, ((len(chosen), share, tuple(chosen)),), compact)
    screen = screen_of("gradient", torch.ones(len(UNITS), 1), 1)
    found = Found(screen, grown, tuple(chosen), "set", (tuple(chosen),), {}, {})
    contrasts = finish_contrasts(PAIRS)
    assert len({c.seed for c in contrasts}) == len(contrasts) == 8
    return finish(found, bench, Gallery(table, contrasts, witness="table"), sites=SITES)  # type: ignore[arg-type]


def needs(*sites: str) -> Sees:
    """The concept is seen as long as these keep the own text."""
    return lambda swapped, i: not swapped & set(sites)


ONE = {"s1": 0.86, "s3": 0.06, "s4": 0.04, "s0": 0.04}


def test_members_that_only_change_what_nobody_calls_the_concept_go() -> None:
    got = ended(Table(ONE, needs("s1")), ["s1", "s3"])
    assert (got.found.chosen, got.found.answer, got.found.alternatives) == (("s1",), "set", (("s1",),))
    assert [row["enough"] for row in got.asked] == [True, True]
    assert got.asked[1]["left when these are swapped"] == 0
    assert got.asked[1]["left when all others are swapped"] == got.asked[1]["shown plainly"] == 8
    assert got.measured > 0
    assert got.drawn == 5 * 2 * 10  # plain, and both ways for the set and for its one member
    assert got.rows == got.measured + got.drawn


def test_of_three_members_two_may_be_enough() -> None:
    three = Table({"s1": 0.5, "s3": 0.44, "s4": 0.06}, needs("s1", "s3"))
    got = ended(three, ["s1", "s3", "s4"])
    assert (got.found.chosen, got.found.alternatives) == (("s1", "s3"), (("s1", "s3"),))
    assert got.found.carried == pytest.approx({"together": 0.94, "s1": 0.5, "s3": 0.44})


def test_a_member_without_which_some_picture_still_shows_it_stays() -> None:
    stubborn = Table(ONE, lambda swapped, i: "s1" not in swapped or (i == 5 and "s3" not in swapped))
    got = ended(stubborn, ["s1", "s3"])
    assert got.found.chosen == ("s1", "s3")
    assert [row["enough"] for row in got.asked] == [True, False]
    assert got.asked[1]["left when all others are swapped"] is None  # not drawn, as it could change nothing


def test_a_member_that_the_others_cannot_carry_it_without_stays() -> None:
    got = ended(Table(ONE, lambda swapped, i: not {"s1"} & swapped and not {"s3", "s4"} <= swapped), ["s1", "s3"])
    assert got.found.chosen == ("s1", "s3")
    assert got.asked[1]["left when all others are swapped"] == 0


@pytest.mark.parametrize(("other", "left"), [("s3", 2), ("s4", 1)])
def test_a_member_without_which_the_donors_word_is_not_written_stays(other: str, left: int) -> None:
    got = ended(Table(ONE, needs("s1"), donor=lambda swapped, i: {"s1", other} <= swapped), ["s1", "s3"])
    assert len(got.found.chosen) == left


def test_numbers_say_which_fewer_are_worth_a_picture() -> None:
    even = {"s1": 0.75, "s3": 0.25}  # one carries three quarters: no picture is drawn to leave the other out
    got = ended(Table(even, needs("s1")), ["s1", "s3"])
    assert got.found.chosen == ("s1", "s3")
    low = {"s1": 0.65, "s3": 0.05, "s0": 0.15, "s4": 0.15}  # carries nearly all that both do, and takes too little away
    assert ended(Table(low, needs("s1")), ["s1", "s3"]).found.chosen == ("s1", "s3")


def test_places_of_which_each_is_enough_are_alternatives() -> None:
    both = {"s1": 0.5, "s3": 0.5}
    got = ended(Table(both, lambda swapped, i: not {"s1", "s3"} <= swapped), ["s1", "s3"])
    assert (got.found.answer, got.found.alternatives) == ("alternatives", (("s1",), ("s3",)))
    assert got.found.carried == pytest.approx({"together": 1.0, "s1": 0.5, "s3": 0.5})
    once = Table(both, lambda swapped, i: not {"s1", "s3"} <= swapped and (i, len(swapped)) != (5, 6))
    almost = ended(once, ["s1", "s3"])
    assert almost.found.answer == "alternatives"  # 7 of 8


@pytest.mark.parametrize("enough", ["s1", "s3"])
def test_two_of_which_one_alone_is_enough_are_a_set(enough: str) -> None:
    table = Table({"s1": 0.5, "s3": 0.5}, needs(enough))
    got = ended(table, ["s1", "s3"])
    assert (got.found.answer, got.found.alternatives) == ("set", (("s1", "s3"),))


def test_what_is_left_may_be_pooled_text_alone() -> None:
    table = Table({"pooled": 0.9, "s3": 0.05, "s1": 0.05}, needs("pooled"))
    got = ended(table, ["s3", "pooled"])
    assert (got.found.chosen, got.found.answer) == (("pooled",), "pooled")


def test_nothing_is_asked_where_there_is_nothing_to_tell() -> None:
    table = Table(ONE, needs("s1"))
    assert ended(table, ["s1"]).rows == ended(table, SITES, compact=False).rows == table.drawn == 0


def test_few_plain_pictures_and_nobody_to_look_settle_nothing() -> None:
    rare = ended(Table(ONE, lambda swapped, i: i < 3 and "s1" not in swapped), ["s1", "s3"])
    assert (rare.found.chosen, rare.asked) == (("s1", "s3"), ())
    table = Table(ONE, needs("s1"))
    blind = replace_own(table)
    assert (ended(blind, ["s1", "s3"]).found.chosen, blind.drawn) == (("s1", "s3"), 8)


def replace_own(table: Table) -> Table:
    """The same where nobody looks."""

    class Blind(Table):
        def pictures(self, cell: Cell) -> dict[str, Any]:
            return super().pictures(cell) | {"own": None}

    return Blind(**{f: getattr(table, f) for f in ("effects", "own")})
