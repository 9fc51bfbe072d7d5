"""How like two sets are: precision, recall, KID.

| break | red |
|---|---|
| take the k-1-th neighbour | precision and recall agree with the definition, written out |
| swap the sets | recall falls when a mode is dropped; precision when outliers are added |
| keep the diagonal | KID agrees with the definition, written out; its interval covers 0 |
| draw subsets with replacement | the interval covers 0 for halves of one set |
"""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest

from evaluation.distributions import ceiling, compare_sets, kid, precision_recall
from reference.town.drawing.paint import paint
from reference.town.judge import SECOND_JUDGE, Judge
from reference.town.scenes import sample_scene


def cloud(count: int, *, seed: int, middle: float = 0.0, width: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(middle, 1.0, (count, width))


def test_precision_and_recall_agree_with_the_definition_written_out() -> None:
    true, made = cloud(30, seed=0, width=3), cloud(25, seed=1, middle=1.2, width=3)

    def among(point: np.ndarray, of: np.ndarray, k: int) -> bool:
        for i, p in enumerate(of):
            others = sorted(float(np.linalg.norm(p - q)) for j, q in enumerate(of) if j != i)
            if np.linalg.norm(point - p) <= others[k - 1]:
                return True
        return False

    for k in (1, 3):
        precision, recall = precision_recall(true, made, k=k)
        assert precision.hits == sum(among(p, true, k) for p in made)
        assert recall.hits == sum(among(p, made, k) for p in true)
        assert (precision.n, recall.n) == (25, 30)
        assert 0 < precision.hits < 25
        assert 0 < recall.hits < 30


def test_kid_agrees_with_the_definition_written_out() -> None:
    a, b = cloud(9, seed=0, width=4), cloud(7, seed=1, middle=0.4, width=4)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 4 + 1) ** 3)

    within = [sum(kernel(x, y) for x, y in itertools.permutations(s, 2)) / (len(s) * (len(s) - 1)) for s in (a, b)]
    across = sum(kernel(x, y) for x in a for y in b) / (len(a) * len(b))
    assert kid(a, b).value == pytest.approx(sum(within) - 2 * across)
    assert kid(a, b, seed=1) == kid(a, b, seed=1) != kid(a, b, seed=2)


def test_the_interval_covers_0_for_halves_of_one_set_and_not_for_different_sets() -> None:
    covered = 0
    for seed in range(40):
        found = ceiling(cloud(160, seed=seed, width=32), seed=seed).kid
        covered += found.interval[0] <= 0 <= found.interval[1]
        assert found.interval[0] < found.value < found.interval[1]
        assert kid(cloud(80, seed=seed), cloud(80, seed=99 + seed, middle=0.6), seed=seed).interval[0] > 0
    assert covered >= 38


def test_the_interval_covers_the_truth_for_different_sets() -> None:
    truth = kid(cloud(3000, seed=1), cloud(3000, seed=2, middle=0.3), subsets=2).value
    covered = 0
    for seed in range(40):
        low, high = kid(cloud(80, seed=10 + seed), cloud(80, seed=99 + seed, middle=0.3), seed=seed).interval
        covered += low <= truth <= high
    assert covered >= 36


def test_recall_falls_when_a_mode_is_dropped_and_precision_when_outliers_are_added() -> None:
    modes = np.concatenate([cloud(60, seed=0), cloud(60, seed=1, middle=9.0)])
    again = np.concatenate([cloud(60, seed=2), cloud(60, seed=3, middle=9.0)])
    best, one = compare_sets(modes, again), compare_sets(modes, again[:60])
    assert best.precision.share > 0.8
    assert best.recall.share > 0.8
    assert one.recall.share < 0.5
    assert one.precision.share > 0.8
    far = compare_sets(modes, np.concatenate([again, cloud(40, seed=4, middle=30.0)]))
    assert far.precision.share < 0.8
    assert far.recall.share > 0.8
    assert one.kid.value > best.kid.value
    assert far.kid.value > best.kid.value
    json.dumps(best.to_json())


def test_the_judge_s_features_notice_lost_signs_lost_styles_and_a_single_ground() -> None:
    judge, rng = Judge.load(SECOND_JUDGE), random.Random(0)

    def features(**fixed: object) -> np.ndarray:
        return judge.features([paint(sample_scene(rng, **fixed)) for _ in range(100)]).numpy()  # type: ignore[arg-type]

    true, again = features(), features()
    best = compare_sets(true, again)
    assert best.kid.interval[0] <= 0 <= best.kid.interval[1]
    for fixed in ({"lines": ()}, {"style": "marlo"}, {"ground": "red"}):
        lost = compare_sets(true, features(**fixed))
        assert lost.recall.interval[1] < best.recall.interval[0], fixed
        assert lost.kid.interval[0] > 0, fixed


def test_sets_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 pictures, got 3 and 9"):
        precision_recall(cloud(3, seed=0), cloud(9, seed=1))
    with pytest.raises(ValueError, match="two tables"):
        kid(cloud(9, seed=0), cloud(9, seed=1, width=5))
