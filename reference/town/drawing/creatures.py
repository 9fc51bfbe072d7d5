"""Draws animals and named characters: few large parts in strong colours, to be told apart at 25 pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from reference.town.drawing.pen import INK, PAPER, Pen

__all__ = ["CREATURES"]


def _cat(pen: Pen) -> None:
    fur, dark = (235, 140, 45), (170, 85, 20)
    for side in (-1, 1):
        pen.area([(side * 0.88, -1.0), (side * 0.9, 0.0), (side * 0.2, -0.5)], fur)
        pen.area([(side * 0.76, -0.72), (side * 0.76, -0.3), (side * 0.45, -0.45)], (250, 190, 190))
    pen.disc(0, 0.12, 0.95, 0.82, fur)
    for x in (-0.22, 0, 0.22):
        pen.line([(x, -0.65), (x, -0.35)], 0.1, dark)
    pen.both(0.4, -0.02, 0.2, 0.24, (210, 240, 120))
    pen.both(0.4, -0.02, 0.08, 0.22, INK)
    pen.disc(0, 0.5, 0.42, 0.3, PAPER)
    pen.area([(-0.14, 0.3), (0.14, 0.3), (0, 0.48)], (240, 110, 130))
    for side in (-1, 1):
        for y in (0.4, 0.6):
            pen.line([(side * 0.4, y - 0.04), (side * 1.05, y - 0.08)], 0.06, PAPER)


def _rabbit(pen: Pen) -> None:
    fur = (238, 232, 238)
    pen.both(0.36, -0.6, 0.22, 0.5, fur)
    pen.both(0.36, -0.58, 0.1, 0.38, (245, 150, 175))
    pen.disc(0, 0.35, 0.72, 0.65, fur)
    pen.both(0.3, 0.22, 0.12, 0.15, (200, 30, 60))
    pen.disc(0, 0.5, 0.12, 0.09, (245, 130, 160))
    pen.box(-0.13, 0.62, 0.13, 0.9, PAPER)
    pen.line([(0, 0.62), (0, 0.9)], 0.05, INK)
    pen.line([(-0.13, 0.9), (0.13, 0.9)], 0.05, INK)


def _fish(pen: Pen) -> None:
    body, fin = (20, 170, 190), (250, 160, 40)
    pen.area([(0.45, 0), (1.05, -0.62), (1.05, 0.62)], fin)
    pen.area([(-0.3, -0.4), (0.15, -0.85), (0.4, -0.3)], fin)
    pen.area([(-0.2, 0.4), (0.1, 0.8), (0.35, 0.3)], fin)
    pen.disc(-0.2, 0, 0.85, 0.55, body)
    for x in (-0.05, 0.25):
        pen.line([(x, -0.4), (x + 0.12, 0), (x, 0.4)], 0.12, (230, 250, 250))
    pen.disc(-0.62, -0.12, 0.2, 0.2, PAPER)
    pen.disc(-0.64, -0.12, 0.1, 0.1, INK)


def _turtle(pen: Pen) -> None:
    skin, shell = (150, 200, 90), (60, 110, 50)
    pen.disc(-0.82, 0.1, 0.26, 0.25, skin)
    pen.both(0.42, 0.58, 0.2, 0.28, skin)
    pen.area([(0.7, 0.3), (1.05, 0.5), (0.7, 0.55)], skin)
    pen.pie(0.08, 0.45, 0.85, 1.1, 180, 360, shell)
    pen.box(-0.77, 0.4, 0.93, 0.55, (110, 75, 35))
    for x, y in ((-0.35, 0.15), (0.08, -0.25), (0.5, 0.15)):
        pen.disc(x, y, 0.2, 0.17, (140, 180, 70))
    pen.disc(-0.9, 0.04, 0.08, 0.08, INK)


def _owl(pen: Pen) -> None:
    brown, pale = (120, 75, 40), (225, 190, 140)
    pen.area([(-0.75, -1.0), (-0.75, -0.2), (-0.1, -0.6)], brown)
    pen.area([(0.75, -1.0), (0.75, -0.2), (0.1, -0.6)], brown)
    pen.disc(0, 0.12, 0.8, 0.88, brown)
    pen.disc(0, 0.5, 0.48, 0.42, pale)
    for y in (0.35, 0.6):
        pen.line([(-0.3, y), (-0.15, y + 0.12), (0, y), (0.15, y + 0.12), (0.3, y)], 0.07, brown)
    pen.both(0.36, -0.25, 0.36, 0.36, (250, 225, 90))
    pen.both(0.36, -0.25, 0.17, 0.17, INK)
    pen.area([(-0.13, -0.1), (0.13, -0.1), (0, 0.18)], (240, 140, 30))


def _snail(pen: Pen) -> None:
    body, shell, swirl = (230, 200, 120), (190, 80, 120), (110, 30, 70)
    pen.area([(-1.0, 0.8), (-0.95, 0.1), (-0.6, 0.1), (-0.5, 0.5), (1.0, 0.55), (1.1, 0.8)], body)
    pen.disc(-0.8, 0.05, 0.22, 0.22, body)
    for x in (-0.95, -0.65):
        pen.line([(-0.8, 0), (x, -0.55)], 0.08, body)
        pen.disc(x, -0.58, 0.1, 0.1, INK)
    pen.disc(0.25, -0.05, 0.72, 0.72, shell)
    pen.ring(0.25, -0.05, 0.55, 0.13, swirl)
    pen.ring(0.3, 0.0, 0.28, 0.13, swirl)


def _pip(pen: Pen) -> None:
    """A small black bird with a white face, round eyes and an orange beak."""
    pen.disc(0, 0, 1, 1, (25, 25, 35))
    pen.disc(0, 0.12, 0.7, 0.74, PAPER)
    pen.both(0.34, -0.15, 0.17, 0.17, INK)
    pen.area([(-0.28, 0.14), (0.28, 0.14), (0, 0.56)], (240, 120, 20))


def _bolo(pen: Pen) -> None:
    """A square steel robot with a red antenna, cyan eyes and a toothed mouth."""
    steel, dark = (150, 165, 180), (70, 80, 95)
    pen.line([(0, -0.6), (0, -0.95)], 0.1, dark)
    pen.disc(0, -0.92, 0.16, 0.16, (230, 40, 40))
    pen.box(-1.0, -0.1, 1.0, 0.3, dark)
    pen.box(-0.82, -0.65, 0.82, 0.95, steel)
    pen.box(-0.62, -0.4, -0.14, 0.05, (40, 240, 250))
    pen.box(0.14, -0.4, 0.62, 0.05, (40, 240, 250))
    pen.box(-0.55, 0.35, 0.55, 0.7, dark)
    for x in (-0.35, 0, 0.35):
        pen.box(x - 0.08, 0.35, x + 0.08, 0.7, PAPER)


def _zuzu(pen: Pen) -> None:
    """A violet one-eyed monster with two horns and a wide grin."""
    skin = (150, 60, 200)
    for side in (-1, 1):
        pen.area([(side * 0.35, -0.6), (side * 0.7, -1.05), (side * 0.8, -0.3)], (250, 220, 90))
    pen.disc(0, 0.05, 0.85, 0.8, skin)
    for x in (-0.55, 0, 0.55):
        pen.disc(x, 0.75, 0.28, 0.24, skin)
    pen.disc(0, -0.15, 0.42, 0.42, PAPER)
    pen.disc(0, -0.12, 0.2, 0.2, (20, 130, 60))
    pen.disc(0, -0.12, 0.1, 0.1, INK)
    pen.pie(0, 0.38, 0.5, 0.34, 0, 180, (60, 10, 60))
    pen.area([(-0.3, 0.38), (-0.1, 0.38), (-0.2, 0.56)], PAPER)
    pen.area([(0.3, 0.38), (0.1, 0.38), (0.2, 0.56)], PAPER)


def _tika(pen: Pen) -> None:
    """A pink ghost with a green leaf on its head and rosy cheeks."""
    skin, blush = (255, 205, 225), (250, 90, 130)
    pen.disc(0, -0.1, 0.72, 0.72, skin)
    pen.box(-0.72, -0.1, 0.72, 0.7, skin)
    for x in (-0.48, 0, 0.48):
        pen.disc(x, 0.7, 0.24, 0.28, skin)
    pen.area([(0, -0.75), (0.15, -1.1), (0.85, -1.05), (0.5, -0.65)], (60, 170, 60))
    pen.both(0.28, -0.2, 0.12, 0.2, INK)
    pen.both(0.48, 0.18, 0.16, 0.11, blush)
    pen.disc(0, 0.25, 0.14, 0.16, (150, 30, 60))


CREATURES: Mapping[str, Callable[[Pen], None]] = MappingProxyType(
    {
        "cat": _cat,
        "rabbit": _rabbit,
        "fish": _fish,
        "turtle": _turtle,
        "owl": _owl,
        "snail": _snail,
        "pip": _pip,
        "bolo": _bolo,
        "zuzu": _zuzu,
        "tika": _tika,
    }
)
