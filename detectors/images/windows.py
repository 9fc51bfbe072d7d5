"""Cuts a large picture into windows in which small lettering is found, and makes one list of what the windows show.

A finder of text looks at a picture as a whole: a small word on a large plain ground has little weight there and is
passed over, in full resolution too. The same word is found in a window. Windows overlap, so that a word at an edge is
whole in the next one, and beside them stands the whole picture at the size of a window, for lettering that is larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.types import Box

__all__ = ["Pixels", "Window", "distinct", "windows_of"]

_SIDE = 640  # of a window, in pixels
_WHOLE = 768  # pictures up to this side are looked at as they are
_OVERLAP = 192  # at least: a word of twelve letters, each 1 % of the side of 2,000 pixels
_LONGEST = 2000  # larger pictures are made so small first
_EDGE = 3  # a place so near to an inner edge, in pixels, may go on behind it
_SAME = 0.5  # of the common area of two places: from here on they are one

Pixels = NDArray[np.uint8]  # [height, width, 3]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a picture: its pixels, where it begins in the scaled picture, that scale, and that picture's size."""

    pixels: Pixels
    left: int
    top: int
    scale: float
    of: tuple[int, int]  # height and width
    whole: bool

    def in_picture(self, box: Box) -> Box:
        """A place in the window, in pixels of the picture."""
        xs = [(x + self.left) / self.scale for x in (box.left, box.right)]
        ys = [(y + self.top) / self.scale for y in (box.top, box.bottom)]
        return Box(xs[0], ys[0], xs[1], ys[1])

    def cuts(self, box: Box) -> bool:
        """Whether a place in the window may go on outside of it."""
        height, width = self.pixels.shape[:2]
        before = (self.left and box.left < _EDGE) or (self.top and box.top < _EDGE)
        right, bottom = self.left + width < self.of[1], self.top + height < self.of[0]
        return bool(before or (right and box.right > width - _EDGE) or (bottom and box.bottom > height - _EDGE))


def windows_of(pixels: Pixels) -> list[Window]:
    """The windows of a picture, and the whole of it; where it is small, the whole alone."""
    fine, scale = _at_most(pixels, _LONGEST)
    height, width = fine.shape[:2]
    if max(height, width) <= _WHOLE:
        return [Window(pixels, 0, 0, 1.0, (height, width), whole=True)]
    parts = [
        Window(fine[y : y + _SIDE, x : x + _SIDE], x, y, scale, (height, width), whole=False)
        for y in _starts(height)
        for x in _starts(width)
    ]
    coarse, scale = _at_most(pixels, _SIDE)
    return [*parts, Window(coarse, 0, 0, scale, coarse.shape[:2], whole=True)]


def distinct(places: Sequence[Box]) -> list[int]:
    """Which of `places` to keep, in order: of those that are one place, the first."""
    kept: list[int] = []
    for i, box in enumerate(places):
        if all(_common(box, places[k]) < _SAME for k in kept):
            kept.append(i)
    return kept


def _at_most(pixels: Pixels, longest: int) -> tuple[Pixels, float]:
    """The picture with no side longer than `longest`, and how much smaller it is."""
    import cv2

    scale: float = min(1.0, longest / max(pixels.shape[:2]))
    if scale == 1.0:
        return pixels, scale
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8), scale


def _starts(length: int) -> list[int]:
    """Where windows begin along one side, evenly."""
    if length <= _SIDE:
        return [0]
    count = 1 + -(-(length - _SIDE) // (_SIDE - _OVERLAP))
    return [round(i * (length - _SIDE) / (count - 1)) for i in range(count)]


def _common(a: Box, b: Box) -> float:
    """The area that two boxes share, as a share of the area that they cover together."""
    wide = min(a.right, b.right) - max(a.left, b.left)
    high = min(a.bottom, b.bottom) - max(a.top, b.top)
    if wide <= 0 or high <= 0:
        return 0.0
    areas = sum((box.right - box.left) * (box.bottom - box.top) for box in (a, b))
    return wide * high / (areas - wide * high)
