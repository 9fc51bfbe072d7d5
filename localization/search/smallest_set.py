"""From contrasts to the smallest set of sites: a cheap screening of all sites, then a few measured joint effects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from localization.measure.questions import Bench
from localization.search.answers import AnswerKind, answer_of, carry_sets
from localization.search.choose import Ask, Grown, ShareError, choose_ranked, most_specific
from localization.search.screen import Method, Screen, look_again, screen
from steering import check_concept

__all__ = ["BASELINE", "Aim", "Found", "Search", "find_sites"]

BASELINE = 400  # evaluations a site of the exhaustive way: 20 prompts of 20 steps
_LEVELS = (0.17, 0.5, 0.67)
_MANY = 24
_RESERVE = 3  # sets that are left to tell the kind of answer
_AGAIN = 0.6  # of the budget: what screening may take when the first one missed and a second one is needed


@dataclass(frozen=True, slots=True)
class Aim:
    """What to localize, and with how large a share of the effect.

    Attributes:
        concept: the pack's name for it. Raises BadPack for what no pack may be called, before anything is measured.
        target: share of the full swap's effect that the chosen sites must carry together, within one standard error.
        wider: share that the second set must carry, for requests that the first did not repair.
        most: a set of more than this part of the sites is no compact answer.
        phrases, neutral: the concept's words in prompts and what stands for them in a donor; empty for lettering.
    """

    concept: str
    target: float = 0.9
    wider: float = 0.985
    most: float = 0.5
    phrases: tuple[str, ...] = ()
    neutral: str | None = None

    def __post_init__(self) -> None:
        check_concept(self.concept)


@dataclass(frozen=True, slots=True)
class Search:
    """How to search.

    Attributes:
        method, points: see `screen`.
        levels: places in the trajectory, as fractions, at which effects are measured; None: three, or on 24 sites and
            more two.
        steps: of the quick runs in which calls are captured; the model's own number is used where it is smaller.
        budget: row evaluations that screening and choice may take; None: a fifteenth of the baseline, or on 24 sites
            and more a fiftieth.
        window: whether the pack takes the whole trajectory, or the smallest window that repairs as many pictures.
    """

    method: Method = "gradient"
    points: int = 1
    levels: tuple[float, ...] | None = None
    steps: int = 6
    budget: int | None = None
    window: Literal["whole", "auto"] = "whole"

    def for_sites(self, sites: int) -> Search:
        """The search with what was left open filled in for so many sites."""
        many = sites >= _MANY
        levels = self.levels or (_LEVELS[:2] if many else _LEVELS)
        budget = sites * BASELINE // (50 if many else 15) if self.budget is None else self.budget
        return replace(self, levels=levels, budget=budget)


@dataclass(frozen=True, slots=True)
class Found:
    """The result of screening and choice, and their cost in row evaluations.

    `chosen` are units, in execution order: sites, and where pooled text enters if it is needed. `carried`: the share of
    the own picture that the chosen carry together, and each of few alone.
    """

    screen: Screen
    grown: Grown
    chosen: tuple[str, ...]
    answer: AnswerKind
    alternatives: tuple[tuple[str, ...], ...]
    carried: Mapping[str, float]
    rows: Mapping[str, int]


def find_sites(
    bench: Bench,
    aim: Aim,
    how: Search,
    *,
    sites: Sequence[str],
    upstream: Collection[str] = (),
    given: Sequence[str] | None = None,
    controls: Bench | None = None,
) -> Found:
    """The smallest set of units found on a bench of contrasts, by a cheap screening and about ten questions; or the
    `given` one, measured in the same way.

    upstream: sites of text alone, which are taken when the others are not enough.
    controls: contrasts that leave the concept alone. Of sets that are equal on the bench the one that carries least of
    them is taken; without it the first is.
    """
    how = how.for_sites(len(sites))
    limit = how.budget or 0
    looked = screen(bench, how.method, points=how.points)
    looked = look_again(bench, looked, rows=int(_AGAIN * limit) - looked.rows)
    looked = replace(looked, upstream=frozenset(upstream))
    before = bench.rows

    def affords(sets: int) -> bool:
        return bench.rows + bench.cost_of(sets + _RESERVE) <= limit

    grown = _given(bench, aim, given) if given else _chosen(bench, aim, looked, affords)
    if controls is not None:
        grown = most_specific(grown, _error(bench), _share(controls), _error(controls))
    chosen = tuple(u for u in bench.units if u in grown.sites)
    wanted = carry_sets(chosen, bench.units, compact=grown.compact)
    carried = {}
    if bench.rows + bench.cost_of(len(wanted)) <= limit:
        carried = {n: 1 - s.share() for n, s in zip(wanted, bench.ask(wanted.values()), strict=True)}
    answer, alternatives = answer_of(chosen, carried, sites=sites, compact=grown.compact)
    rows = {"screening": looked.rows, "choice": bench.rows - before}
    return Found(looked, grown, chosen, answer, alternatives, carried, rows)


def _chosen(bench: Bench, aim: Aim, looked: Screen, affords: Callable[[int], bool]) -> Grown:
    return choose_ranked(
        looked.ranked(bench.units),
        _share(bench),
        target=aim.target,
        most=aim.most,
        guess=looked.enough(aim.target),
        affords=affords,
        error=_error(bench),
    )


def _share(bench: Bench) -> Ask:
    return lambda sets: [s.share() for s in bench.ask(sets)]


def _error(bench: Bench) -> ShareError:
    """One standard error of the share of a set, which the bench knows already."""
    return lambda units: bench.ask([units])[0].error()


def _given(bench: Bench, aim: Aim, given: Sequence[str]) -> Grown:
    (got,) = bench.ask([frozenset(given)])
    share, sites = got.share(), tuple(given)
    return Grown(sites, share, ((len(sites), share, sites),), len(sites) <= aim.most * len(bench.units))
