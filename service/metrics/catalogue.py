"""The catalogue of metrics as data: name, meaning, labels and bounds of every metric.

`service.metrics.recorder` updates the metrics. `deploy.generate` makes dashboards and alert rules from the same names.

The number of series is bounded for any requests and policies. A label either has a closed set of values or is open. A
metric with an open label has a maximum number of series; further values become `other`. Values that come from policies
are added when a policy is loaded, so that all workers use the same ones. Prompts, users, tenants, keys, seeds, digests
and ids are never labels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal, get_args

from policies import CODES, RUNGS, STRIKE_KINDS, VERDICTS

__all__ = [
    "CATALOGUE",
    "FAILURE",
    "OTHER",
    "OUTCOME",
    "PREFIX",
    "ROLLOUT",
    "Breaker",
    "Link",
    "Mark",
    "Metric",
    "MetricLabel",
    "ReadingFailure",
    "Reload",
    "RequestOutcome",
    "RequestStage",
    "Rewrite",
    "Rollout",
]

PREFIX = "palimpsest_"
OTHER = "other"

RequestOutcome = Literal[
    "ok",
    "labelled",
    "steered",
    "held",
    "refused",
    "client_error",
    "busy",
    "deadline",
    "cancelled",
    "error",
    "unavailable",
]
RequestStage = Literal[
    "decode", "sense_prompt", "decide", "plan", "queue", "generate", "sense_picture", "blur", "mark", "encode", "audit"
]
Mark = Literal["watermark", "c2pa"]
Reload = Literal["ok", "failed"]
Link = Literal["kept", "full", "error", "opened", "gone"]
Rewrite = Literal["accepted", "refused", "unjudged"]
Breaker = Literal["closed", "half-open", "open"]
ReadingFailure = Literal["timeout", "error", "open"]
Rollout = tuple[str, str]  # a rule and its mode

_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
_READING = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
_ROWS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
_DOSE = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True, slots=True)
class MetricLabel:
    """A label and all of its values. A label without values is open; its metric limits the number of series."""

    name: str
    values: tuple[str, ...] = ()


RULE, CONCEPT, DETECTOR = MetricLabel("rule"), MetricLabel("concept"), MetricLabel("detector")
ADAPTER = MetricLabel("adapter")
ENDPOINT, VERSION, MODEL = MetricLabel("endpoint"), MetricLabel("version"), MetricLabel("model")
OUTCOME = MetricLabel("outcome", get_args(RequestOutcome))
STAGE = MetricLabel("stage", get_args(RequestStage))
VERDICT, ENFORCED, SHADOW = (MetricLabel(name, VERDICTS) for name in ("verdict", "enforced", "shadow"))
ACTING = MetricLabel("mode", ("enforce", "canary", "shadow"))
ROLLOUT = MetricLabel("mode", ("enforce", "canary", "shadow", "disabled"))
RUNG = MetricLabel("rung", RUNGS)
PASSED = MetricLabel("result", ("passed", "failed"))
KEPT = MetricLabel("result", ("kept", "full", "error"))
DECIDED = MetricLabel("decision", ("release", "release-repaired", "reject", "expire"))
LOOKED, QUEUE = MetricLabel("how", ("blurred", "clear")), MetricLabel("queue")
MARK, MARKED = MetricLabel("mark", get_args(Mark)), MetricLabel("result", ("marked", "failed"))
FOUND = MetricLabel("result", ("detected", "not_detected", "invalid"))
RELOADED = MetricLabel("result", get_args(Reload))
WRITTEN = MetricLabel("result", ("written", "error"))
FAILURE = MetricLabel("reason", get_args(ReadingFailure))
DROPPED = MetricLabel("reason", ("disconnect", "deadline", "shutdown"))
LINKED = MetricLabel("result", get_args(Link))
REWRITTEN = MetricLabel("result", get_args(Rewrite))
BROKEN = MetricLabel("cause", ("latents", "decoded"))
REPLACED = MetricLabel("reason", ("fired", "steering", "unfit"))
LOADED = MetricLabel("result", ("ok", "failed"))
PROBLEM = MetricLabel("reason", CODES)
STRIKE = MetricLabel("kind", STRIKE_KINDS)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: name without the prefix, meaning and labels. `mode` and `initial` are for gauges, `buckets` for
    histograms.

    `most` is the maximum number of label sets if a label is open.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[MetricLabel, ...] = ()
    most: int = 0
    mode: Literal["livesum", "livemin", "livemax", "livemostrecent"] = "livesum"
    buckets: tuple[float, ...] = _SECONDS
    initial: float = 0.0

    def __post_init__(self) -> None:
        if self.open is bool(self.most == 0):
            raise ValueError(f"`{self.name}`: `most` must be given for open labels and for no others, got {self.most}")

    @property
    def open(self) -> bool:
        """Whether a label is open."""
        return any(not label.values for label in self.labels)

    @property
    def closed_sets(self) -> tuple[tuple[str, ...], ...]:
        """Every label set, with `other` for each open label."""
        return tuple(itertools.product(*(label.values or (OTHER,) for label in self.labels)))

    @property
    def series(self) -> int:
        """The maximum number of series that one process can create."""
        each = len(self.buckets) + 3 if self.kind == "histogram" else 1  # the last bucket, the sum and the count
        return each * (self.most or len(self.closed_sets))


CATALOGUE: tuple[Metric, ...] = (
    Metric("requests_total", "counter", "Answered requests by endpoint and outcome.", (ENDPOINT, OUTCOME), 200),
    Metric("request_duration_seconds", "histogram", "Time from arrival to answer.", (ENDPOINT,), 17),
    Metric("stage_duration_seconds", "histogram", "Time spent in a stage of a request.", (STAGE,)),
    Metric("images_total", "counter", "Pictures that left, by the verdict they left under.", (VERDICT,)),
    Metric("adapter_pictures_total", "counter", "Pictures that left, made with an adapter.", (ADAPTER,), 33),
    Metric("marks_total", "counter", "Marks put on pictures; a picture that cannot be marked is not sent.",
           (MARK, MARKED)),
    Metric("provenance_checks_total", "counter", "Uploaded files that were looked at for a mark.", (MARK, FOUND)),
    Metric("signing_certificate_expires_timestamp_seconds", "gauge",
           "When the certificate that signs credentials ends; +Inf: none does.", mode="livemin", initial=math.inf),
    Metric("decisions_total", "counter", "Final decisions by rule, verdict and mode.", (RULE, VERDICT, ACTING), 500),
    Metric("decision_errors_total", "counter", "Decisions in which a rule could not be judged.", (RULE,), 80),
    Metric("stale_decisions_total", "counter", "Decisions under a policy older than it allows itself to be."),
    Metric("shadow_differences_total", "counter", "Decisions that shadow rules would change.", (ENFORCED, SHADOW)),
    Metric("rungs_total", "counter", "Rungs climbed for a picture, and whether it then passed.", (RUNG, PASSED)),
    Metric("rung_duration_seconds", "histogram", "Time that a rung added to a picture, reading included.", (RUNG,)),
    Metric("extra_generations_total", "counter", "Pictures generated again by the closed loop."),
    Metric("steered_pictures_total", "counter", "Pictures made with a concept steered.", (CONCEPT,), 24),
    Metric("steered_rows_total", "counter", "Rows that steering really changed at sites.", (CONCEPT,), 24),
    Metric("steering_dose", "histogram", "Mean size of what edits removed at a site.", (CONCEPT,), 16, buckets=_DOSE),
    Metric("woken_pictures_total", "counter", "Pictures planned again before their first step, woken by a sentinel."),
    Metric("fallbacks_total", "counter", "Pictures made by whole-prompt replacement, not steering.", (REPLACED,)),
    Metric("detector_duration_seconds", "histogram", "Time of one reading.", (DETECTOR,), 10, buckets=_READING),
    Metric("detector_errors_total", "counter", "Readings without an answer.", (DETECTOR, FAILURE), 30),
    Metric("detector_open", "gauge", "Workers that do not ask a detector for now: it failed.", (DETECTOR,), 10),
    Metric("queue_depth", "gauge", "Pictures that wait for the engine."),
    Metric("queue_oldest_timestamp_seconds", "gauge", "When the picture that waits longest came; +Inf: none waits.",
           mode="livemin", initial=math.inf),
    Metric("queue_rejections_total", "counter", "Requests turned away because the queue was full."),
    Metric("batch_rows", "histogram", "Pictures in a batch, padding included.", buckets=_ROWS),
    Metric("batch_padding_rows_total", "counter", "Rows that only pad a batch to its shape."),
    Metric("engine_steps_total", "counter", "Denoising steps run, one for a whole batch."),
    Metric("out_of_memory_total", "counter", "Batches that did not fit the device."),
    Metric("broken_pictures_total", "counter", "Pictures with values that are not finite: an error, never an answer.",
           (BROKEN,)),
    Metric("rewritten_prompts_total", "counter",
           "Prompts that the pipeline rewrote: accepted and drawn, refused, or not judged, which is an error.",
           (REWRITTEN,)),
    Metric("picture_links_total", "counter",
           "Pictures behind links: kept, not kept (no room, or an error), opened, or asked for and gone.", (LINKED,)),
    Metric("cancelled_pictures_total", "counter", "Pictures dropped because nobody waits for them.", (DROPPED,)),
    Metric("workers_up", "gauge", "Worker processes that run, ready or not."),
    Metric("engine_ready", "gauge", "Workers that answer requests."),
    Metric("engine_beat_timestamp_seconds", "gauge", "When an engine last moved; the oldest worker's.",
           mode="livemin", initial=math.inf),
    Metric("policy_generation_min", "gauge", "Lowest policy generation in use.", mode="livemin", initial=math.inf),
    Metric("policy_generation_max", "gauge", "Highest policy generation in use.", mode="livemax"),
    Metric("policy_number_min", "gauge", "Lowest number made of the digests of the policies in use.",
           mode="livemin", initial=math.inf),
    Metric("policy_number_max", "gauge", "Highest such number; the two differ while workers disagree.", mode="livemax"),
    Metric("policy_loaded_timestamp_seconds", "gauge", "When the policies in use were loaded; the oldest worker's.",
           mode="livemin", initial=math.inf),
    Metric("policy_expires_timestamp_seconds", "gauge", "When the bundle in use ends; +Inf: it is no bundle.",
           mode="livemin", initial=math.inf),
    Metric("policy_poll_timestamp_seconds", "gauge", "When the policy files were last looked at; the oldest worker's.",
           mode="livemin", initial=math.inf),
    Metric("policy_reloads_total", "counter", "Attempts to load changed policies.", (RELOADED,)),
    Metric("policy_refusals_total", "counter", "Changed policies that were refused, by what was wrong.", (PROBLEM,)),
    Metric("policy_exemptions_total", "counter", "Requests that an exception spared from a rule.", (RULE,), 80),
    Metric("strikes_total", "counter", "Requests noted as strikes, for rules that ask for these.", (STRIKE,)),
    Metric("policy_last_reload_failed", "gauge", "1 while the files on disk are not what is in use.", mode="livemax"),
    Metric("rules", "gauge", "Rules of the policies in use, by rollout.", (ROLLOUT,), mode="livemax"),
    Metric("unfit_rules", "gauge", "Rules of the policies in use that no pack of the model fits.", mode="livemax"),
    Metric("floor_missing", "gauge", "1 while some worker's policies have no policy `floor`.", mode="livemax"),
    Metric("review_cases_total", "counter", "Requests that rules held for review, by what became of them.", (KEPT,)),
    Metric("review_decisions_total", "counter", "Held cases by their end.", (DECIDED,)),
    Metric("review_looks_total", "counter", "Pictures of held cases that were looked at.", (LOOKED,)),
    Metric("review_pending", "gauge", "Held cases that wait for a reviewer.", (QUEUE,), 24, mode="livemostrecent"),
    Metric("review_oldest_timestamp_seconds", "gauge", "When the case that waits longest came; +Inf: none waits.",
           mode="livemostrecent", initial=math.inf),
    Metric("audit_events_total", "counter", "Audit records by result.", (WRITTEN,)),
    Metric("rate_fallbacks_total", "counter", "Requests whose rate a server kept alone, because Redis did not answer."),
    Metric("model_pictures_total", "counter", "Pictures that left, by model.", (MODEL,), 9),
    Metric("model_queue_depth", "gauge", "Pictures that wait for a model.", (MODEL,), 9),
    Metric("model_loaded", "gauge", "Workers that hold a model in memory.", (MODEL,), 9),
    Metric("model_loads_total", "counter", "Loads of a model, the first included.", (MODEL, LOADED), 18),
    Metric("build_info", "gauge", "1; version and model as labels.", (VERSION, MODEL), 9, mode="livemax"),
)  # fmt: skip
