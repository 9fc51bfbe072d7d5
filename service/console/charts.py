"""Charts as data for the SVG templates: lines over an axis, in the coordinates of the drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Chart", "Line", "chart"]

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 200, 46, 14, 12, 28
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its places as an SVG `points` attribute, and its values."""

    name: str
    points: str
    dots: tuple[tuple[float, float], ...]
    values: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its ticks: places and texts. `level`: the place of a horizontal mark, such as a target."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    level: float | None = None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    floor: int = HEIGHT - BOTTOM

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw yet."""
        return not any(line.values for line in self.lines)


def chart(
    title: str,
    unit: str,
    lines: Mapping[str, Points],
    *,
    x: tuple[float, float],
    x_ticks: Mapping[float, str],
    level: float | None = None,
) -> Chart:
    """The chart of `lines` for x within `x`. The axis of values begins at 0."""
    top = _nice(max((v for points in lines.values() for _, v in points), default=0.0))
    top = max(top, level or 0.0)

    def place(at: float, value: float) -> tuple[float, float]:
        width = (x[1] - x[0]) or 1.0
        across = LEFT + (WIDTH - LEFT - RIGHT) * (at - x[0]) / width
        return round(across, 1), round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - max(0.0, value) / top), 1)

    drawn = []
    for name, points in lines.items():
        dots = tuple(place(*point) for point in points)
        drawn.append(Line(name, " ".join(f"{a},{b}" for a, b in dots), dots, tuple(points)))
    return Chart(
        title,
        unit,
        tuple(drawn),
        tuple((place(at, 0)[0], text) for at, text in x_ticks.items()),
        tuple((place(x[0], v)[1], f"{v:g}") for v in (0.0, top / 2, top)),
        None if level is None else place(x[0], level)[1],
    )


def _nice(value: float) -> float:
    """The smallest of 1, 2, 5, 10 ... and their tenths that is at least `value`; 1 for nothing."""
    steps = (factor * 10.0**power for power in range(-3, 300) for factor in (1, 2, 5))
    return next(step for step in steps if step >= value) if value > 0 else 1.0
