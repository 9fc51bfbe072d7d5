"""Draws the plain shapes, which alone of all subjects come in every colour."""

from __future__ import annotations

import math

from PIL import ImageDraw

__all__ = ["draw_shape"]

Colour = tuple[int, int, int]


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
