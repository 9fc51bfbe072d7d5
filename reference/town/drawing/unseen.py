"""Creatures that no model of ours has seen: procedural subjects for personalization, each made from an integer.

A creature has eight attributes that each can be seen at 25 pixels. Two that differ in one attribute are sisters: the
hardest ones to tell apart. `paint(scene, size, drawing=creature.draw)` draws one in the stead of the scene's animal.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

from reference.town.drawing.pen import INK, PAPER, Colour, Pen
from reference.town.scenes import COLOURS

__all__ = ["ATTRIBUTES", "Creature"]

# the town's own colours: the models' autoencoder was trained on no others, and draws others as the nearest of these
_MARKS: Mapping[str, Colour] = MappingProxyType(
    {"yellow": COLOURS["yellow"], "pink": COLOURS["pink"], "white": PAPER, "black": INK}
)
_COATS: Mapping[str, Colour] = MappingProxyType(
    {name: COLOURS[name] for name in ("red", "green", "blue", "purple", "orange", "gray")}
)
# attribute -> its values
ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "body": ("round", "tall", "wide", "square", "cone", "cloud"),
        "crown": ("pricked", "long", "floppy", "antennae", "crest", "horn"),
        "eyes": ("one", "two", "three", "goggles"),
        "tail": ("ball", "fork", "curl", "wings"),
        "pattern": ("belly", "stripes", "spots", "band"),
        "coat": tuple(_COATS),
        "marks": tuple(_MARKS),
        "trim": tuple(_MARKS),
    }
)
# body -> the ellipse inside it that carries face and pattern (its middle's y, half width, half height), and where crown
# and tail grow: the body's top, and its edge at a quarter below the middle
_TRUNKS: Mapping[str, tuple[float, float, float, float, float]] = MappingProxyType(
    {
        "round": (0.12, 0.78, 0.78, -0.66, 0.68),
        "tall": (0.05, 0.54, 0.92, -0.87, 0.46),
        "wide": (0.15, 0.98, 0.55, -0.4, 0.8),
        "square": (0.15, 0.72, 0.72, -0.57, 0.66),
        "cone": (0.32, 0.62, 0.6, -0.6, 0.72),
        "cloud": (0.12, 0.66, 0.66, -0.72, 0.9),
    }
)


@dataclass(frozen=True, slots=True)
class Creature:
    """One creature; each field is one of its `ATTRIBUTES`.

    Attributes:
        body, crown, eyes, tail, pattern: shapes.
        coat, marks, trim: the colours of the body, of its pattern, and of crown and tail.
    """

    body: str
    crown: str
    eyes: str
    tail: str
    pattern: str
    coat: str
    marks: str
    trim: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value, offered = getattr(self, field.name), ATTRIBUTES[field.name]
            if value not in offered:
                raise ValueError(f"{field.name} must be one of {offered}, got `{value}`")

    @classmethod
    def of(cls, seed: int) -> Creature:
        """The creature of a seed, one of 221,184: two seeds seldom give the same one."""
        rng = random.Random(f"creature/{seed}")
        return cls(**{name: rng.choice(values) for name, values in ATTRIBUTES.items()})

    def sisters(self) -> tuple[Creature, ...]:
        """All creatures that differ from this one in one attribute."""
        return tuple(
            replace(self, **{name: value})
            for name, values in ATTRIBUTES.items()
            for value in values
            if value != getattr(self, name)
        )

    def draw(self, pen: Pen) -> None:
        """Draws it with a subject's pen."""
        middle, wide, high, top, edge = _TRUNKS[self.body]
        coat, marks, trim = _COATS[self.coat], _MARKS[self.marks], _MARKS[self.trim]
        _tail(pen, self.tail, edge, middle + 0.25, trim)
        _crown(pen, self.crown, top, min(wide, 0.75), trim)
        _body(pen, self.body, coat)
        _pattern(pen, self.pattern, middle, wide, high, marks)
        _face(pen, self.eyes, middle - 0.28 * high, wide)


def _body(pen: Pen, body: str, coat: Colour) -> None:
    middle, wide, high, *_ = _TRUNKS[body]
    if body == "square":
        pen.box(-wide, middle - high, wide, middle + high, coat)
    elif body == "cone":
        pen.area([(-0.25, -0.5), (0.25, -0.5), (0.95, 0.92), (-0.95, 0.92)], coat)
        pen.disc(0, -0.42, 0.3, 0.26, coat)
    elif body == "cloud":
        for x, y in ((-0.5, -0.3), (0.5, -0.3), (-0.66, 0.3), (0.66, 0.3), (0, 0.62), (0, -0.4)):
            pen.disc(x, y, 0.36, 0.36, coat)
        pen.disc(0, middle, wide, high, coat)
    else:
        pen.disc(0, middle, wide, high, coat)
    if body == "wide":
        for x in (-0.62, -0.25, 0.25, 0.62):
            pen.box(x - 0.11, 0.45, x + 0.11, 0.98, coat)


def _crown(pen: Pen, crown: str, top: float, wide: float, trim: Colour) -> None:
    for side in (-1, 1):
        if crown == "pricked":
            pen.area([(side * wide, top - 0.3), (side * wide, top + 0.5), (side * 0.1, top + 0.1)], trim)
        elif crown == "long":
            pen.disc(side * 0.28, top - 0.15, 0.15, 0.5, trim)
        elif crown == "floppy":
            pen.disc(side * (wide + 0.12), top + 0.5, 0.22, 0.5, trim)
        elif crown == "antennae":
            pen.line([(side * 0.15, top + 0.2), (side * 0.45, top - 0.32)], 0.1, trim)
            pen.disc(side * 0.45, top - 0.32, 0.17, 0.17, trim)
    if crown == "crest":
        for x in (-0.4, 0, 0.4):
            pen.area([(x - 0.24, top + 0.3), (x, top - 0.38), (x + 0.24, top + 0.3)], trim)
    elif crown == "horn":
        pen.area([(-0.22, top + 0.15), (0.22, top + 0.15), (0, top - 0.6)], trim)


def _tail(pen: Pen, tail: str, edge: float, low: float, trim: Colour) -> None:
    if tail == "ball":
        pen.line([(edge, low), (edge + 0.4, low - 0.3)], 0.12, trim)
        pen.disc(edge + 0.4, low - 0.3, 0.24, 0.24, trim)
    elif tail == "fork":
        pen.area([(edge - 0.1, low), (edge + 0.55, low - 0.5), (edge + 0.35, low), (edge + 0.55, low + 0.5)], trim)
    elif tail == "curl":
        pen.ring(edge + 0.2, low + 0.08, 0.36, 0.15, trim)
    else:
        for side in (-1, 1):
            pen.area([(side * edge, low), (side * (edge + 0.5), low - 0.65), (side * (edge + 0.5), low + 0.1)], trim)


def _pattern(pen: Pen, pattern: str, middle: float, wide: float, high: float, marks: Colour) -> None:
    if pattern == "belly":
        pen.disc(0, middle + 0.45 * high, 0.6 * wide, 0.5 * high, marks)
    elif pattern == "stripes":
        for x in (-0.66, -0.22, 0.22, 0.66):
            reach = 0.9 * high * (1 - x * x) ** 0.5
            pen.line([(x * wide, middle - reach), (x * wide, middle + reach)], 0.17 * wide, marks)
    elif pattern == "spots":
        for x, y in ((-0.6, 0.2), (-0.2, 0.62), (0.28, 0.3), (0.55, -0.28), (-0.4, -0.52), (0.15, -0.75)):
            pen.disc(x * wide, middle + y * high, 0.15, 0.15, marks)
    else:
        y = middle + 0.4 * high
        pen.box(-0.84 * wide, y - 0.17, 0.84 * wide, y + 0.17, marks)


def _face(pen: Pen, eyes: str, y: float, wide: float) -> None:
    at = min(0.4, 0.5 * wide)
    if eyes == "one":
        pen.disc(0, y, 0.32, 0.32, PAPER)
        pen.disc(0, y, 0.16, 0.16, INK)
    elif eyes == "two":
        pen.both(at, y, 0.13, 0.17, INK)
    elif eyes == "three":
        for x, above in ((-at, 0.1), (0, -0.16), (at, 0.1)):
            pen.disc(x, y + above, 0.17, 0.17, PAPER)
            pen.disc(x, y + above, 0.09, 0.09, INK)
    else:
        pen.both(at * 0.8, y, 0.3, 0.3, INK)
        pen.both(at * 0.8, y, 0.2, 0.2, (255, 235, 90))
