"""Intervals of shares."""

from __future__ import annotations

__all__ = ["wilson"]


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of `hits` in `n` (Wilson, 1927): inside [0, 1], and (0, 1) for n = 0."""
    from scipy.stats import binomtest  # half a second, which no command's `--help` should pay

    if n == 0:
        return (0.0, 1.0)
    low, high = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return (float(low), float(high))
