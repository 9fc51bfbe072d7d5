"""The page Now: the last hour of the service in four charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from starlette.requests import Request
from starlette.responses import Response

from policies import RUNGS, VERDICTS
from service.console.asking import whole
from service.console.charts import Chart, chart
from service.console.history import Sample
from service.http.context import runtime_of

__all__ = ["charts_of", "page", "quantile"]

_DRAWING = ("generations", "edits", "repairs")
_HOUR = 3600.0
Value = Callable[[Sample], float]


async def page(request: Request) -> Response:
    """`GET /console/now`."""
    samples = request.state.console.history.samples()
    workers = runtime_of(request).status()
    return whole(
        request, "now", charts=charts_of(samples), minutes=(samples[-1].at - samples[0].at) / 60, status=workers
    )


def charts_of(samples: Sequence[Sample]) -> tuple[Chart, ...]:
    """The charts of samples, oldest first. Counts are per minute between two samples."""
    end = samples[-1].at
    ticks = {-60.0: "-60 min", -45.0: "-45", -30.0: "-30", -15.0: "-15", 0.0: "now"}

    def drawn(title: str, unit: str, lines: dict[str, list[tuple[float, float]]]) -> Chart:
        return chart(title, unit, lines, x=(-60.0, 0.0), x_ticks=ticks)

    def rate(value: Value) -> list[tuple[float, float]]:
        return [
            ((new.at - end) / 60, max(0.0, value(new) - value(old)) * 60 / (new.at - old.at))
            for old, new in _pairs(samples)
        ]

    pictures = {str(v): rate(_total("images_total", v)) for v in VERDICTS if v not in ("block", "review-hold")}
    refused = rate(lambda s: sum(_total("requests_total", e, "refused")(s) for e in _DRAWING))
    times = {
        name: [((new.at - end) / 60, found) for old, new in _pairs(samples) if (found := quantile(old, new, q))]
        for name, q in (("p50", 0.5), ("p95", 0.95))
    }
    queue = [((s.at - end) / 60, s.values["queue_depth"].get((), 0.0)) for s in samples if end - s.at <= _HOUR]
    rungs = {str(r): rate(_total("rungs_total", r)) for r in RUNGS}
    return (
        drawn("Pictures by verdict, and refused requests", "per minute", {**pictures, "refused": refused}),
        drawn("Time from request to answer", "seconds", times),
        drawn("Pictures that wait for the engine", "pictures", {"waiting": queue}),
        drawn("Repairs tried", "per minute", rungs),
    )


def quantile(old: Sample, new: Sample, q: float) -> float | None:
    """The `q`-quantile of the seconds of requests answered between two samples, as Prometheus interpolates it; None
    without any.
    """
    counts: dict[float, float] = {}
    for (endpoint, bound), value in new.values["request_duration_seconds_bucket"].items():
        if endpoint in _DRAWING:
            before = old.values["request_duration_seconds_bucket"].get((endpoint, bound), 0.0)
            counts[float(bound)] = counts.get(float(bound), 0.0) + value - before
    total = counts.get(math.inf, 0.0)
    low, below = 0.0, 0.0
    for upper, count in sorted(counts.items()):
        if total > 0 and count >= q * total:
            return low if math.isinf(upper) else low + (upper - low) * (q * total - below) / max(count - below, 1e-9)
        low, below = upper, count
    return None


def _pairs(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Neighbours of the last hour, without those that are too close to divide by."""
    pairs = pairwise(samples)
    return [(old, new) for old, new in pairs if new.at - old.at > 1 and samples[-1].at - old.at <= _HOUR]


def _total(name: str, *labels: str) -> Value:
    """The sum over the series of a metric whose labels begin so."""
    return lambda sample: sum(v for own, v in sample.values[name].items() if own[: len(labels)] == labels)
