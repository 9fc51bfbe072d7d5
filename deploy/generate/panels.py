"""The parts of a dashboard, and the queries that panels use most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from deploy.generate.queries import Query

__all__ = ["Dashboard", "Panel", "Row", "mean", "one", "quantiles", "rate"]

PanelKind = Literal["timeseries", "stat", "table"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One question and the queries that answer it; `unit` is Grafana's name, `red` the value from which it is red."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: PanelKind = "timeseries"
    red: float | None = None
    about: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard; its file and its address are named `name`."""

    name: str
    title: str
    about: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> Iterable[Panel]:
        return (panel for row in self.rows for panel in row.panels)


def one(title: str, expression: str, legend: str = "", **looks: object) -> Panel:
    return Panel(title, (Query(expression, legend),), **looks)  # type: ignore[arg-type]  # the fields of Panel


def rate(name: str, by: str) -> Query:
    """The rate of a counter by labels."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return Query(f"sum by ({by}) (rate(@{name}[$__rate_interval]))", legend)


def quantiles(name: str, by: str = "", where: str = "", at: Iterable[float] = (0.5, 0.95)) -> tuple[Query, ...]:
    """Quantiles of a histogram, one line per label value."""
    labels, legend = (f"le, {by}", f"{{{{{by}}}}} ") if by else ("le", "")
    return tuple(
        Query(
            f"histogram_quantile({q:g}, sum by ({labels}) (rate(@{name}_bucket{where}[$__rate_interval])))",
            f"{legend}p{round(100 * q)}",
        )
        for q in at
    )


def mean(name: str, by: str = "") -> Query:
    """The mean of a histogram."""
    over = f" by ({by})" if by else ""
    parts = (f"sum{over} (rate(@{name}_{part}[$__rate_interval]))" for part in ("sum", "count"))
    return Query(" / ".join(parts), f"{{{{{by}}}}}" if by else "mean")
