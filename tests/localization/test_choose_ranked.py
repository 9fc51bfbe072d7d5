"""The choice from a ranking, against oracles whose answer is known; and the kinds of answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from localization.contrasts import Shares
from localization.search.answers import answer_of, carry_sets
from localization.search.choose import Grown, choose_ranked, most_specific
from localization.search.screen import Screen

NAMES = tuple(f"site{i:02d}" for i in range(24))


class Asked:
    """An oracle that counts the sets that it was asked about."""

    def __init__(self, share: Callable[[frozenset[str]], float]) -> None:
        self.share, self.count = share, 0

    def __call__(self, sets: Iterable[frozenset[str]]) -> Sequence[float]:
        told = [self.share(s) for s in sets]
        self.count += len(told)
        return told


def needs(*wanted: str) -> Callable[[frozenset[str]], float]:
    return lambda s: len(s & set(wanted)) ** 2 / len(wanted) ** 2


@pytest.mark.parametrize("guess", [1, 3, 6, 12, 24])
@pytest.mark.parametrize("wanted", [NAMES[:1], NAMES[:3], NAMES[2:6], (NAMES[0], NAMES[5])])
def test_exactly_what_is_needed_is_chosen_from_any_guess(wanted: tuple[str, ...], guess: int) -> None:
    grown = choose_ranked(NAMES, Asked(needs(*wanted)), guess=guess)
    assert set(grown.sites) == set(wanted)
    assert grown.share == 1.0
    assert grown.compact
    assert grown.finished


@pytest.mark.parametrize("scores", [(9.0, 1.0), (0.5, 1.0)])
def test_a_place_upstream_of_all_others_is_not_taken_where_they_are_enough(scores: tuple[float, float]) -> None:
    """What is swapped there reaches every reader of text, so alone it is enough for anything, and for too much."""
    upstream, rest = NAMES[0], NAMES[1:]
    looked = Screen("patching", torch.tensor([[scores[0]], *[[scores[1] / (k + 1)] for k in range(23)]]), 1.0, 0)
    looked = replace(looked, upstream=frozenset({upstream}))
    ranking = looked.ranked(NAMES)
    assert ranking == (*rest, upstream)
    assert looked.weakest(NAMES, 2) == rest[-2:]
    enough = needs(*rest[:3])
    grown = choose_ranked(ranking, lambda sets: [1.0 if upstream in s else enough(s) for s in sets], guess=1)
    assert set(grown.sites) == set(rest[:3])


def test_a_dozen_questions_are_enough_on_many_sites() -> None:
    asked = Asked(needs(*NAMES[:4]))
    choose_ranked(NAMES, asked, guess=5)
    assert asked.count <= 14


def test_a_ranking_with_a_dud_in_front_is_mended() -> None:
    assert set(choose_ranked(NAMES, Asked(needs(*NAMES[1:4])), guess=4).sites) == set(NAMES[1:4])


def test_what_is_spread_over_all_has_no_compact_answer() -> None:
    grown = choose_ranked(NAMES, Asked(lambda s: len(s) / len(NAMES)), guess=4)
    assert not grown.compact
    assert grown.share >= 0.9


def test_a_budget_ends_the_search_and_the_answer_still_reaches_the_target() -> None:
    asked = Asked(needs(*NAMES[:4]))
    grown = choose_ranked(NAMES, asked, guess=9, affords=lambda sets: asked.count + sets <= 2)
    assert asked.count <= 2
    assert not grown.finished
    assert grown.share >= 0.9


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=10, max_size=10).filter(lambda w: sum(w) > 0.5), st.integers(0, 99))
def test_with_the_true_ranking_of_additive_effects_no_smaller_set_is_enough(weights: list[float], seed: int) -> None:
    names = NAMES[:10]
    share = {n: w / sum(weights) for n, w in zip(names, weights, strict=True)}
    ranked = sorted(names, key=lambda n: -share[n])
    guess = random.Random(seed).randint(1, 10)
    grown = choose_ranked(ranked, lambda sets: [sum(share[n] for n in s) for s in sets], target=0.9, guess=guess)
    assert grown.share >= 0.9
    best = sum(sorted(share.values(), reverse=True)[: len(grown.sites) - 1])
    assert best < 0.9 + 1e-9


@pytest.mark.parametrize(
    ("first", "second", "error", "chosen"),
    [
        (0.89, 0.04, 0.02, 1),
        (0.89, 0.04, 0.0, 2),
        (0.89, 0.04, 0.005, 2),
        (0.89, 0.07, 0.02, 2),  # what brings so much stays
        (0.86, 0.045, 0.5, 2),  # and noise excuses only so much
        (0.9, 0.04, 0.0, 1),
    ],
)
def test_of_two_sets_that_noise_cannot_tell_apart_the_smaller_is_chosen(
    first: float, second: float, error: float, chosen: int
) -> None:
    def share(s: frozenset[str]) -> float:
        return (first if NAMES[0] in s else 0.0) + 0.001 * len(s - {NAMES[0]}) + (second if NAMES[1] in s else 0.0)

    for guess in (1, 2, 5):
        grown = choose_ranked(NAMES, Asked(share), guess=guess, error=lambda _: error)
        assert grown.sites == NAMES[:chosen]
        assert grown.share == pytest.approx(share(frozenset(grown.sites)))  # what was measured, without the error


def test_the_error_of_a_share_is_that_of_a_ratio_over_contrasts() -> None:
    generator = torch.Generator().manual_seed(0)
    full = torch.rand(40, 3, generator=generator, dtype=torch.float64) + 0.5
    assert Shares(full * 0.8, full).error() == pytest.approx(0, abs=1e-9)
    assert Shares(full[:1] * torch.rand(3, generator=generator), full[:1]).error() == 0  # one tells nothing of noise
    noisy = Shares(full * (0.5 + 0.4 * torch.rand(40, 1, generator=generator)), full)
    low, high = noisy.interval()
    assert noisy.error() == pytest.approx((high - low) / (2 * 1.96), rel=0.1)


def test_other_sets_of_the_same_size_are_told() -> None:
    either = Asked(lambda s: 1.0 if s & {NAMES[0], NAMES[1]} else 0.0)
    grown = choose_ranked(NAMES, either, guess=1)
    assert grown.sites == (NAMES[0],)
    assert ((NAMES[1],), 1.0) in grown.others


SITES = NAMES[:6]


@pytest.mark.parametrize(
    ("chosen", "carried", "compact", "answer"),
    [
        (("site00",), {"together": 0.95}, True, "set"),
        (("site00", "site01"), {"together": 0.95, "site00": 0.3, "site01": 0.4}, True, "set"),
        (("site00", "site01"), {"together": 0.95, "site00": 0.9, "site01": 0.85}, True, "alternatives"),
        (("site00", "site01"), {"together": 0.95, "site00": 0.9, "site01": 0.1}, True, "set"),
        (("pooled",), {"together": 0.9}, True, "pooled"),
        (SITES, {"together": 1.0}, False, "no compact set"),
    ],
)
def test_what_is_carried_tells_the_kind_of_answer(
    chosen: tuple[str, ...], carried: dict[str, float], compact: bool, answer: str
) -> None:
    assert answer_of(chosen, carried, sites=SITES, compact=compact)[0] == answer


def test_few_members_are_asked_whether_each_is_enough() -> None:
    units = (*SITES, "pooled")
    asked = carry_sets(("site00", "site01"), units, compact=True)
    assert asked["together"] == frozenset(units) - {"site00", "site01"}
    assert asked["site00"] == frozenset(units) - {"site00"}
    assert list(carry_sets(SITES[:5], units, compact=True)) == ["together"]
    assert list(carry_sets(SITES[:2], units, compact=False)) == ["together"]


PAIR, OTHER, WORSE = NAMES[:2], NAMES[2:4], NAMES[4:6]
ELSE = {frozenset(PAIR): 0.3, frozenset(OTHER): 0.1, frozenset(WORSE): 0.0}


def specific(grown: Grown, *, error: float = 0.02, control_error: float = 0.05) -> Grown:
    carried = Asked(ELSE.__getitem__)
    found = most_specific(grown, lambda s: error, carried, lambda s: control_error)
    assert carried.count in (0, 2)  # only sets that are equal to the chosen one are asked about
    return found


def grown_with(*others: tuple[tuple[str, ...], float], compact: bool = True) -> Grown:
    return Grown(PAIR, 0.95, ((2, 0.95, PAIR),), compact, others)


def test_of_equal_sets_the_one_that_carries_least_else_is_taken() -> None:
    found = specific(grown_with((OTHER, 0.94), (WORSE, 0.91)))
    assert (found.sites, found.share) == (OTHER, 0.94)
    assert found.others == ((PAIR, 0.95), (WORSE, 0.91))


def test_a_set_with_less_effect_or_hardly_less_of_the_rest_is_not_taken() -> None:
    weaker = grown_with((WORSE, 0.91))  # it carries nothing else, and less of the concept, by more than the noise
    assert specific(weaker) == weaker == specific(weaker, error=0.5)  # however noisy: 0.03 at most
    alike = grown_with((OTHER, 0.94))
    assert specific(alike, control_error=0.25) == alike
    spread = grown_with((OTHER, 0.94), compact=False)
    assert specific(spread) == spread
