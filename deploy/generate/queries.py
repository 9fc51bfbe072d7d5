"""Queries over our metrics: `@name` stands for a metric of the catalogue.

A metric that does not exist, or a label that its metric does not have, is an error when the query is written. It never
becomes an empty panel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from service.metrics.catalogue import CATALOGUE, PREFIX, Metric

__all__ = ["CHOSEN", "SUFFIXES", "Query", "expand", "metric_of", "names_in"]

SUFFIXES = ("_bucket", "_count", "_sum")
CHOSEN = 'job=~"$job",namespace=~"$namespace",instance=~"$instance"'  # the variables of a dashboard
_BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in CATALOGUE}
_USE = re.compile(r"@([a-z_]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'\s*([a-z_]+)\s*(?:=~|!~|!=|=)\s*"[^"]*"\s*')


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression, with `@name` for our metrics, and the legend of its series."""

    expression: str
    legend: str = ""

    @property
    def text(self) -> str:
        """The expression as Grafana sends it, for the servers that are chosen on the dashboard."""
        return expand(self.expression, CHOSEN)


def metric_of(name: str) -> Metric:
    """The metric that a series called `name` (without the prefix) belongs to. Raises `LookupError`."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    for suffix in SUFFIXES:
        metric = _BY_NAME.get(name.removesuffix(suffix))
        if name.endswith(suffix) and metric is not None and metric.kind == "histogram":
            return metric
    raise LookupError(f"no metric `{name}` in the catalogue")


def names_in(queries: Iterable[Query]) -> Iterator[str]:
    """The names, without the prefix, of the series that queries ask for."""
    return (use.group(1) for query in queries for use in _USE.finditer(query.expression))


def expand(expression: str, chosen: str = "") -> str:
    """`expression` with the full name of every `@name`, and `chosen` among the matchers of each. Raises `LookupError`
    for an unknown metric or label.
    """
    return _USE.sub(partial(_expanded, chosen), expression)


def _expanded(chosen: str, use: re.Match[str]) -> str:
    name, matchers = use.group(1), use.group(2)
    metric = metric_of(name)
    labels = {label.name for label in metric.labels}
    for matcher in matchers.split(",") if matchers else ():
        found = _MATCHER.fullmatch(matcher)
        if found is None or found.group(1) not in labels:
            raise LookupError(f"`{name}` has the labels {sorted(labels)}, got the matcher `{matcher}`")
    wanted = ",".join(filter(None, (matchers, chosen)))
    return f"{PREFIX}{name}" + (f"{{{wanted}}}" if wanted else "")
