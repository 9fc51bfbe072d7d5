"""Recording rules and alerts, as data.

An alert's condition has three separate parts: a value, a comparison and a threshold. A test can therefore ask a real
Prometheus for every value and check that it exists while nothing is wrong. This matters because an alert whose value is
absent never fires, and nobody would notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from deploy.generate.queries import expand

__all__ = ["ALERTS", "RECORDS", "Alert", "AlertCondition", "Record", "anchor", "rule_file"]


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule: a query whose result Prometheus stores under a name, because it is asked for often."""

    name: str
    expression: str


@dataclass(frozen=True, slots=True)
class AlertCondition:
    """`value` `op` `threshold`."""

    value: str
    op: Literal[">", "<", "=="]
    threshold: float

    @property
    def text(self) -> str:
        return f"({expand(self.value)}) {self.op} {self.threshold:g}"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: fires when every condition holds for `held`, and says what is wrong, what to do, and which dashboard
    shows more.
    """

    name: str
    conditions: tuple[AlertCondition, ...]
    held: str
    severity: Literal["page", "ticket"]
    summary: str
    action: str
    dashboard: str = "operations"

    @property
    def text(self) -> str:
        return " and ".join(condition.text for condition in self.conditions)


_ASKED = 'sum(increase(@requests_total{endpoint="generations"}[1h]))'
_STOPPED = 'sum(increase(@requests_total{endpoint="generations",outcome="refused"}[%s]))'
_RUNGS = 'sum(increase(@rungs_total{result="%s"}[1h]))'
_REPAIRED = 'sum(increase(@requests_total{endpoint="generations",outcome="steered"}[%s]))'

RECORDS = (
    Record("palimpsest:requests:rate5m", 'sum(rate(@requests_total{endpoint="generations"}[5m]))'),
    Record(
        "palimpsest:refused:ratio10m",
        'sum(rate(@requests_total{endpoint="generations",outcome="refused"}[10m]))'
        ' / sum(rate(@requests_total{endpoint="generations"}[10m]))',
    ),
    Record(
        "palimpsest:refused:ratio1d",
        'sum(rate(@requests_total{endpoint="generations",outcome="refused"}[1d]))'
        ' / sum(rate(@requests_total{endpoint="generations"}[1d]))',
    ),
    Record(
        "palimpsest:failed:ratio5m",
        'sum(rate(@requests_total{outcome=~"error|unavailable|deadline"}[5m])) / sum(rate(@requests_total[5m]))',
    ),
    Record(
        "palimpsest:failed:ratio15m",
        'sum(rate(@requests_total{outcome=~"error|unavailable|deadline"}[15m])) / sum(rate(@requests_total[15m]))',
    ),
    Record(
        "palimpsest:picture_seconds:p95",
        'histogram_quantile(0.95, sum by (le) (rate(@request_duration_seconds_bucket{endpoint="generations"}[5m])))',
    ),
)


def _when(value: str, op: Literal[">", "<", "=="], threshold: float) -> AlertCondition:
    return AlertCondition(value, op, threshold)


ALERTS = (
    Alert(
        "PalimpsestDown",
        (_when('min(up{job="palimpsest"})', "<", 1),),
        "2m",
        "page",
        "A server cannot be scraped.",
        "Look at its log and its probes; requests to it fail.",
    ),
    Alert(
        "PalimpsestNoWorkerReady",
        (_when("sum(@engine_ready)", "<", 1),),
        "2m",
        "page",
        "No worker has a model that is ready.",
        "`GET /v1/policies` and the log say why a worker could not start.",
    ),
    Alert(
        "PalimpsestWorkerNotReady",
        (_when("sum(@workers_up) - sum(@engine_ready)", ">", 0),),
        "5m",
        "ticket",
        "A worker runs and is not ready.",
        "It loads for too long, or could not start: its log says which.",
    ),
    Alert(
        "PalimpsestEngineStuck",
        (_when("max(time() - @engine_beat_timestamp_seconds)", ">", 120),),
        "1m",
        "page",
        "An engine has not moved for two minutes.",
        "Restart the worker; its liveness probe fails, too.",
    ),
    Alert(
        "PalimpsestQueueTooOld",
        (_when("max(clamp_min(time() - @queue_oldest_timestamp_seconds, 0))", ">", 30),),
        "1m",
        "page",
        "A picture has waited for more than 30 s.",
        "Add workers, or lower `queue_size` so that clients are told to come back.",
    ),
    Alert(
        "PalimpsestQueueRejecting",
        (_when("sum(increase(@queue_rejections_total[5m]))", ">", 0),),
        "10m",
        "ticket",
        "Requests have been turned away for ten minutes.",
        "Add workers.",
    ),
    Alert(
        "PalimpsestSlow",
        (_when("palimpsest:picture_seconds:p95", ">", 45),),
        "10m",
        "ticket",
        "One request in twenty takes more than 45 s.",
        "The dashboard `operations` shows which stage takes the time.",
    ),
    Alert(
        "PalimpsestFailing",
        (_when("palimpsest:failed:ratio5m", ">", 0.02),),
        "5m",
        "page",
        "More than 2 % of requests fail by our fault.",
        "The log has a line for each, with its request id.",
    ),
    Alert(
        "PalimpsestFailedBurst",
        (
            _when('sum(increase(@requests_total{outcome=~"error|unavailable|deadline"}[15m]))', ">", 2),
            _when("palimpsest:failed:ratio15m", ">", 0.2),
        ),
        "0m",
        "ticket",
        "More than a fifth of the requests of a quarter of an hour failed by our fault, however few they were.",
        "The log has a line for each, with its request id.",
    ),
    Alert(
        "PalimpsestPolicyReloadFailing",
        (_when("max(@policy_last_reload_failed)", ">", 0),),
        "1m",
        "page",
        "The policies on disk are not those in use.",
        "`palimpsest policy check` on the files; `GET /v1/policies` lists the problems.",
        "policies",
    ),
    Alert(
        "PalimpsestWorkersDisagree",
        (_when("max(@policy_number_max) - min(@policy_number_min)", ">", 0),),
        "2m",
        "page",
        "Workers have different policies in use.",
        "Compare `GET /v1/policies` of the servers, and the files or the bundle that each sees.",
        "policies",
    ),
    Alert(
        "PalimpsestPoliciesStale",
        (_when("sum(increase(@stale_decisions_total[10m]))", ">", 0),),
        "0m",
        "page",
        "Requests are decided under policies that are older than they allow themselves to be.",
        "Publish them again, or find out why the new ones do not arrive.",
        "policies",
    ),
    Alert(
        "PalimpsestPolicyPollStalled",
        (_when("max(time() - @policy_poll_timestamp_seconds)", ">", 120),),
        "1m",
        "page",
        "A worker has not looked at its policy files for two minutes.",
        "Changes do not arrive. Its volume may hang: look at the mount, then restart the worker.",
        "policies",
    ),
    Alert(
        "PalimpsestBundleEnds",
        (_when("min(@policy_expires_timestamp_seconds) - time()", "<", 604_800),),
        "15m",
        "ticket",
        "The signed bundle in use ends within a week, or has ended.",
        "Sign the policies again and push them. After its end it stays in use, and a"
        " pod with fresh state does not start with it unless `start_expired` says so.",
        "policies",
    ),
    Alert(
        "PalimpsestUnfitRules",
        (_when("max(@unfit_rules)", ">", 0),),
        "5m",
        "ticket",
        "A rule steers a concept for which the model has no pack.",
        "`palimpsest localize` makes one; until then the rule does what its `unfit` says.",
        "policies",
    ),
    Alert(
        "PalimpsestDetectorFailing",
        (_when("sum by (detector) (increase(@detector_errors_total[10m]))", ">", 5),),
        "1m",
        "page",
        "A detector gives no answers; its rules apply their `on_error`.",
        "The log names the detector and the kind of failure.",
        "safety",
    ),
    Alert(
        "PalimpsestDetectorOpen",
        (_when("max by (detector) (@detector_open)", ">", 0),),
        "1m",
        "page",
        "A detector failed so often that it is not asked for now.",
        "The log has its last failure; it is tried again by itself.",
        "safety",
    ),
    Alert(
        "PalimpsestDecisionErrors",
        (_when("sum by (rule) (increase(@decision_errors_total[10m]))", ">", 5),),
        "1m",
        "page",
        "A rule cannot be judged.",
        "What it needs to read failed or is not there; the audit log has each case.",
        "safety",
    ),
    Alert(
        "PalimpsestAuditWriteFailing",
        (_when('sum(increase(@audit_events_total{result="error"}[5m]))', ">", 0),),
        "0m",
        "page",
        "Audit records could not be written.",
        "The disk is full or read-only. With `audit = required` the requests were refused.",
    ),
    Alert(
        "PalimpsestBlockRateZero",
        (
            _when(_STOPPED % "1h", "==", 0),
            _when(_STOPPED % "1d", ">", 20),
            _when(_ASKED, ">", 100),
        ),
        "10m",
        "page",
        "Nothing was refused for an hour, and there was traffic: safety may be off.",
        "Compare `GET /v1/policies` with what should be in use; try `palimpsest policy explain` on a known case.",
        "safety",
    ),
    Alert(
        "PalimpsestRepairRateZero",
        (
            _when(_REPAIRED % "1h", "==", 0),
            _when(_REPAIRED % "1d", ">", 20),
            _when(_ASKED, ">", 100),
        ),
        "10m",
        "page",
        "Nothing was steered for an hour, and there was traffic: steering may be off.",
        "As for the block rate; and see that the rules' packs are found (`unfit`).",
        "safety",
    ),
    Alert(
        "PalimpsestBlockRateJumped",
        (
            _when("palimpsest:refused:ratio10m", ">", 0.05),
            _when("palimpsest:refused:ratio10m / palimpsest:refused:ratio1d", ">", 4),
        ),
        "10m",
        "page",
        "Four times as many requests are refused as in the last day.",
        "A policy that went live, or an attack: the dashboard `safety` shows the rule.",
        "safety",
    ),
    Alert(
        "PalimpsestSteeringFallsBack",
        (_when('sum(increase(@fallbacks_total{reason=~"fired|steering"}[10m]))', ">", 0),),
        "5m",
        "ticket",
        "Steering did not do what it said, and prompts were replaced instead.",
        "The host and its packs do not fit each other any more: `palimpsest pack verify`.",
        "steering",
    ),
    Alert(
        "PalimpsestRepairsFail",
        (_when(_RUNGS % "failed" + " - " + _RUNGS % "passed", ">", 20),),
        "10m",
        "ticket",
        "Most rungs that are climbed do not repair the picture.",
        "The packs are too weak for what is asked; the dashboard `safety` shows the rungs.",
        "safety",
    ),
    Alert(
        "PalimpsestReviewsOld",
        (_when("max(time() - @review_oldest_timestamp_seconds)", ">", 86_400),),
        "15m",
        "ticket",
        "A held case has waited for a day.",
        "`palimpsest review list` shows it; after `review_days` it is rejected.",
        "safety",
    ),
    Alert(
        "PalimpsestReviewsMany",
        (_when("sum(@review_pending)", ">", 500),),
        "15m",
        "ticket",
        "More than 500 held cases wait.",
        "Decide them, or make the rules that hold narrower; at `review_cases` held requests are refused.",
        "safety",
    ),
    Alert(
        "PalimpsestReviewsRefused",
        (_when('sum(increase(@review_cases_total{result=~"full|error"}[10m]))', ">", 0),),
        "5m",
        "page",
        "Held requests are refused, because their cases cannot be kept.",
        "`full`: decide cases, or raise `review_cases` or `review_bytes`. `error`: the disk is at fault.",
        "safety",
    ),
    Alert(
        "PalimpsestOutOfMemory",
        (_when("sum(increase(@out_of_memory_total[10m]))", ">", 0),),
        "5m",
        "ticket",
        "Batches do not fit the device.",
        "Lower `max_batch`, or give the worker a larger device.",
    ),
    Alert(
        "PalimpsestBrokenPictures",
        (_when("sum(increase(@broken_pictures_total[10m]))", ">", 0),),
        "0m",
        "page",
        "The model gives pictures with values that are not finite; each is answered with an error.",
        "Cause `decoded`: set `dtype` to `bfloat16` or `float32`. Cause `latents`: check the weights and the packs.",
    ),
    Alert(
        "PalimpsestMarkingFails",
        (_when('sum(increase(@marks_total{result="failed"}[10m]))', ">", 0),),
        "0m",
        "page",
        "Pictures cannot be marked; each is answered with an error.",
        "Mark `c2pa`: the certificate or its key. Mark `watermark`: pictures that carry none, or the plug-in.",
    ),
    Alert(
        "PalimpsestSigningCertificateEnds",
        (_when("min(@signing_certificate_expires_timestamp_seconds) - time()", "<", 1_209_600),),
        "15m",
        "ticket",
        "The certificate that signs credentials ends within two weeks, or has ended.",
        "Put a new chain and its key in place; they are read for each picture. After its end no picture is sent.",
    ),
    Alert(
        "PalimpsestRatesApart",
        (_when("sum(increase(@rate_fallbacks_total[10m]))", ">", 0),),
        "5m",
        "ticket",
        "Redis does not answer: each server keeps the rates of keys alone.",
        "See whether Redis runs and is reached; until then a key may ask each server at its rate.",
    ),
)  # fmt: skip


def anchor(alert: Alert) -> str:
    """The name of the alert's heading in the runbooks."""
    return alert.name.lower()


def rule_file(runbooks: str, grafana: str = "") -> dict[str, Any]:
    """The rules as Prometheus reads them. `runbooks` is where the page of runbooks is, `grafana` the address of the
    Grafana with the dashboards.
    """
    records = [{"record": record.name, "expr": expand(record.expression)} for record in RECORDS]
    return {
        "groups": [
            {"name": "palimpsest-records", "rules": records},
            {"name": "palimpsest-alerts", "rules": [_rule(alert, runbooks, grafana) for alert in ALERTS]},
        ]
    }


def _rule(alert: Alert, runbooks: str, grafana: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.text,
        "for": alert.held,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "action": alert.action,
            "runbook_url": f"{runbooks}#{anchor(alert)}",
            "dashboard_url": f"{grafana}/d/palimpsest-{alert.dashboard}",
        },
    }
