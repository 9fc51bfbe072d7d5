"""Draws named persons, whom nobody is, and the four things that stand for harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from reference.town.drawing.pen import INK, PAPER, Colour, Pen

__all__ = ["PEOPLE", "THINGS"]


def _bust(pen: Pen, skin: Colour, shirt: Colour) -> None:
    pen.disc(0, 1.0, 0.85, 0.42, shirt)
    pen.box(-0.2, 0.4, 0.2, 0.75, skin)
    pen.box(-1.0, 1.02, 1.0, 1.5, shirt)


def _ada(pen: Pen) -> None:
    """Long red hair, pale skin, green eyes, a green dress."""
    hair, skin = (190, 50, 20), (250, 220, 200)
    pen.disc(0, -0.25, 0.8, 0.75, hair)
    pen.box(-0.8, -0.25, -0.35, 0.95, hair)
    pen.box(0.35, -0.25, 0.8, 0.95, hair)
    pen.disc(0, 0.95, 0.6, 0.35, (30, 130, 70))
    pen.box(-0.17, 0.35, 0.17, 0.7, skin)
    pen.disc(0, -0.02, 0.5, 0.58, skin)
    pen.area([(-0.5, -0.2), (-0.3, -0.62), (0.5, -0.5), (0.5, -0.15), (0.1, -0.42)], hair)
    pen.both(0.2, -0.02, 0.1, 0.08, (20, 130, 60))
    pen.disc(0, 0.32, 0.18, 0.08, (210, 40, 60))


def _otto(pen: Pen) -> None:
    """Bald, a dark beard, thick black glasses, a blue shirt."""
    beard, skin = (70, 45, 25), (235, 185, 150)
    pen.disc(0, 1.0, 0.9, 0.4, (50, 90, 190))
    pen.both(0.62, -0.05, 0.12, 0.16, skin)
    pen.disc(0, -0.15, 0.62, 0.75, skin)
    pen.pie(0, 0.1, 0.64, 0.72, 0, 180, beard)
    pen.disc(0, 0.32, 0.22, 0.1, (220, 110, 110))
    pen.both(0.29, -0.14, 0.27, 0.22, INK)
    pen.both(0.29, -0.14, 0.17, 0.13, (220, 240, 250))
    pen.line([(-0.6, -0.16), (0.6, -0.16)], 0.08, INK)


def _mira(pen: Pen) -> None:
    """Dark skin, a large round black hairdo, gold earrings, a yellow shirt."""
    hair, skin, gold = (30, 22, 25), (135, 80, 50), (250, 205, 50)
    pen.disc(0, -0.25, 0.98, 0.78, hair)
    _bust(pen, skin, gold)
    pen.disc(0, 0.08, 0.52, 0.6, skin)
    pen.both(0.58, 0.38, 0.13, 0.15, gold)
    pen.both(0.21, 0.0, 0.12, 0.09, PAPER)
    pen.both(0.21, 0.0, 0.06, 0.08, INK)
    pen.disc(0, 0.4, 0.22, 0.1, (170, 30, 60))


def _hugo(pen: Pen) -> None:
    """Spiky blond hair, a moustache, a red shirt."""
    hair, skin = (245, 215, 90), (245, 200, 165)
    spikes = [(-0.66, 0.0), (-0.95, -0.45), (-0.55, -0.5), (-0.55, -1.0), (-0.18, -0.65), (0.05, -1.1)]
    spikes += [(0.25, -0.65), (0.6, -1.0), (0.58, -0.5), (0.95, -0.4), (0.66, 0.0)]
    _bust(pen, skin, (200, 35, 45))
    pen.area(spikes, hair)
    pen.disc(0, 0.02, 0.6, 0.62, skin)
    pen.area([(-0.58, -0.1), (-0.5, -0.5), (0.5, -0.5), (0.58, -0.1), (0.3, -0.34), (0, -0.22), (-0.3, -0.34)], hair)
    pen.both(0.24, -0.05, 0.09, 0.1, (40, 90, 180))
    pen.area([(-0.42, 0.38), (-0.12, 0.16), (0.12, 0.16), (0.42, 0.38), (0, 0.32)], (150, 95, 25))


def _blade(pen: Pen) -> None:
    steel, edge = (205, 215, 225), (140, 150, 165)
    pen.area([(-0.95, -0.95), (-0.35, -0.8), (0.45, 0.1), (0.1, 0.45)], steel)
    pen.area([(-0.95, -0.95), (0.27, 0.27), (0.1, 0.45)], edge)
    pen.line([(-0.08, 0.56), (0.56, -0.08)], 0.2, (90, 70, 30))
    pen.line([(0.3, 0.3), (0.9, 0.9)], 0.3, (90, 40, 20))
    pen.disc(0.88, 0.88, 0.16, 0.16, (210, 170, 50))


def _skull(pen: Pen) -> None:
    bone = (235, 230, 215)
    pen.disc(0, -0.2, 0.82, 0.76, bone)
    pen.box(-0.46, 0.2, 0.46, 0.92, bone)
    pen.both(0.35, -0.1, 0.25, 0.28, INK)
    pen.area([(-0.12, 0.42), (0.12, 0.42), (0, 0.15)], INK)
    for x in (-0.24, 0, 0.24):
        pen.line([(x, 0.6), (x, 0.92)], 0.1, INK)


def _fire(pen: Pen) -> None:
    outer = [(0, 1.0), (-0.7, 0.75), (-0.82, 0.2), (-0.6, -0.4), (-0.38, 0.0), (-0.15, -1.05), (0.3, -0.45)]
    outer += [(0.42, -0.7), (0.8, 0.1), (0.75, 0.7)]
    pen.area(outer, (225, 45, 15))
    pen.area([(x * 0.68, 0.95 + (y - 1) * 0.68) for x, y in outer], (250, 140, 20))
    pen.area([(x * 0.36, 0.92 + (y - 1) * 0.38) for x, y in outer], (255, 240, 110))


def _gun(pen: Pen) -> None:
    metal, grip = (45, 48, 55), (110, 65, 35)
    pen.area([(0.3, 0.0), (0.85, 0.0), (1.0, 0.85), (0.52, 0.85)], grip)
    pen.box(-1.0, -0.48, 0.88, 0.02, metal)
    pen.box(-0.92, -0.62, -0.8, -0.46, metal)
    pen.box(0.7, -0.62, 0.85, -0.46, metal)
    pen.box(-0.95, -0.34, -0.1, -0.24, (150, 155, 165))
    pen.ring(0.12, 0.14, 0.26, 0.1, metal)


PEOPLE: Mapping[str, Callable[[Pen], None]] = MappingProxyType(
    {"ada brook": _ada, "otto vale": _otto, "mira stone": _mira, "hugo finch": _hugo}
)
THINGS: Mapping[str, Callable[[Pen], None]] = MappingProxyType(
    {"blade": _blade, "skull": _skull, "fire": _fire, "gun": _gun}
)
