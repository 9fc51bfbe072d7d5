"""Draws what stands behind a subject: a plain colour or a place, and the pattern that a style lays over it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from PIL import Image, ImageDraw

from reference.town.drawing.pen import PAPER, Colour, Pen
from reference.town.scenes import COLOURS, PLACES

__all__ = ["RIMS", "draw_ground"]

# a style's subjects wear a rim: its colour, and its width as a share of the picture's side
RIMS: Mapping[str, tuple[Colour, float]] = MappingProxyType(
    {
        "marlo": ((30, 30, 30), 0.03),
        "venka": ((252, 252, 252), 0.03),
        "orlin": ((30, 40, 110), 0.03),
        "tessa": ((95, 50, 20), 0.03),
        "brumo": ((255, 255, 230), 0.03),
        "kaspa": ((120, 10, 60), 0.03),
    }
)


@lru_cache(maxsize=512)
def draw_ground(ground: str, style: str | None, side: int) -> Image.Image:
    """A ground as an RGB picture of `side` pixels, with the style's pattern; not to be changed, copy it."""
    image = Image.new("RGB", (side, side), COLOURS.get(ground, (0, 0, 0)))
    if ground in PLACES:
        _PLACES[ground](Pen(image, 0, 0, side))
    if style is not None:
        mask = Image.new("L", (side, side), 0)
        tone, strength = _PATTERNS[style](ImageDraw.Draw(mask), side)
        if ground == "space" and max(tone) < 128:  # a dark pattern on a dark sky would not be seen
            tone = (150, 150, 205)
        image.paste(tone, (0, 0), mask.point(lambda v: round(v * strength)))
    return image


# places, in coordinates from (0, 0) to (1, 1)


def _beach(pen: Pen) -> None:
    pen.box(0, 0, 1, 1, (150, 215, 245))
    pen.disc(0.86, 0.12, 0.09, 0.09, (255, 235, 90))
    pen.box(0, 0.38, 1, 0.62, (25, 120, 190))
    for y in (0.43, 0.5, 0.57):
        for x in (0.02, 0.28, 0.54, 0.8):
            pen.line([(x, y), (x + 0.07, y - 0.02), (x + 0.14, y)], 0.014, (190, 230, 250))
    pen.box(0, 0.62, 1, 1, (245, 220, 150))
    for x, y in ((0.06, 0.7), (0.94, 0.72), (0.5, 0.97), (0.2, 0.96), (0.8, 0.97)):
        pen.disc(x, y, 0.02, 0.015, (200, 160, 90))
    pen.line([(0.07, 0.62), (0.12, 0.2)], 0.035, (130, 85, 40))
    for x, y in ((0.0, 0.16), (0.02, 0.28), (0.26, 0.16), (0.24, 0.28), (0.14, 0.06)):
        pen.line([(0.12, 0.2), (x, y)], 0.035, (30, 140, 60))


def _forest(pen: Pen) -> None:
    pen.box(0, 0, 1, 1, (25, 80, 35))
    for x in (0.06, 0.26, 0.5, 0.74, 0.94):
        pen.box(x - 0.035, 0, x + 0.035, 1, (95, 60, 30))
    for i, x in enumerate((0.16, 0.4, 0.62, 0.86)):
        for y in (0.1, 0.42, 0.74):
            top = y + 0.06 * (i % 2)
            pen.area([(x, top - 0.08), (x - 0.11, top + 0.16), (x + 0.11, top + 0.16)], (45, 135, 55))


def _city(pen: Pen) -> None:
    pen.box(0, 0, 1, 1, (185, 195, 215))
    tops = (0.1, 0.3, 0.02, 0.22, 0.05, 0.28, 0.12)
    for i, top in enumerate(tops):
        left = i / 7
        pen.box(left + 0.008, top, left + 0.132, 1, ((70, 75, 100), (95, 85, 95), (55, 65, 85))[i % 3])
        y = top + 0.05
        while y < 0.98:
            for x in (left + 0.03, left + 0.085):
                pen.box(x, y, x + 0.032, y + 0.035, (255, 230, 110))
            y += 0.09


def _desert(pen: Pen) -> None:
    pen.box(0, 0, 1, 1, (250, 190, 120))
    pen.disc(0.14, 0.13, 0.1, 0.1, (225, 80, 40))
    pen.disc(0.1, 0.85, 0.65, 0.4, (215, 145, 60))
    pen.disc(0.95, 1.0, 0.8, 0.5, (190, 115, 45))
    pen.box(0, 0.85, 1, 1, (190, 115, 45))
    for x, y in ((0.9, 0.1), (0.07, 0.42)):
        pen.line([(x, y), (x, y + 0.45)], 0.05, (60, 120, 50))
        pen.line([(x - 0.06, y + 0.1), (x - 0.06, y + 0.22), (x, y + 0.22)], 0.03, (60, 120, 50))
        pen.line([(x + 0.06, y + 0.06), (x + 0.06, y + 0.17), (x, y + 0.17)], 0.03, (60, 120, 50))


def _mountains(pen: Pen) -> None:
    pen.box(0, 0, 1, 1, (120, 170, 220))
    for x, top, half in ((0.12, 0.12, 0.35), (0.88, 0.06, 0.38), (0.5, 0.25, 0.38)):
        low = 0.78
        pen.area([(x, top), (x - half, low), (x + half, low)], (105, 105, 120))
        snow = 0.34
        cut = top + (low - top) * snow
        pen.area([(x, top), (x - half * snow, cut), (x, cut - 0.05), (x + half * snow, cut)], PAPER)
    pen.box(0, 0.74, 1, 1, (110, 160, 70))


def _space(pen: Pen) -> None:
    pen.box(0, 0, 1, 1, (12, 10, 40))
    rng = random.Random("stars")
    for _ in range(60):
        size = rng.choice((0.008, 0.012, 0.016))
        pen.disc(rng.random(), rng.random(), size, size, (255, 255, 220))
    pen.disc(0.12, 0.14, 0.1, 0.1, (220, 130, 70))
    pen.line([(-0.03, 0.2), (0.27, 0.08)], 0.025, (240, 210, 160))
    pen.disc(0.92, 0.88, 0.11, 0.11, (70, 160, 200))
    pen.disc(0.92, 0.1, 0.06, 0.06, (200, 200, 210))


_PLACES: Mapping[str, Callable[[Pen], None]] = MappingProxyType(
    {
        "beach": _beach,
        "forest": _forest,
        "city": _city,
        "desert": _desert,
        "mountains": _mountains,
        "space": _space,
    }
)

# patterns: each draws a mask, and says what tone is laid through it and how strongly

Pattern = Callable[[ImageDraw.ImageDraw, int], tuple[Colour, float]]


def _stripes(draw: ImageDraw.ImageDraw, side: int) -> tuple[Colour, float]:
    step = side // 8
    for x in range(-side, side, 2 * step):
        draw.polygon([(x, side), (x + step, side), (x + step + side, 0), (x + side, 0)], fill=255)
    return (15, 15, 20), 0.45


def _dots(draw: ImageDraw.ImageDraw, side: int) -> tuple[Colour, float]:
    step, r = side / 8, side / 28
    for row in range(9):
        for column in range(9):
            x, y = (column + 0.5 * (row % 2)) * step, row * step
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return (255, 255, 255), 0.75


def _waves(draw: ImageDraw.ImageDraw, side: int) -> tuple[Colour, float]:
    width = side // 18
    for i in range(-1, 8):
        points = [
            (x, side * (i + 0.5) / 7 + side / 32 * math.sin(x / side * 8 * math.pi)) for x in range(0, side + 4, 4)
        ]
        draw.line(points, fill=255, width=width, joint="curve")
    return (30, 40, 110), 0.7


def _tiles(draw: ImageDraw.ImageDraw, side: int) -> tuple[Colour, float]:
    step = side // 8
    for i in range(8):
        for j in range(8):
            shade = 170 if (i + j) % 2 else 0
            draw.rectangle((i * step, j * step, i * step + step - 1, j * step + step - 1), fill=shade)
    for i in range(9):
        draw.line((i * step, 0, i * step, side), fill=255, width=side // 64)
        draw.line((0, i * step, side, i * step), fill=255, width=side // 64)
    return (95, 50, 20), 0.65


def _rings(draw: ImageDraw.ImageDraw, side: int) -> tuple[Colour, float]:
    for i in range(1, 9):
        r = side * i / 11
        draw.ellipse((side / 2 - r, side / 2 - r, side / 2 + r, side / 2 + r), outline=255, width=side // 22)
    return (255, 255, 230), 0.75


def _rays(draw: ImageDraw.ImageDraw, side: int) -> tuple[Colour, float]:
    for i in range(12):
        draw.pieslice((-side, -side, 2 * side, 2 * side), i * 30, i * 30 + 15, fill=255)
    return (255, 255, 255), 0.55


_PATTERNS: Mapping[str, Pattern] = MappingProxyType(
    {"marlo": _stripes, "venka": _dots, "orlin": _waves, "tessa": _tiles, "brumo": _rings, "kaspa": _rays}
)
