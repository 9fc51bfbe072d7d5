"""The table on localization: its measures on cases whose answer is known, and the oracle against all subsets."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any

import pytest
import torch

from evaluation.tables.localization import Trial, oracle, rank_correlation, trial_rows
from localization import Bench, Shares


def trial(**own: Any) -> Trial:
    given: dict[str, Any] = {
        "plant": "zorb",
        "kind": "two",
        "method": "gradient",
        "truth": ("a", "b"),
        "found": ("a", "b"),
        "before": ("a", "b"),
        "at_true": ("a", "b"),
        "answer": "set",
        "answer_right": True,
        "rank": 1.0,
        "of_oracle": 1.0,
        "cost": 200,
        "of_baseline": 1 / 24,
    }
    return Trial(**given | own)


def test_recall_is_at_the_true_k_and_precision_at_its_own() -> None:
    wide = trial(found=("a", "b", "c", "d"), at_true=("a", "c"))
    assert (wide.recall, wide.precision, wide.k_right) == (0.5, 0.5, False)
    assert (trial().recall, trial().precision, trial().k_right) == (1.0, 1.0, True)


def test_k_is_told_with_pictures_and_without() -> None:
    rows = trial_rows([trial(before=("a", "b", "c")), trial(found=("a",))])
    assert (rows["gradient"]["K right"]["hits"], rows["gradient"]["K right before pictures"]["hits"]) == (1, 1)
    assert trial(before=("a", "c")).to_json()["found before pictures"] == ["a", "c"]


def test_ranks_agree_whatever_the_scale_and_ties_share_theirs() -> None:
    values = [0.1, 5.0, 2.0, 2.0, -3.0]
    assert rank_correlation(values, [v**3 for v in values]) == pytest.approx(1.0)
    assert rank_correlation(values, [-v for v in values]) == pytest.approx(-1.0)
    assert rank_correlation([1, 1, 2], [1, 2, 3]) == pytest.approx(0.866, abs=1e-3)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0.0


def test_a_row_leaves_the_spread_out_of_recall_but_not_out_of_answers() -> None:
    spread = trial(kind="spread", found=("a",), at_true=("a",), answer_right=False, cost=400, of_baseline=1 / 12)
    rows = trial_rows([trial(finalists=100), spread])
    assert rows["gradient"]["plants"] == 2
    assert rows["gradient"]["recall at the true K"]["mean"] == 1.0
    assert rows["gradient"]["answer right"]["hits"] == 1
    assert rows["gradient"]["K right"]["n"] == 1
    assert rows["gradient"]["of finalists' pictures"] == 50
    assert rows["gradient"]["row evaluations"] == 300
    assert rows["gradient"]["of the baseline"] == "1/16"


class Known(Bench):
    """A bench with effects that are known: pairs help each other."""

    def ask(self, sets: Iterable[frozenset[str]]) -> list[Shares]:
        one = torch.ones(1, 1, dtype=torch.float64)
        return [Shares(one * value(s), one) for s in sets]


def value(s: frozenset[str]) -> float:
    rng = random.Random(3)
    alone = {f"u{i}": rng.random() for i in range(14)}
    pairs = {(a, b): rng.random() for a, b in itertools.combinations(sorted(alone), 2)}
    return sum(alone[u] for u in s) + sum(v for p, v in pairs.items() if set(p) <= s)


@pytest.mark.parametrize(("units", "k"), [(8, 3), (14, 4)])
def test_the_oracle_finds_the_best_subset(units: int, k: int) -> None:
    """All subsets where they are few; beyond, greedily with exchanges, which finds it here."""
    names = tuple(f"u{i}" for i in range(units))
    best = max(value(frozenset(c)) for c in itertools.combinations(names, k))
    got = oracle(Known(None, names, (), ()), k)  # type: ignore[arg-type]
    assert len(got) == k
    assert value(got) >= 0.98 * best
