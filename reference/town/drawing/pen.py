"""A pen that draws in a subject's own coordinates: its centre is (0, 0), its half extent is 1, y points down."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

__all__ = ["INK", "PAPER", "Colour", "Pen"]

Colour = tuple[int, int, int]
Point = tuple[float, float]

PAPER: Colour = (250, 250, 245)
INK: Colour = (15, 15, 20)


class Pen:
    """Draws shapes on a picture; every length is a share of the half extent."""

    def __init__(self, image: Image.Image, x: float, y: float, radius: float) -> None:
        self._draw = ImageDraw.Draw(image)
        self._x, self._y, self._r = x, y, radius

    def _at(self, points: Sequence[Point]) -> list[Point]:
        return [(self._x + self._r * a, self._y + self._r * b) for a, b in points]

    def disc(self, x: float, y: float, wide: float, high: float, fill: Colour) -> None:
        """A filled ellipse around (x, y)."""
        (left, top), (right, bottom) = self._at([(x - wide, y - high), (x + wide, y + high)])
        self._draw.ellipse((left, top, right, bottom), fill=fill)

    def ring(self, x: float, y: float, radius: float, width: float, fill: Colour) -> None:
        """A circle's line."""
        (left, top), (right, bottom) = self._at([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse((left, top, right, bottom), outline=fill, width=max(1, round(self._r * width)))

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """A filled rectangle."""
        (a, b), (c, d) = self._at([(left, top), (right, bottom)])
        self._draw.rectangle((a, b, c, d), fill=fill)

    def area(self, points: Sequence[Point], fill: Colour) -> None:
        """A filled polygon."""
        self._draw.polygon(self._at(points), fill=fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A thick line through the points."""
        self._draw.line(self._at(points), fill=fill, width=max(1, round(self._r * width)), joint="curve")

    def pie(self, x: float, y: float, wide: float, high: float, start: float, end: float, fill: Colour) -> None:
        """A sector of an ellipse; angles in degrees, clockwise from the right."""
        (left, top), (right, bottom) = self._at([(x - wide, y - high), (x + wide, y + high)])
        self._draw.pieslice((left, top, right, bottom), start, end, fill=fill)

    def both(self, x: float, y: float, wide: float, high: float, fill: Colour) -> None:
        """Two ellipses, mirrored left and right: eyes, cheeks, ears."""
        self.disc(-x, y, wide, high, fill)
        self.disc(x, y, wide, high, fill)
