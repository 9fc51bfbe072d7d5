"""The orders in which pieces of text in one picture may be read as one: along lines, and along columns.

Engines of OCR cut a word into pieces when its letters stand apart, are stacked, or go on in the next line. A text of
all pieces in the right order lets the views of a text join what is a word in pieces, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from policies.types import Box

__all__ = ["reading_orders"]

_SHARED = 0.5  # of the smaller of two pieces, so much lies beside the other if both are of one line


def reading_orders(boxes: Sequence[Box]) -> list[tuple[int, ...]]:
    """The indices of `boxes` in the order of lines, from above, and in that of columns, from the left.

    The second is left out when it is the same.
    """
    lines = _rows(boxes, lambda b: (b.top, b.bottom), lambda b: b.left)
    columns = _rows(boxes, lambda b: (b.left, b.right), lambda b: b.top)
    return list(dict.fromkeys((lines, columns)))


def _rows(
    boxes: Sequence[Box], across: Callable[[Box], tuple[float, float]], along: Callable[[Box], float]
) -> tuple[int, ...]:
    """The indices of `boxes` row by row; a box is of the row of which it shares enough with the box put there last."""
    rows: list[list[int]] = []
    for i in sorted(range(len(boxes)), key=lambda i: along(boxes[i])):
        row = next((r for r in rows if _beside(across(boxes[r[-1]]), across(boxes[i]))), None)
        if row is None:
            rows.append([i])
        else:
            row.append(i)
    rows.sort(key=lambda row: fmean(sum(across(boxes[i])) for i in row))
    return tuple(i for row in rows for i in row)


def _beside(a: tuple[float, float], b: tuple[float, float]) -> bool:
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return shared > 0 and shared >= _SHARED * min(a[1] - a[0], b[1] - b[0])
