"""The choice of sites, against oracles whose answer is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localization.search.choose import choose_sites

NAMES = tuple(f"site{i}" for i in range(8))


def asker(share: Callable[[frozenset[str]], float]) -> Callable[[Iterable[frozenset[str]]], Sequence[float]]:
    return lambda sets: [share(s) for s in sets]


def needs(*wanted: str) -> Callable[[frozenset[str]], float]:
    """An effect that builds up slowly and is complete only when all wanted sites are swapped."""
    return lambda s: len(s & set(wanted)) ** 2 / len(wanted) ** 2


@pytest.mark.parametrize("wanted", [("site3",), ("site1", "site6"), ("site0", "site4", "site7")])
def test_exactly_the_sites_that_carry_it_are_chosen(wanted: tuple[str, ...]) -> None:
    grown = choose_sites(NAMES, asker(needs(*wanted)))
    assert set(grown.sites) == set(wanted)
    assert grown.share == 1.0
    assert grown.compact


def test_a_site_that_only_looked_good_alone_is_given_up() -> None:
    def share(s: frozenset[str]) -> float:
        if {"site2", "site5"} <= s:
            return 0.95
        return 0.4 if "site0" in s else 0.1 * len(s & {"site2", "site5"})

    assert set(choose_sites(NAMES, asker(share)).sites) == {"site2", "site5"}


def test_knowledge_that_is_spread_out_has_no_compact_answer() -> None:
    grown = choose_sites(NAMES, asker(lambda s: len(s) / len(NAMES)), target=0.9)
    assert not grown.compact
    assert len(grown.sites) == 8


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=8, max_size=8).filter(lambda w: sum(w) > 0.1), st.floats(0.3, 1))
def test_for_additive_effects_no_smaller_set_reaches_the_target(weights: list[float], target: float) -> None:
    share = {n: w / sum(weights) for n, w in zip(NAMES, weights, strict=True)}
    grown = choose_sites(NAMES, asker(lambda s: sum(share[n] for n in s)), target=target - 1e-6)
    assert grown.share >= target - 1e-6
    smaller = combinations(NAMES, len(grown.sites) - 1)
    assert all(sum(share[n] for n in s) < target + 2e-3 for s in smaller)


def test_the_path_tells_the_share_against_k() -> None:
    path = choose_sites(NAMES, asker(needs("site1", "site2", "site3"))).path
    assert [k for k, _, _ in path] == [1, 2, 3]
    assert [round(share, 3) for _, share, _ in path] == [0.111, 0.444, 1.0]


@pytest.mark.parametrize(("names", "target"), [((), 0.9), (NAMES, 0.0), (NAMES, 1.5)])
def test_questions_without_an_answer_are_refused(names: tuple[str, ...], target: float) -> None:
    with pytest.raises(ValueError, match="need sites and a target"):
        choose_sites(names, asker(lambda s: 1.0), target=target)
