"""Reads lines of lettering upside down and mirrored, too, where they do not read well as they stand.

Finding text works at every angle, and a line that was found is laid flat before it is recognised. But then it may stand
on its head or be mirrored. A recogniser reads letters of some kind in such a line, with a lower score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.images.base import Reading
from policies.types import Box

__all__ = ["Crop", "Line", "Recognise", "every_way"]

Crop = NDArray[np.uint8]  # a line cut out and laid flat: [height, width] or [height, width, 3]
Recognise = Callable[[Sequence[Crop]], Sequence[tuple[str, float]]]

_WIDE = 1.5  # times as wide as high: a single sign reads as some letter in every way
_SURE = 0.99  # a line that reads so well as it stands is not looked at again
_CLEARLY = (
    0.4  # another way counts if it leaves less than this share of the doubt: letters such as I, O, H fit many ways
)
_WAYS: tuple[Callable[[Any], Any], ...] = (
    lambda crop: crop[::-1, ::-1],  # upside down
    lambda crop: crop[:, ::-1],  # mirrored
    lambda crop: crop[::-1],  # both
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line that was found and recognised as it stands."""

    text: str
    score: float
    box: Box
    crop: Crop

    @property
    def doubtful(self) -> bool:
        """Whether it may be a word that stands in another way."""
        height, width = self.crop.shape[:2]
        return width >= _WIDE * height and not self.score >= _SURE


def every_way(lines: Sequence[Line], recognise: Recognise) -> list[Reading]:
    """What the lines say: each as it stands, followed by the other ways that read clearly better, if any does.

    So a line that stands upright keeps its reading, and one on its head has two at the same place.
    """
    doubtful = [line for line in lines if line.doubtful]
    turned = iter(recognise([np.ascontiguousarray(way(line.crop)) for line in doubtful for way in _WAYS]))
    readings: list[Reading] = []
    for line in lines:
        readings.append(Reading(line.text, line.box, line.score))
        for text, score in [next(turned) for _ in _WAYS] if line.doubtful else ():
            if not 1 - score >= _CLEARLY * (1 - line.score):  # so written, NaN comes out, and becomes an error
                readings.append(Reading(text, line.box, score, turned=True))
    return readings
