"""What of a picture is drawn anew, and how a new part is put into a picture without a change of any other pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from steering.errors import BadPlan

__all__ = ["check_mask", "mask_of", "paste", "scaled"]

Box = tuple[float, float, float, float]


def mask_of(boxes: Sequence[Box], size: tuple[int, int], *, grow: float = 0.35, longer: float = 1.0) -> np.ndarray:
    """1 in the boxes (left, top, right, bottom, in pixels) of a picture of `size` (width, height), 0 elsewhere, [h, w].

    grow: by how much each box is larger on each side, as a share of its height; longer: how many times as many letters
    are to stand there, for which the box is made wider where it is above 1.
    """
    width, height = size
    mask = np.zeros((height, width), np.float32)
    for left, top, right, bottom in boxes:
        more = grow * (bottom - top)
        aside = more + (right - left) * (max(longer, 1.0) - 1) / 2
        rows = slice(max(0, int(np.floor(top - more))), max(0, int(np.ceil(bottom + more))))
        columns = slice(max(0, int(np.floor(left - aside))), max(0, int(np.ceil(right + aside))))
        mask[rows, columns] = 1
    return mask


def check_mask(mask: np.ndarray, size: tuple[int, int]) -> None:
    """Raises: BadPlan, for a mask that is not of the picture's `size` (width, height), or marks nothing, or that holds
    other values than 0 to 1."""
    if mask.shape != (size[1], size[0]):
        raise BadPlan(f"a mask must be [{size[1]}, {size[0]}] like its picture, got {list(mask.shape)}")
    if not np.isfinite(mask).all() or mask.min() < 0 or mask.max() > 1:
        raise BadPlan(f"a mask must hold values in [0, 1], got {mask.min()} to {mask.max()}")
    if not mask.any():
        raise BadPlan("a mask must mark something to draw anew, and this one is zero everywhere")


def scaled(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask of a picture that is scaled to `size` (width, height): 1 where any pixel that it touches is above 0."""
    if mask.shape == (size[1], size[0]):
        return mask
    width, height = size
    return _with_rows(_with_rows(mask > 0, height).T, width).T.astype(np.float32)


def _with_rows(mask: np.ndarray, rows: int) -> np.ndarray:
    """A mask [h, w] with another number of rows: each is true where one that it touches is."""
    own = len(mask)
    return np.stack([mask[k * own // rows : -(-(k + 1) * own // rows)].any(0) for k in range(rows)])


def paste(source: Image.Image, edited: Image.Image, mask: np.ndarray, *, edge: int = 2) -> Image.Image:
    """The source with the edited picture where the mask [h, w] is above 0, at the source's size.

    Pixels where the mask is 0 are the source's, bit for bit. Inside, the two are blended over `edge` pixels, so that
    no seam is seen. Raises: BadPlan.
    """
    check_mask(mask, source.size)
    shown = edited if edited.size == source.size else edited.resize(source.size, Image.Resampling.LANCZOS)
    inside = Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8))
    framed = Image.new("L", (source.width + 2 * edge, source.height + 2 * edge), 255)  # the picture's rim is no seam
    framed.paste(inside, (edge, edge))
    soft = framed.filter(ImageFilter.MinFilter(2 * edge + 1)) if edge else framed
    soft = soft.filter(ImageFilter.BoxBlur(edge)).crop((edge, edge, edge + source.width, edge + source.height))
    share = np.where(mask > 0, np.asarray(soft, np.float32) / 255, 0)[..., None]
    own, other = np.asarray(source.convert("RGB")), np.asarray(shown.convert("RGB"))
    mixed = np.where(share > 0, own * (1 - share) + other * share, own)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))
