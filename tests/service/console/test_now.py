"""The charts of the last hour, from samples that are written down."""

from __future__ import annotations

import math

import pytest

from service.console.history import SAMPLED, History, Sample
from service.console.now import charts_of, quantile

BOUNDS = (0.5, 1.0, 2.0, math.inf)


def sample(at: float, pictures: float = 0, counts: tuple[float, ...] = (0, 0, 0, 0), waiting: float = 0) -> Sample:
    values: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in SAMPLED}
    values["images_total"] = {("steer",): pictures}
    values["queue_depth"] = {(): waiting}
    pairs = zip(BOUNDS, counts, strict=True)
    values["request_duration_seconds_bucket"] = {("generations", str(bound)): n for bound, n in pairs}
    return Sample(at, values)


def test_a_quantile_lies_in_its_bucket_and_counts_only_what_came_between() -> None:
    old, new = sample(0, counts=(10, 10, 10, 10)), sample(60, counts=(10, 20, 20, 20))
    assert quantile(old, new, 0.5) == pytest.approx(0.75)
    assert quantile(old, new, 0.95) == pytest.approx(0.975)
    assert quantile(new, new, 0.5) is None


def test_counts_are_per_minute_and_of_the_last_hour() -> None:
    charts = charts_of([sample(-9000, 0), sample(0, 100), sample(30, 110), sample(60, 110, waiting=7)])
    verdicts = {line.name: line.values for line in charts[0].lines}
    assert [(x, pytest.approx(y)) for x, y in verdicts["steer"]] == [(-0.5, 20.0), (0.0, 0.0)]
    assert charts[2].lines[0].values[-1] == (0.0, 7.0)


def test_a_restart_of_the_counters_is_no_negative_count() -> None:
    charts = charts_of([sample(0, 100), sample(30, 3)])
    assert all(y >= 0 for line in charts[0].lines for _, y in line.values)


def test_the_real_metrics_have_every_sample_that_the_charts_read() -> None:
    from service.metrics.recorder import Recorder

    recorder = Recorder.apart()
    recorder.start()
    recorder.request("generations", "ok", 0.7)
    now = History().samples()[-1]
    assert now.values["request_duration_seconds_bucket"][("generations", "+Inf")] >= 1
    assert ("generations", "refused") in now.values["requests_total"]
    assert ("wider", "passed") in now.values["rungs_total"]
    assert () in now.values["queue_depth"]
