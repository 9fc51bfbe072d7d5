"""The only place where metric names exist.

`CATALOGUE` is data (dashboards and alert rules will be generated from it); `Recorder` is the verbs that the other
modules call, so that no label value is made up elsewhere. Every label has a closed set of values or is capped: beyond
the cap a value becomes `other`. Prompts, users, tenants, seeds, digests and ids are never labels.

Gauges state a mode that survives several worker processes; `prometheus_client` decides at import whether it writes to
files, so the environment must hold `PROMETHEUS_MULTIPROC_DIR` before this module is imported (BentoML sees to it in
its workers).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from policies import CODES

__all__ = ["CATALOGUE", "Metric", "Outcome", "Recorder", "Stage", "forget_dead_workers", "render"]

PREFIX = "palimpsest_"
RULES_SHOWN = 200

Outcome = Literal[
    "ok", "labelled", "steered", "refused", "client_error", "busy", "deadline", "cancelled", "error", "unavailable"
]
Stage = Literal["sense_prompt", "decide", "plan", "queue", "generate", "sense_picture", "blur", "encode", "audit"]
Reload = Literal["ok", "failed"]

_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
_ROWS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: name without the prefix, meaning, labels; `mode` for gauges, `buckets` for histograms."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    mode: Literal["livesum", "livemin", "livemax", "livemostrecent"] = "livesum"
    buckets: tuple[float, ...] = _SECONDS

    def build(self, registry: CollectorRegistry) -> Any:
        """The metric object, registered."""
        name = PREFIX + self.name
        if self.kind == "counter":
            return Counter(name, self.help, self.labels, registry=registry)
        if self.kind == "gauge":
            return Gauge(name, self.help, self.labels, multiprocess_mode=self.mode, registry=registry)
        return Histogram(name, self.help, self.labels, buckets=self.buckets, registry=registry)


CATALOGUE: tuple[Metric, ...] = (
    Metric("requests_total", "counter", "Answered requests by endpoint and outcome.", ("endpoint", "outcome")),
    Metric("request_duration_seconds", "histogram", "Time from arrival to answer.", ("endpoint",)),
    Metric("stage_duration_seconds", "histogram", "Time spent in a stage of a request.", ("stage",)),
    Metric("images_total", "counter", "Pictures that left, by the verdict they left under.", ("verdict",)),
    Metric("decisions_total", "counter", "Final decisions by rule, verdict and mode.", ("rule", "verdict", "mode")),
    Metric("shadow_differences_total", "counter", "Decisions that shadow rules would change.", ("enforced", "shadow")),
    Metric("rungs_total", "counter", "Rungs climbed for a picture, and whether it then passed.", ("rung", "result")),
    Metric("extra_generations_total", "counter", "Pictures generated again by the closed loop."),
    Metric("detector_errors_total", "counter", "Readings that failed or ran out of time.", ("detector", "reason")),
    Metric("queue_depth", "gauge", "Pictures that wait for the engine."),
    Metric("queue_rejections_total", "counter", "Requests turned away because the queue was full."),
    Metric("batch_rows", "histogram", "Pictures in a batch, padding included.", (), buckets=_ROWS),
    Metric("batch_padding_rows_total", "counter", "Rows that only pad a batch to its shape."),
    Metric("cancelled_pictures_total", "counter", "Pictures dropped because nobody waits for them.", ("reason",)),
    Metric("fallbacks_total", "counter", "Pictures made by whole-prompt replacement instead of steering.", ("reason",)),
    Metric("engine_ready", "gauge", "Workers whose engine is ready."),
    Metric("engine_beat_timestamp_seconds", "gauge", "When an engine last moved; the oldest worker's.", (), "livemin"),
    Metric("policy_generation_min", "gauge", "Lowest policy generation in use.", (), "livemin"),
    Metric("policy_generation_max", "gauge", "Highest policy generation in use.", (), "livemax"),
    Metric("policy_loaded_timestamp_seconds", "gauge", "When the policies in use were loaded.", (), "livemin"),
    Metric("policy_reloads_total", "counter", "Attempts to load changed policies.", ("result",)),
    Metric("policy_refusals_total", "counter", "Changed policies that were refused, by what was wrong.", ("reason",)),
    Metric("policy_exemptions_total", "counter", "Requests that an exception spared from a rule.", ("rule",)),
    Metric("policy_last_reload_failed", "gauge", "1 while the files on disk are not what is in use.", (), "livemax"),
    Metric("unfit_rules", "gauge", "Rules of the policies in use that no pack of the model fits.", (), "livemax"),
    Metric("audit_events_total", "counter", "Audit records by result.", ("result",)),
    Metric("build_info", "gauge", "1; version and model as labels.", ("version", "model"), "livemax"),
)  # fmt: skip


class Recorder:
    """The verbs that move the metrics; one object a process."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._by_name = {m.name: m.build(registry) for m in CATALOGUE}
        self._rules: set[str] = set()
        self._lock = threading.Lock()

    @classmethod
    def apart(cls) -> Recorder:
        """A recorder that nobody scrapes, for a runtime beside the process's own."""
        return cls(CollectorRegistry())

    def request(self, endpoint: str, outcome: Outcome, seconds: float) -> None:
        """One answered request; `endpoint` is a name of ours, never a raw path."""
        self._by_name["requests_total"].labels(endpoint, outcome).inc()
        self._by_name["request_duration_seconds"].labels(endpoint).observe(seconds)

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Observes the seconds of the block, also when it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_took(stage, time.perf_counter() - start)

    def stage_took(self, stage: Stage, seconds: float) -> None:
        """Observes seconds that were measured elsewhere, such as on the engine thread."""
        self._by_name["stage_duration_seconds"].labels(stage).observe(seconds)

    def decision(self, rules: tuple[str, ...], verdict: str, *, mode: Literal["enforce", "shadow"]) -> None:
        """A final decision, once for each rule that took part."""
        for rule in rules:
            self._by_name["decisions_total"].labels(self._shown(rule), verdict, mode).inc()

    def shadow_difference(self, enforced: str, shadow: str) -> None:
        """The shadow rules would have answered otherwise."""
        self._by_name["shadow_differences_total"].labels(enforced, shadow).inc()

    def image(self, verdict: str) -> None:
        """A picture left."""
        self._by_name["images_total"].labels(verdict).inc()

    def rung(self, rung: str, result: Literal["passed", "failed"]) -> None:
        """A rung was climbed and the picture judged again."""
        self._by_name["rungs_total"].labels(rung, result).inc()

    def extra_generation(self) -> None:
        """A picture was made again."""
        self._by_name["extra_generations_total"].inc()

    def detector_error(self, detector: Literal["prompt", "picture"], reason: Literal["timeout", "error"]) -> None:
        """A reading failed."""
        self._by_name["detector_errors_total"].labels(detector, reason).inc()

    def queue_depth(self, pictures: int) -> None:
        """How many pictures wait now."""
        self._by_name["queue_depth"].set(pictures)

    def turned_away(self) -> None:
        """A request met a full queue."""
        self._by_name["queue_rejections_total"].inc()

    def batch(self, rows: int, padding: int) -> None:
        """A batch of `rows` pictures ran, `padding` of them for shape only."""
        self._by_name["batch_rows"].observe(rows)
        self._by_name["batch_padding_rows_total"].inc(padding)

    def dropped(self, reason: Literal["disconnect", "deadline", "shutdown"]) -> None:
        """A picture was given up."""
        self._by_name["cancelled_pictures_total"].labels(reason).inc()

    def fallback(self, reason: Literal["fired", "steering", "unfit"]) -> None:
        """A picture was made with its prompt replaced as a whole."""
        self._by_name["fallbacks_total"].labels(reason).inc()

    def engine(self, *, ready: bool) -> None:
        """The engine's state and the time of this report."""
        self._by_name["engine_ready"].set(int(ready))
        self._by_name["engine_beat_timestamp_seconds"].set(time.time())

    def policies(self, *, generation: int, loaded: float, unfit: int) -> None:
        """A snapshot came into use."""
        self._by_name["policy_generation_min"].set(generation)
        self._by_name["policy_generation_max"].set(generation)
        self._by_name["policy_loaded_timestamp_seconds"].set(loaded)
        self._by_name["unfit_rules"].set(unfit)

    def reload(self, result: Reload, *, codes: Iterable[str] = ()) -> None:
        """An attempt to load changed files ended; `codes` are the kinds of problems that it failed for."""
        self._by_name["policy_reloads_total"].labels(result).inc()
        self._by_name["policy_last_reload_failed"].set(int(result == "failed"))
        for code in set(codes):
            self._by_name["policy_refusals_total"].labels(code).inc()

    def exempted(self, rules: Iterable[str]) -> None:
        """A request was spared from these rules."""
        for rule in rules:
            self._by_name["policy_exemptions_total"].labels(self._shown(rule)).inc()

    def audit(self, result: Literal["written", "error"]) -> None:
        """An audit record was written, or could not be."""
        self._by_name["audit_events_total"].labels(result).inc()

    def build(self, version: str, model: str) -> None:
        """What runs here."""
        self._by_name["build_info"].labels(version, model).set(1)

    def start(self) -> None:
        """Makes the series of closed label sets exist at zero, so that a rate of nothing is zero and not absent."""
        closed: Mapping[str, tuple[str, ...]] = {
            "rungs_total": ("wider", "swap-prompt", "blur"),
            "detector_errors_total": ("prompt", "picture"),
            "fallbacks_total": ("fired", "steering", "unfit"),
            "policy_reloads_total": get_args(Reload),
            "policy_refusals_total": CODES,
            "audit_events_total": ("written", "error"),
        }
        seconds = {"rungs_total": ("passed", "failed"), "detector_errors_total": ("timeout", "error")}
        for name, values in closed.items():
            for value in values:
                for second in seconds.get(name, (None,)):
                    self._by_name[name].labels(*([value] if second is None else [value, second]))
        for outcome in get_args(Outcome):
            self._by_name["requests_total"].labels("generations", outcome)

    def _shown(self, rule: str) -> str:
        with self._lock:
            if len(self._rules) < RULES_SHOWN:
                self._rules.add(rule)
            return rule if rule in self._rules else "other"


def render() -> tuple[bytes, str]:
    """The metrics of all workers as Prometheus text, and its content type."""
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST


def forget_dead_workers(folder: Path) -> None:
    """Drops the live gauges of worker processes that are gone; nobody else does it for a killed one."""
    for pid in {int(p.stem.rsplit("_", 1)[1]) for p in folder.glob("gauge_live*_*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))
        except PermissionError:  # alive, another user's
            continue
