"""Draws scenes of the town: ground, subject with its rim, sign with its letters.

Pictures are painted at four times their size and averaged down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont

from reference.town.drawing.creatures import CREATURES
from reference.town.drawing.grounds import RIMS, draw_ground
from reference.town.drawing.pen import INK, Pen
from reference.town.drawing.people import PEOPLE, THINGS
from reference.town.drawing.shapes import draw_shape
from reference.town.layout import letter_boxes, sign_box
from reference.town.scenes import COLOURS, PLACES, SHAPES, Font, Scene

__all__ = ["Drawing", "paint"]

Drawing = Callable[[Pen], None]

_SCALE = 4
_FOLDER = Path(__file__).parents[2] / "fonts"  # cut from DejaVu with fonttools: Latin, one also Greek and Cyrillic
_FONTS: dict[Font, Path] = {
    "mono": _FOLDER / "DejaVuSansMono-Bold.ttf",
    "serif": _FOLDER / "DejaVuSerifCondensed-Bold.ttf",
    "slanted": _FOLDER / "DejaVuSansMono-BoldOblique.ttf",
    "round": _FOLDER / "FredokaOne-Regular.ttf",
}
_PAPER, _LETTER, _FRAME = (250, 250, 245), (10, 10, 10), (30, 30, 30)
_THIN = 0.016  # the rim of a subject without a style, as a share of the picture's side


def paint(scene: Scene, size: int = 64, *, drawing: Drawing | None = None, zoom: int = 1) -> Image.Image:
    """The scene as an RGB picture of `size` x `size` pixels.

    Args:
        drawing: what is drawn in the stead of the scene's subject, which then says only what kind of subject it is.
        zoom: 2 or 4 for the same picture at so many times its side.
    """
    side = size * _SCALE
    image = draw_ground(scene.ground, scene.style, side).copy()
    subject = _subject(scene, side, drawing)
    shadow = _widened(subject.getchannel("A"), _rim(scene)[1] * side)
    image.paste(_rim(scene)[0], (0, 0), shadow)
    image.paste(subject, (0, 0), subject)
    _sign(image, scene, size)
    return image.resize((size * zoom, size * zoom), Image.Resampling.BOX)


def _rim(scene: Scene) -> tuple[tuple[int, int, int], float]:
    """Colour and width of the subject's rim: a plain shape on a plain colour has none."""
    if scene.style is not None:
        return RIMS[scene.style]
    return INK, 0.0 if scene.subject in SHAPES and scene.ground not in PLACES else _THIN


def _subject(scene: Scene, side: int, drawing: Drawing | None) -> Image.Image:
    """The subject on a transparent layer."""
    layer = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    x, y, r = scene.x * side, scene.y * side, scene.radius * side
    if drawing is not None:
        drawing(Pen(layer, x, y, r))
    elif scene.colour is not None:
        clear = (0, 0, 0, 0)
        draw_shape(ImageDraw.Draw(layer), scene.subject, COLOURS[scene.colour], clear, x, y, r)
    else:
        (CREATURES | PEOPLE | THINGS)[scene.subject](Pen(layer, x, y, r))  # type: ignore[operator]
    return layer


def _widened(mask: Image.Image, by: float) -> Image.Image:
    """The mask grown by `by` pixels in eight directions."""
    if not by:
        return Image.new("L", mask.size, 0)
    grown = mask
    for i in range(8):
        dx, dy = round(by * math.cos(i * math.pi / 4)), round(by * math.sin(i * math.pi / 4))
        grown = ImageChops.lighter(grown, mask.transform(mask.size, Image.Transform.AFFINE, (1, 0, -dx, 0, 1, -dy)))
    return grown


def _sign(image: Image.Image, scene: Scene, size: int) -> None:
    sign = sign_box(scene, size)
    if sign is None:
        return
    left, top, right, bottom = (v * _SCALE for v in sign)
    frame = _SCALE * size // 64
    ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=_PAPER, outline=_FRAME, width=frame)
    for line, boxes in zip(scene.lines, letter_boxes(scene, size), strict=True):
        for letter, box in zip(line, boxes, strict=True):
            glyph = _glyph(letter, scene.font, (box[2] - box[0]) * _SCALE, (box[3] - box[1]) * _SCALE)
            image.paste(_LETTER, (box[0] * _SCALE, box[1] * _SCALE), glyph)


@lru_cache(maxsize=1024)
def _glyph(letter: str, font: Font, width: int, height: int) -> Image.Image:
    """A mask of width x height: the letter as high as the cell, squeezed where it would touch its neighbour."""
    file = str(_FONTS[font])
    probe = ImageFont.truetype(file, 256).getbbox("H")
    face = ImageFont.truetype(file, round(256 * height / (probe[3] - probe[1])))
    base = face.getbbox("H")
    left, _, right, bottom = face.getbbox(letter)
    ink = Image.new("L", (math.ceil(right - left), max(height, math.ceil(bottom - base[1]))), 0)
    ImageDraw.Draw(ink).text((-left, -base[1]), letter, font=face, fill=255)
    fit = (min(ink.width, round(width * 7 / 8)), height)
    if ink.size != fit:
        ink = ink.resize(fit, Image.Resampling.LANCZOS)
    cell = Image.new("L", (width, height), 0)
    cell.paste(ink, ((width - ink.width) // 2, 0))
    return cell
