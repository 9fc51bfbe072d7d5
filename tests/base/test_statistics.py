"""Wilson's interval."""

from __future__ import annotations

import math

import pytest

from palimpsest_base.statistics import wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 200), (1, 3), (50, 100), (19, 20), (200, 200)])
def test_it_is_the_interval_of_the_paper(hits: int, n: int) -> None:
    z, p = 1.959963984540054, hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert wilson(hits, n) == pytest.approx((max(0.0, middle - half), min(1.0, middle + half)), abs=1e-9)


def test_nothing_seen_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_it_narrows_with_n() -> None:
    assert wilson(50, 100)[1] - wilson(50, 100)[0] < wilson(5, 10)[1] - wilson(5, 10)[0]
