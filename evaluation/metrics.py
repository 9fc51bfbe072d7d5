"""The measures of the quality tables: intervals, edit distance, similarity outside lettering. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity

from palimpsest_base.statistics import wilson

__all__ = ["Rate", "edit_distance", "mean_interval", "similarity_outside"]

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Rate:
    """A count out of n, with its 95 % Wilson interval; n = 0 has no share."""

    hits: int
    n: int

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Rate:
        """How many outcomes are true."""
        values = list(outcomes)
        return cls(sum(values), len(values))

    @property
    def share(self) -> float:
        """hits / n; nan if n is 0."""
        return self.hits / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (1927), which stays inside [0, 1] and is honest at 0 and n."""
        return wilson(self.hits, self.n)

    def to_json(self) -> dict[str, float | int | list[float] | None]:
        """Plain values: hits, n, share, interval."""
        share = round(self.share, 4) if self.n else None
        return {"hits": self.hits, "n": self.n, "share": share, "interval": [round(v, 4) for v in self.interval]}

    def __str__(self) -> str:
        if not self.n:
            return "-"
        low, high = self.interval
        return f"{100 * self.share:.1f} % ({self.hits}/{self.n}; {100 * low:.1f} to {100 * high:.1f})"


def mean_interval(
    values: Sequence[float], *, draws: int = 2000, seed: int = 0
) -> dict[str, float | int | list[float] | None]:
    """The mean with its 95 % bootstrap interval and the fifth percentile, as plain values."""
    if not values:
        return {"mean": None, "n": 0, "interval": None, "p5": None}
    data = np.asarray(values, float)
    means = np.random.default_rng(seed).choice(data, (draws, len(data))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "mean": round(float(data.mean()), 4),
        "n": len(data),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "p5": round(float(np.quantile(data, 0.05)), 4),
    }


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance: the fewest insertions, deletions and replacements that turn `a` into `b`."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def similarity_outside(a: Image.Image, b: Image.Image, boxes: Sequence[Box], *, margin: int = 4) -> tuple[float, float]:
    """SSIM of two pictures' luminance (Wang et al., 2004; 7 px window): outside the boxes, and whole.

    Args:
        boxes: (left, top, right, bottom) of the lettering in both pictures; pixels up to `margin` from them are left
            out.
    """
    grey = [np.asarray(picture.convert("L"), float) for picture in (a, b)]
    _, each = structural_similarity(grey[0], grey[1], data_range=255.0, full=True)
    keep = np.ones(each.shape, bool)
    for left, top, right, bottom in boxes:
        keep[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin] = False
    return float(each[keep].mean()) if keep.any() else math.nan, float(each.mean())
