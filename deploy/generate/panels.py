"""The parts of a dashboard, and the queries that panels use most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from deploy.generate.queries import CHOSEN, Query

__all__ = ["Dashboard", "Panel", "Row", "mean", "of_process", "one", "quantiles", "rate"]

PanelKind = Literal["timeseries", "stat", "table"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One question and the queries that answer it; `unit` is Grafana's name, `red` the value from which it is red.
    `says`: what is shown in place of some values.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: PanelKind = "timeseries"
    red: float | None = None
    about: str = ""
    says: tuple[tuple[float, str], ...] = ()

    @property
    def shown_in(self) -> str:
        """The unit. What is a rate and has no other is counted a second."""
        rates = all("rate(" in query.expression and " / " not in query.expression for query in self.queries)
        return "cps" if rates and self.unit == "short" else self.unit


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


def of_process(title: str, expression: str, unit: str) -> Panel:
    """A panel of the workers' processes. `#` in the expression stands for the servers that are chosen."""
    return Panel(title, (Query(expression.replace("#", f"{{{CHOSEN}}}"), "{{instance}} {{pid}}"),), unit)


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
