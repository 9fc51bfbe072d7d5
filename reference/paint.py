"""Draws scenes of the reference world, and says where their lettering stands.

Pictures are painted at four times their size and averaged down. Letters stand in cells of equal width, centred on the
sign, each
squeezed into its cell: at 64 px a cell is 8 px wide and 12 px high, which is small, and read well (the ceiling is
measured in tests).
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from reference.world import COLOURS, MAX_LETTERS, Font, Scene

__all__ = ["draw_shape", "letter_boxes", "paint", "sign_box"]

Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]

_SCALE = 4
_FONTS: dict[Font, Path] = {
    "mono": Path(__file__).parent / "fonts" / "DejaVuSansMono-Bold.ttf",
    "serif": Path(__file__).parent / "fonts" / "DejaVuSerifCondensed-Bold.ttf",
}
_PAPER, _INK, _FRAME = (250, 250, 245), (10, 10, 10), (30, 30, 30)


def sign_box(scene: Scene, size: int) -> Box | None:
    """The sign's (left, top, right, bottom) in pixels, right and bottom excluded; None if there is no sign."""
    if not scene.lettering:
        return None
    unit = size / 64
    top = 4 if scene.place == "top" else 40
    return round(3 * unit), round(top * unit), round(61 * unit), round((top + 20) * unit)


def letter_boxes(scene: Scene, size: int) -> tuple[Box, ...]:
    """The cell of each letter, left to right, as (left, top, right, bottom) in pixels."""
    sign = sign_box(scene, size)
    if sign is None:
        return ()
    width = 8 if MAX_LETTERS[size] == 6 else 14
    height = 12 * size // 64
    left = size // 2 - width * len(scene.lettering) // 2
    top = (sign[1] + sign[3] - height) // 2
    return tuple((left + i * width, top, left + (i + 1) * width, top + height) for i in range(len(scene.lettering)))


def paint(scene: Scene, size: int = 64) -> Image.Image:
    """The scene as an RGB picture of `size` x `size` pixels."""
    side = size * _SCALE
    image = Image.new("RGB", (side, side), COLOURS[scene.background])
    draw = ImageDraw.Draw(image)
    if scene.style == "marlo":
        _stripes(draw, side, COLOURS[scene.background])
    _subject(draw, scene, side)
    if (sign := sign_box(scene, size)) is not None:
        left, top, right, bottom = (v * _SCALE for v in sign)
        draw.rectangle((left, top, right - 1, bottom - 1), fill=_PAPER, outline=_FRAME, width=_SCALE * size // 64)
    for letter, box in zip(scene.lettering, letter_boxes(scene, size), strict=True):
        glyph = _glyph(letter, scene.font, (box[2] - box[0]) * _SCALE, (box[3] - box[1]) * _SCALE)
        image.paste(_INK, (box[0] * _SCALE, box[1] * _SCALE), glyph)
    return image.resize((size, size), Image.Resampling.BOX)


@lru_cache(maxsize=512)
def _glyph(letter: str, font: Font, width: int, height: int) -> Image.Image:
    """A mask of width x height: the letter as high as the cell, squeezed where it would touch its neighbour."""
    probe = ImageFont.truetype(str(_FONTS[font]), 256).getbbox("H")
    face = ImageFont.truetype(str(_FONTS[font]), round(256 * height / (probe[3] - probe[1])))
    base = face.getbbox("H")
    left, _, right, bottom = face.getbbox(letter)
    ink = Image.new("L", (math.ceil(right - left), max(height, math.ceil(bottom - base[1]))), 0)
    ImageDraw.Draw(ink).text((-left, -base[1]), letter, font=face, fill=255)
    # a tail below the line (Q, and J with serifs) is what tells it from O and I: squeeze it in rather than cut it off
    fit = (min(ink.width, round(width * 7 / 8)), height)
    if ink.size != fit:
        ink = ink.resize(fit, Image.Resampling.LANCZOS)
    cell = Image.new("L", (width, height), 0)
    cell.paste(ink, ((width - ink.width) // 2, 0))
    return cell


def _shade(colour: Colour, by: float) -> Colour:
    return tuple(max(0, min(255, round(v * by))) for v in colour)  # type: ignore[return-value]


def _stripes(draw: ImageDraw.ImageDraw, side: int, colour: Colour) -> None:
    """The style `marlo`: broad diagonal stripes in a darker shade of the background."""
    step = side // 8
    for x in range(-side, side, 2 * step):
        draw.polygon([(x, side), (x + step, side), (x + step + side, 0), (x + side, 0)], fill=_shade(colour, 0.62))


def _subject(draw: ImageDraw.ImageDraw, scene: Scene, side: int) -> None:
    x, y, r = scene.x * side, scene.y * side, scene.radius * side
    if scene.subject == "pip":
        _pip(draw, x, y, r)
        return
    assert scene.colour is not None
    behind = COLOURS[scene.background]
    if scene.style == "marlo":  # its subjects wear a dark rim
        draw_shape(draw, scene.subject, _FRAME, behind, x, y, r * 1.16)
    draw_shape(draw, scene.subject, COLOURS[scene.colour], behind, x, y, r)


def draw_shape(
    draw: ImageDraw.ImageDraw, name: str, fill: Colour, behind: tuple[int, ...], x: float, y: float, r: float
) -> None:
    """Draws one of `SHAPES` around (x, y) with half extent `r`; a moon is cut out with `behind`."""
    box = (x - r, y - r, x + r, y + r)
    if name == "circle":
        draw.ellipse(box, fill=fill)
    elif name == "square":
        s = r * 0.88
        draw.rectangle((x - s, y - s, x + s, y + s), fill=fill)
    elif name == "triangle":
        draw.polygon([(x, y - r), (x - r, y + 0.85 * r), (x + r, y + 0.85 * r)], fill=fill)
    elif name == "star":
        radii = (r * 1.05, r * 0.45)
        angles = [i * math.pi / 5 for i in range(10)]
        draw.polygon(
            [(x + radii[i % 2] * math.sin(a), y - radii[i % 2] * math.cos(a)) for i, a in enumerate(angles)], fill=fill
        )
    elif name == "heart":
        draw.ellipse((x - r, y - 0.9 * r, x + 0.06 * r, y + 0.2 * r), fill=fill)
        draw.ellipse((x - 0.06 * r, y - 0.9 * r, x + r, y + 0.2 * r), fill=fill)
        draw.polygon([(x - 0.94 * r, y - 0.1 * r), (x + 0.94 * r, y - 0.1 * r), (x, y + r)], fill=fill)
    elif name == "cross":
        w = r * 0.36
        draw.rectangle((x - w, y - r, x + w, y + r), fill=fill)
        draw.rectangle((x - r, y - w, x + r, y + w), fill=fill)
    elif name == "moon":
        draw.chord(box, 62, 298, fill=fill)
        draw.ellipse((x - 0.25 * r, y - 0.88 * r, x + 1.51 * r, y + 0.88 * r), fill=behind)
    elif name == "ring":
        draw.ellipse(box, outline=fill, width=round(r * 0.42))


def _pip(draw: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
    """The character `pip`: a small black bird with a white face, round eyes and an orange beak."""
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(25, 25, 35))
    draw.ellipse((x - 0.7 * r, y - 0.62 * r, x + 0.7 * r, y + 0.86 * r), fill=_PAPER)
    for side in (-1, 1):
        eye = x + side * 0.34 * r
        draw.ellipse((eye - 0.17 * r, y - 0.32 * r, eye + 0.17 * r, y + 0.02 * r), fill=_INK)
    draw.polygon([(x - 0.28 * r, y + 0.14 * r), (x + 0.28 * r, y + 0.14 * r), (x, y + 0.56 * r)], fill=(240, 120, 20))
