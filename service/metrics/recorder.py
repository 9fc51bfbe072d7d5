"""Updates the metrics, and renders them for Prometheus.

Only this hall uses the client library, and only this module makes and updates our own metrics, so that every label
value comes from one place. Gauges use multiprocess modes. A gauge that has not been set has an initial value that does
not affect a minimum or maximum. `prometheus_client` decides at import whether it writes to files, so
`PROMETHEUS_MULTIPROC_DIR` must be set before this module is imported (BentoML does this in its workers).
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import copy
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

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

from policies import StrikeKind
from service.metrics.catalogue import (
    CATALOGUE,
    FAILURE,
    OTHER,
    OUTCOME,
    PREFIX,
    ROLLOUT,
    Breaker,
    Link,
    Mark,
    Metric,
    ReadingFailure,
    Reload,
    RequestOutcome,
    RequestStage,
    Rewrite,
    Rollout,
)
from service.metrics.processes import Processes
from service.tracing import Tracing

__all__ = ["Recorder", "forget_dead_workers", "render", "values_of"]

_SPANS = {"sense_prompt": "read", "sense_picture": "read"}  # stages whose spans have another name
_Fold = Callable[[Collection[float]], float]
_LABELS = {metric.name: [label.name for label in metric.labels] for metric in CATALOGUE}


def _built(metric: Metric, registry: CollectorRegistry) -> Any:
    """The registered metric object."""
    name, labels = PREFIX + metric.name, [label.name for label in metric.labels]
    if metric.kind == "counter":
        return Counter(name, metric.help, labels, registry=registry)
    if metric.kind == "histogram":
        return Histogram(name, metric.help, labels, buckets=metric.buckets, registry=registry)
    gauge = Gauge(name, metric.help, labels, multiprocess_mode=metric.mode, registry=registry)
    if not labels:
        gauge.set(metric.initial)
    return gauge


class _Family:
    """One metric of a process. It counts its label sets and never exceeds the maximum."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self.metric = metric
        self._built = _built(metric, registry)
        self._seen: set[tuple[str, ...]] = set(metric.closed_sets)  # `other` always has its place
        self._lock = threading.Lock()

    def at(self, *values: str) -> Any:
        """The series of these label values, or the series of `other` once the maximum is reached."""
        labels = self.metric.labels
        if not labels:
            return self._built
        for label, value in zip(labels, values, strict=True):
            if label.values and value not in label.values:
                raise ValueError(f"`{label.name}` must be one of {', '.join(label.values)}, got `{value}`")
        with self._lock:
            if values not in self._seen:
                if len(self._seen) < self.metric.most:
                    self._seen.add(values)
                else:
                    values = tuple(v if k.values else OTHER for k, v in zip(labels, values, strict=True))
        return self._built.labels(*values)


class _Folded:
    """Gauges that the models of a worker share: what each one says, folded into one value."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, ...], dict[str, float]] = {}
        self._lock = threading.Lock()

    def tell(self, series: Any, key: tuple[str, ...], model: str, value: float, fold: _Fold) -> None:
        """Sets the series of `key` to the fold of what the models said of it last."""
        with self._lock:
            said = self._said.setdefault(key, {})
            said[model] = value
            series.set(fold(said.values()))

    def forget(self, name: str, model: str) -> None:
        """A model says nothing of a gauge any more. The series changes when another one says something."""
        with self._lock:
            self._said.get((name,), {}).pop(model, None)


class Recorder:
    """Updates the metrics, and makes spans of the stages. There is one recorder per process, and a view of it for each
    model (`of`).
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, tracing: Tracing | None = None) -> None:
        self.tracing = tracing or Tracing()
        self._canaries: frozenset[str] = frozenset()
        self._families = {metric.name: _Family(metric, registry) for metric in CATALOGUE}
        self._folded = _Folded()
        self._key = ""  # of the model in folded gauges
        self.model: str | None = None  # the model's name as a label, once it is known

    @classmethod
    def apart(cls) -> Recorder:
        """A recorder with its own registry, for a runtime that is not scraped."""
        return cls(CollectorRegistry())

    def of(self, model: str) -> Recorder:
        """The same recorder for one model. Where models of a worker share a gauge, it is the sum of what they say, or
        the value of the one that stands worst.
        """
        view = copy(self)
        view._key = view.model = model
        return view

    def start(self) -> None:
        """Counts this worker as up, and creates every closed series, so that the rate of an event that never happened
        is zero.
        """
        for family in self._families.values():
            if not family.metric.open and family.metric.kind != "gauge":
                for values in family.metric.closed_sets:
                    family.at(*values)
        for endpoint in ("generations", "edits", "repairs"):
            for outcome in OUTCOME.values:
                self.series("requests_total", endpoint, outcome)
        self.detectors(("prompt", "picture"))  # whole readings; what single detectors could not do has their names
        self.series("workers_up").set(1)

    def request(self, endpoint: str, outcome: RequestOutcome, seconds: float) -> None:
        """One answered request. `endpoint` is a name from the catalogue, never a raw path."""
        self.series("requests_total", endpoint, outcome).inc()
        self.series("request_duration_seconds", endpoint).observe(seconds)

    @contextlib.contextmanager
    def stage(self, stage: RequestStage) -> Iterator[None]:
        """Observes the seconds of the block, also when it raises. If the request is traced, the block is a span."""
        start = time.perf_counter()
        try:
            with self.tracing.span(_SPANS.get(stage, stage), {"palimpsest.stage": stage}):
                yield
        finally:
            self.stage_took(stage, time.perf_counter() - start)

    def stage_took(self, stage: RequestStage, seconds: float) -> None:
        """Observes seconds that were measured elsewhere, for example on the engine thread."""
        self.series("stage_duration_seconds", stage).observe(seconds)

    def decision(self, rules: Iterable[str], verdict: str, *, mode: Literal["enforce", "shadow"]) -> None:
        """A final decision, counted once for each rule that took part. What a canary enforced is counted apart."""
        for rule in rules:
            acting = "canary" if mode == "enforce" and rule in self._canaries else mode
            self.series("decisions_total", rule, verdict, acting).inc()

    def decision_errors(self, rules: Iterable[str], *, stale: bool = False) -> None:
        """Rules that could not be evaluated for one request, and whether its policies are stale."""
        for rule in set(rules):
            self.series("decision_errors_total", rule).inc()
        self.series("stale_decisions_total").inc(int(stale))

    def shadow_difference(self, enforced: str, shadow: str) -> None:
        """The shadow rules would have decided differently."""
        self.series("shadow_differences_total", enforced, shadow).inc()

    def image(self, verdict: str) -> None:
        """A picture was returned."""
        self.series("images_total", verdict).inc()
        if self.model is not None:
            self.series("model_pictures_total", self.model).inc()

    def marked(self, mark: Mark, result: Literal["marked", "failed"]) -> None:
        """A picture got a mark, or could not get it."""
        self.series("marks_total", mark, result).inc()

    def provenance_checked(self, mark: Mark, result: Literal["detected", "not_detected", "invalid"]) -> None:
        """An uploaded file was looked at for a mark."""
        self.series("provenance_checks_total", mark, result).inc()

    def signing_ends(self, at: float) -> None:
        """The epoch time in seconds at which the certificate that signs credentials ends."""
        self.series("signing_certificate_expires_timestamp_seconds").set(at)

    def adapters(self, names: Iterable[str]) -> None:
        """Creates the series of these adapters, so that their pictures count from zero."""
        for name in names:
            self.series("adapter_pictures_total", name)

    def adapted(self, adapter: str) -> None:
        """A picture that was made with an adapter was returned."""
        self.series("adapter_pictures_total", adapter).inc()

    def steered(self, concepts: Iterable[str], *, rows: int, dose: Iterable[float] = ()) -> None:
        """A picture was generated with these concepts steered. Rows and doses of a merged plan count for each."""
        doses = tuple(dose)
        for concept in concepts:
            self.series("steered_pictures_total", concept).inc()
            self.series("steered_rows_total", concept).inc(rows)
            for size in doses:
                self.series("steering_dose", concept).observe(size)

    def rung(self, rung: str, result: Literal["passed", "failed"], seconds: float) -> None:
        """A repair rung ran and the picture was judged again, `seconds` after the rung began."""
        self.series("rungs_total", rung, result).inc()
        self.series("rung_duration_seconds", rung).observe(seconds)

    def extra_generation(self) -> None:
        """A picture was generated again."""
        self.series("extra_generations_total").inc()

    def detector(self, detector: str, seconds: float) -> None:
        """A detector reading ended or timed out after `seconds`."""
        self.series("detector_duration_seconds", detector).observe(seconds)

    def detector_error(self, detector: str, reason: ReadingFailure) -> None:
        """A reading failed."""
        self.series("detector_errors_total", detector, reason).inc()

    def breaker(self, detector: str, state: Breaker) -> None:
        """The state of a detector's circuit breaker."""
        self.series("detector_open", detector).set(int(state != "closed"))

    def queue_depth(self, pictures: int, oldest: float | None = None) -> None:
        """The number of waiting pictures, and the epoch time in seconds at which the oldest one arrived."""
        self._tell("queue_depth", pictures, sum)
        self._tell("queue_oldest_timestamp_seconds", math.inf if oldest is None else oldest, min)
        if self.model is not None:
            self.series("model_queue_depth", self.model).set(pictures)

    def turned_away(self) -> None:
        """A request was rejected because the queue was full."""
        self.series("queue_rejections_total").inc()

    def batch(self, rows: int, padding: int) -> None:
        """A batch of `rows` pictures ran, of which `padding` only fill the batch."""
        self.series("batch_rows").observe(rows)
        self.series("batch_padding_rows_total").inc(padding)

    def step(self) -> None:
        """The running batch finished one denoising step."""
        self.series("engine_steps_total").inc()

    def out_of_memory(self) -> None:
        """A batch did not fit into device memory."""
        self.series("out_of_memory_total").inc()

    def broken_picture(self, cause: Literal["latents", "decoded"]) -> None:
        """A picture had latents or decoded values that are not finite."""
        self.series("broken_pictures_total", cause).inc()

    def rewritten(self, result: Rewrite) -> None:
        """The pipeline put other words in place of a prompt, and this became of them."""
        self.series("rewritten_prompts_total", result).inc()

    def linked(self, result: Link, pictures: int = 1) -> None:
        """Pictures were to be kept behind links, or one was asked for."""
        self.series("picture_links_total", result).inc(pictures)

    def woken(self) -> None:
        """What a sentinel told of the encoded prompt made a picture be planned again before its first step."""
        self.series("woken_pictures_total").inc()

    def dropped(self, reason: Literal["disconnect", "deadline", "shutdown"]) -> None:
        """A picture was cancelled."""
        self.series("cancelled_pictures_total", reason).inc()

    def fallback(self, reason: Literal["fired", "steering", "unfit"]) -> None:
        """A picture was generated with its whole prompt replaced."""
        self.series("fallbacks_total", reason).inc()

    def beat(self) -> None:
        """The engine made progress now (heartbeat)."""
        self._tell("engine_beat_timestamp_seconds", time.time(), min)

    def loaded(self, result: Literal["ok", "failed"]) -> None:
        """The model was loaded, or could not be."""
        if self.model is not None:
            self.series("model_loads_total", self.model, result).inc()
            self.series("model_loaded", self.model).set(int(result == "ok"))

    def evicted(self) -> None:
        """The model was put out of memory to make room for another one. Its engine says nothing from now on."""
        self._folded.forget("engine_beat_timestamp_seconds", self._key)
        if self.model is not None:
            self.series("model_loaded", self.model).set(0)

    def ready(self, answers: bool) -> None:
        """Whether the worker answers requests: its model, detectors and policies are loaded, and it is not shutting
        down.
        """
        self.series("engine_ready").set(int(answers))

    def policies(
        self,
        *,
        generation: int,
        digest: str,
        loaded: float,
        unfit: int,
        rules: Iterable[Rollout],
        floor: bool,
        expires: float = math.inf,
    ) -> None:
        """A policy snapshot came into use. `rules` are its rules with their rollout, in the same order in every worker.
        `expires` is when its bundle ends, in epoch seconds; infinity: it is no bundle.

        Generations count the changes in one worker. A number made of the digest shows whether workers agree.
        """
        number = int(digest.rpartition(":")[2][:12], 16)  # 48 bits: a float holds them exactly
        for bound in ("min", "max"):
            self._tell(f"policy_generation_{bound}", generation, sum)
            self._tell(f"policy_number_{bound}", number, _joined)
        self._tell("policy_loaded_timestamp_seconds", loaded, max)
        self._tell("policy_expires_timestamp_seconds", expires, min)
        self.polled()
        self._tell("unfit_rules", unfit, sum)
        self._tell("floor_missing", int(not floor), max)
        rollouts = dict(rules)
        self._canaries = frozenset(rule for rule, mode in rollouts.items() if mode == "canary")
        for rollout in ROLLOUT.values:
            self._tell("rules", sum(mode == rollout for mode in rollouts.values()), sum, rollout)
        for rule in rollouts:
            self.series("decision_errors_total", rule)

    def polled(self) -> None:
        """The policy files were looked at now."""
        self._tell("policy_poll_timestamp_seconds", time.time(), min)

    def detectors(self, names: Iterable[str]) -> None:
        """Creates the series of these detectors, so that their failures count from zero."""
        for name in names:
            self.series("detector_duration_seconds", name)
            self.series("detector_open", name).set(0)
            for reason in FAILURE.values:
                self.series("detector_errors_total", name, reason)

    def reload(self, result: Reload, *, codes: Iterable[str] = ()) -> None:
        """A reload of changed policy files ended. `codes` are the kinds of problems that made it fail."""
        self.series("policy_reloads_total", result).inc()
        self._tell("policy_last_reload_failed", int(result == "failed"), max)
        for code in set(codes):
            self.series("policy_refusals_total", code).inc()

    def exempted(self, rules: Iterable[str]) -> None:
        """A request was exempt from these rules."""
        for rule in rules:
            self.series("policy_exemptions_total", rule).inc()

    def strike(self, kind: StrikeKind) -> None:
        """A request was noted as a strike."""
        self.series("strikes_total", kind).inc()

    def review_case(self, result: Literal["kept", "full", "error"]) -> None:
        """A request was held for review, or refused because its case could not be kept."""
        self.series("review_cases_total", result).inc()

    def review_decision(self, decision: Literal["release", "release-repaired", "reject", "expire"]) -> None:
        """A held case ended."""
        self.series("review_decisions_total", decision).inc()

    def review_look(self, how: Literal["blurred", "clear"]) -> None:
        """A reviewer looked at a picture."""
        self.series("review_looks_total", how).inc()

    def review_queues(self, depths: Mapping[str, int], oldest: float) -> None:
        """How many cases wait in each queue, and the epoch time in seconds at which the oldest one came."""
        for queue, depth in depths.items():
            self.series("review_pending", queue).set(depth)
        self.series("review_oldest_timestamp_seconds").set(oldest)

    def audit(self, result: Literal["written", "error"]) -> None:
        """An audit record was written, or failed to be written."""
        self.series("audit_events_total", result).inc()

    def rate_apart(self) -> None:
        """A request was admitted or refused by this server's own count, though servers should share one."""
        self.series("rate_fallbacks_total").inc()

    def build(self, version: str, model: str) -> None:
        """The version and the model that run."""
        self.series("build_info", version, model).set(1)

    def _tell(self, name: str, value: float, fold: _Fold, *labels: str) -> None:
        """Sets a gauge that models share, see `of`."""
        self._folded.tell(self.series(name, *labels), (name, *labels), self._key, value, fold)

    def series(self, name: str, *values: str) -> Any:
        """The series of a metric (its name without the prefix) at these label values, for `inc`, `set` or `observe`.

        Raises: KeyError, for a metric that is not in the catalogue; ValueError, for a value that the label does not
        allow.
        """
        return self._families[name].at(*values)


def _joined(numbers: Iterable[float]) -> float:
    """One number of 48 bits for several, whatever their order. Of one it is this one."""
    each = sorted(int(number) for number in numbers)
    if len(each) == 1:
        return each[0]
    return int(sha256(",".join(map(str, each)).encode()).hexdigest()[:12], 16)


def render() -> tuple[bytes, str]:
    """The metrics of all workers as Prometheus text, and its content type."""
    registry = REGISTRY
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        forget_dead_workers(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        registry.register(Processes(_workers(Path(folder))))
    return generate_latest(registry), CONTENT_TYPE_LATEST


def values_of(names: Collection[str]) -> dict[str, dict[tuple[str, ...], float]]:
    """The values of some samples of all workers: by the sample's name without the prefix, then by label values in the
    order of the catalogue. A histogram has samples `_bucket`, whose last label is the bound, `_sum` and `_count`.
    """
    registry: CollectorRegistry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    found: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in names}
    for sample in (sample for family in registry.collect() for sample in family.samples):
        name = sample.name.removeprefix(PREFIX)
        if name in found:
            labels = (*_LABELS[name.removesuffix("_bucket")], *(["le"] if name.endswith("_bucket") else []))
            found[name][tuple(sample.labels[label] for label in labels)] = sample.value
    return found


def forget_dead_workers(folder: Path) -> None:
    """Removes the live gauges of dead worker processes. A killed worker does not remove its own."""
    for pid in _workers(folder):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            with contextlib.suppress(FileNotFoundError):  # another worker was faster
                mark_process_dead(pid, str(folder))
        except PermissionError:  # alive, another user's
            continue


def _workers(folder: Path) -> set[int]:
    """The processes whose live gauges are in the folder of the multiprocess mode."""
    return {int(p.stem.rsplit("_", 1)[1]) for p in folder.glob("gauge_live*_*.db")}
