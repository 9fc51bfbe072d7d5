"""Where signs and letters stand in a picture of the town.

Letters stand in cells whose edges fall on the half steps of an image token (8 px, whichever the picture's size). At
64 px a cell is 8 px wide, at 128 px it is 12 px wide. A model learns to spell far sooner this way.
"""

from __future__ import annotations

from reference.town.scenes import Scene

__all__ = ["Box", "letter_boxes", "sign_box"]

Box = tuple[int, int, int, int]

_CELL = {64: (8, 12), 128: (12, 20)}  # width and height of a letter's cell
_GAP = 4  # between two lines of 64 px


def sign_box(scene: Scene, size: int) -> Box | None:
    """The sign's (left, top, right, bottom) in pixels, right and bottom excluded; None if there is no sign."""
    if not scene.lines:
        return None
    unit = size // 64
    if scene.spot in ("left", "right"):
        left, top, width, height = (2 if scene.spot == "left" else 34), 24, 28, 20
    elif len(scene.lines) == 1:
        left, top, width, height = 3, (4 if scene.spot == "top" else 40), 58, 20
    else:
        left, top, width, height = 3, (1 if scene.spot == "top" else 29), 58, 34
    return left * unit, top * unit, (left + width) * unit, (top + height) * unit


def letter_boxes(scene: Scene, size: int) -> tuple[tuple[Box, ...], ...]:
    """The cell of each letter of each line, as (left, top, right, bottom) in pixels."""
    sign = sign_box(scene, size)
    if sign is None:
        return ()
    width, height = _CELL[size]
    unit = size // 64
    middle = (sign[0] + sign[2]) // 2
    step = height + _GAP * unit
    top = (sign[1] + sign[3] - height - step * (len(scene.lines) - 1)) // 2
    lines = []
    for number, line in enumerate(scene.lines):
        left, y = _on_grid(middle - width * len(line) // 2), _on_grid(top + number * step)
        lines.append(tuple((left + i * width, y, left + (i + 1) * width, y + height) for i in range(len(line))))
    return tuple(lines)


def _on_grid(pixel: int) -> int:
    return pixel // 4 * 4
