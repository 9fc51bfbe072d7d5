"""The repair step that generates nothing: it blurs the readable text in a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from policies import Box

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["blur", "grown"]


def grown(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The box of one line, grown by half a line on every side, as whole pixels inside the picture."""
    half = (box.bottom - box.top) / 2
    left, top = max(0, math.floor(box.left - half)), max(0, math.floor(box.top - half))
    right, bottom = min(width, math.ceil(box.right + half)), min(height, math.ceil(box.bottom + half))
    return left, top, max(left + 1, right), max(top + 1, bottom)


def blur(image: Image, boxes: Sequence[Box]) -> Image:
    """A copy in which each box holds only a few coarse patches of colour, so that no letter can be read.

    Each box is averaged down to patches of a line's height, then drawn up again; a Gaussian alone can be undone.
    """
    from PIL.Image import Resampling

    out = image.copy()
    for box in boxes:
        left, top, right, bottom = area = grown(box, image.width, image.height)
        patch = max(1, math.ceil(box.bottom - box.top))
        coarse = (max(1, (right - left) // patch), max(1, (bottom - top) // patch))
        piece = (
            image.crop(area).resize(coarse, Resampling.BOX).resize((right - left, bottom - top), Resampling.BILINEAR)
        )
        out.paste(piece, (left, top))
    return out
