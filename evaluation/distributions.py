"""How like two sets of pictures are, from their features: precision, recall and KID. Pure functions.

Precision and recall tell what KID mixes: whether the pictures of a set look like those of the other, and whether they
are as varied. All three depend on how many pictures there are, so a set is compared with one of as many, and beside it
stands the `ceiling`: what two halves of one set get.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from evaluation.metrics import Rate

__all__ = ["Kid", "Likeness", "ceiling", "compare_sets", "kid", "precision_recall"]


@dataclass(frozen=True, slots=True)
class Kid:
    """A kernel inception distance: the unbiased estimate, which may be negative, and its interval of at least 95 %."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like made pictures are to true ones; the intervals of precision and recall take the other set as given."""

    precision: Rate
    recall: Rate
    kid: Kid

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "precision": self.precision.to_json(),
            "recall": self.recall.to_json(),
            "KID": {"value": round(self.kid.value, 5), "interval": [round(v, 5) for v in self.kid.interval]},
        }


def compare_sets(true: np.ndarray, made: np.ndarray, *, k: int = 3, seed: int = 0) -> Likeness:
    """Precision, recall and KID of `made` [m, d] against `true` [n, d]."""
    return Likeness(*precision_recall(true, made, k=k), kid(true, made, seed=seed))


def ceiling(features: np.ndarray, *, k: int = 3, seed: int = 0) -> Likeness:
    """What two random halves of one set get: as good as sets of so many pictures can be."""
    order = np.random.default_rng(seed).permutation(len(features))
    half = len(features) // 2
    return compare_sets(features[order[:half]], features[order[half : 2 * half]], k=k, seed=seed)


def precision_recall(true: np.ndarray, made: np.ndarray, *, k: int = 3) -> tuple[Rate, Rate]:
    """The shares of made pictures among the true ones, and of true pictures among the made ones.

    A picture is among a set if it is as near to one of its pictures as that one's `k`-th nearest in the set
    (Kynkaanniemi et al., *Improved Precision and Recall Metric for Assessing Generative Models*, 2019, equation 1).
    """
    _check(true, made, least=k + 1)
    between = cdist(true, made)
    precise = (between <= _reach(true, k)[:, None]).any(0)
    recalled = (between <= _reach(made, k)[None, :]).any(1)
    return Rate.of(precise.tolist()), Rate.of(recalled.tolist())


def _reach(features: np.ndarray, k: int) -> np.ndarray:
    """How far the k-th nearest other row is from each row."""
    return np.partition(cdist(features, features), k, axis=1)[:, k]  # the nearest is the row itself


def kid(a: np.ndarray, b: np.ndarray, *, subsets: int = 200, seed: int = 0) -> Kid:
    """The squared maximum mean discrepancy with the kernel (x.y / d + 1)^3 (Binkowski et al., *Demystifying MMD GANs*,
    2018), and its interval from random halves of both sets.

    An estimate from half of a set, drawn without replacement, varies about the estimate from the whole set as that one
    varies about the truth (the delete-half jackknife), so quantiles of such estimates are the interval. Where both sets
    come from the same source the interval is wider than it needs to be.
    """
    _check(a, b, least=4)
    x, y = np.asarray(a, float), np.asarray(b, float)
    kernels = [(p @ q.T / x.shape[1] + 1) ** 3 for p, q in ((x, x), (y, y), (x, y))]
    rng = np.random.default_rng(seed)
    halves = [(_half(rng, len(x)), _half(rng, len(y))) for _ in range(subsets)]
    parts = list(_discrepancies(kernels, [(np.arange(len(x)), np.arange(len(y))), *halves]))
    low, high = np.quantile(parts[1:], [0.025, 0.975])
    return Kid(parts[0], (float(low), float(high)))


def _half(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.choice(count, count // 2, replace=False)


def _discrepancies(kernels: list[np.ndarray], rows: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[float]:
    """The unbiased estimate for each choice of rows of both sets: no row is compared with itself."""
    xx, yy, xy = kernels
    for i, j in rows:
        within = [(m.sum() - np.trace(m)) / (len(m) * (len(m) - 1)) for m in (xx[np.ix_(i, i)], yy[np.ix_(j, j)])]
        yield float(sum(within) - 2 * xy[np.ix_(i, j)].mean())


def _check(a: np.ndarray, b: np.ndarray, *, least: int) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be two tables [n, d] of one width, got {a.shape} and {b.shape}")
    if min(len(a), len(b)) < least:
        raise ValueError(f"each set must have at least {least} pictures, got {len(a)} and {len(b)}")
