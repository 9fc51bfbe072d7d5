"""What the four dashboards show, as data: who looks at them, and one question a panel.

Operations: is it up and fast. Safety: what was stopped or repaired, and did the looking work. Policies: what is in
use, and what would rules in shadow do. Steering: which concepts are steered, how strongly, and what it costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from service.queries import Query

__all__ = ["BOARDS", "Board", "Panel", "Row"]

Kind = Literal["timeseries", "stat", "table"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One question and the queries that answer it; `unit` is Grafana's name, `red` the value from which it is red."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Kind = "timeseries"
    red: float | None = None
    about: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; `name` is its file's and its address's."""

    name: str
    title: str
    about: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> Iterable[Panel]:
        return (panel for row in self.rows for panel in row.panels)


def _one(title: str, expression: str, legend: str = "", **looks: object) -> Panel:
    return Panel(title, (Query(expression, legend),), **looks)  # type: ignore[arg-type]  # the fields of Panel


def _rate(name: str, by: str) -> Query:
    """The rate of a counter by labels."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return Query(f"sum by ({by}) (rate(@{name}[$__rate_interval]))", legend)


def _quantiles(name: str, by: str = "", where: str = "", quantiles: Iterable[float] = (0.5, 0.95)) -> tuple[Query, ...]:
    """Quantiles of a histogram, each label value its own line."""
    labels, legend = (f"le, {by}", f"{{{{{by}}}}} ") if by else ("le", "")
    return tuple(
        Query(
            f"histogram_quantile({q:g}, sum by ({labels}) (rate(@{name}_bucket{where}[$__rate_interval])))",
            f"{legend}p{round(100 * q)}",
        )
        for q in quantiles
    )


def _mean(name: str, by: str = "") -> Query:
    """The mean of a histogram."""
    over = f" by ({by})" if by else ""
    parts = (f"sum{over} (rate(@{name}_{part}[$__rate_interval]))" for part in ("sum", "count"))
    return Query(" / ".join(parts), f"{{{{{by}}}}}" if by else "mean")


OPERATIONS = Board(
    "operations",
    "Palimpsest: operations",
    "Whether the service is up, fast and not overrun.",
    (
        Row(
            "Now",
            (
                Panel(
                    "Workers",
                    (Query("sum(@workers_up)", "up"), Query("sum(@engine_ready)", "ready")),
                    kind="stat",
                ),
                _one(
                    "Engines last moved",
                    "max(time() - @engine_beat_timestamp_seconds)",
                    unit="s",
                    kind="stat",
                    red=120,
                    about="The engine that moved least recently. Below zero: none is ready yet.",
                ),
                _one("What runs", "max by (version, model) (@build_info)", "{{version}} {{model}}", kind="table"),
            ),
        ),
        Row(
            "Requests",
            (
                Panel("Requests by outcome", (_rate("requests_total", "endpoint, outcome"),), "reqps"),
                Panel(
                    "Time to a picture",
                    _quantiles(
                        "request_duration_seconds", where='{endpoint="generations"}', quantiles=(0.5, 0.95, 0.99)
                    ),
                    "s",
                ),
                _one(
                    "Share of failures of ours",
                    'sum(rate(@requests_total{outcome=~"error|unavailable|deadline"}[$__rate_interval]))'
                    " / sum(rate(@requests_total[$__rate_interval]))",
                    unit="percentunit",
                    red=0.02,
                ),
            ),
        ),
        Row(
            "Where the time goes",
            (
                Panel("Stages, 95 of 100", _quantiles("stage_duration_seconds", "stage", quantiles=(0.95,)), "s"),
                Panel(
                    "Seconds of each stage a second",
                    (_rate("stage_duration_seconds_sum", "stage"),),
                    "s",
                    about="`generate` at the number of workers means that engines have no time left.",
                ),
            ),
        ),
        Row(
            "Queue and engine",
            (
                _one("Pictures that wait", "sum(@queue_depth)"),
                _one(
                    "The longest wait now",
                    "max(clamp_min(time() - @queue_oldest_timestamp_seconds, 0))",
                    unit="s",
                    red=30,
                ),
                Panel(
                    "Turned away and given up",
                    (
                        Query("sum(rate(@queue_rejections_total[$__rate_interval]))", "queue full"),
                        _rate("cancelled_pictures_total", "reason"),
                    ),
                ),
                Panel("Pictures in a batch", (_mean("batch_rows"), *_quantiles("batch_rows", quantiles=(0.95,)))),
                Panel(
                    "Denoising steps and padding rows a second",
                    (
                        Query("sum(rate(@engine_steps_total[$__rate_interval]))", "steps"),
                        Query("sum(rate(@batch_padding_rows_total[$__rate_interval]))", "padding rows"),
                    ),
                ),
                _one("Batches that did not fit the device", "sum(increase(@out_of_memory_total[$__rate_interval]))"),
            ),
        ),
        Row("Audit", (Panel("Audit records", (_rate("audit_events_total", "result"),)),)),
    ),
)

SAFETY = Board(
    "safety",
    "Palimpsest: safety",
    "What was stopped or repaired, and whether the detectors looked.",
    (
        Row(
            "What left",
            (
                Panel("Pictures by verdict", (_rate("images_total", "verdict"),)),
                _one(
                    "Share of requests refused",
                    'sum(rate(@requests_total{endpoint="generations",outcome="refused"}[$__rate_interval]))'
                    ' / sum(rate(@requests_total{endpoint="generations"}[$__rate_interval]))',
                    unit="percentunit",
                    about="Zero under traffic is as suspicious as a jump: safety may be off.",
                ),
                Panel(
                    "Decisions by rule",
                    (
                        Query(
                            'sum by (rule, verdict) (rate(@decisions_total{mode="enforce"}[$__rate_interval]))',
                            "{{rule}} {{verdict}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Repair",
            (
                Panel("Rungs climbed", (_rate("rungs_total", "rung, result"),)),
                _one(
                    "Share of climbs that repaired",
                    'sum(rate(@rungs_total{result="passed"}[$__rate_interval]))'
                    " / sum(rate(@rungs_total[$__rate_interval]))",
                    unit="percentunit",
                ),
                Panel("Seconds that a rung adds", _quantiles("rung_duration_seconds", "rung", quantiles=(0.95,)), "s"),
                _one("Pictures made again", "sum(rate(@extra_generations_total[$__rate_interval]))"),
                Panel("Prompt replaced instead of steering", (_rate("fallbacks_total", "reason"),)),
            ),
        ),
        Row(
            "Detectors",
            (
                Panel(
                    "Readings, 95 of 100", _quantiles("detector_duration_seconds", "detector", quantiles=(0.95,)), "s"
                ),
                Panel("Readings without an answer", (_rate("detector_errors_total", "detector, reason"),)),
                _one("Circuits open", "sum by (detector) (@detector_open)", "{{detector}}", red=1),
                Panel(
                    "Rules that could not be judged",
                    (_rate("decision_errors_total", "rule"),),
                    about="Each such decision applied the rule's `on_error`.",
                ),
            ),
        ),
    ),
)

POLICIES = Board(
    "policies",
    "Palimpsest: policies and shadow",
    "Which policies are in use, whether workers agree, and what rules in shadow would do.",
    (
        Row(
            "In use",
            (
                _one(
                    "Workers disagree",
                    "max(@policy_number_max) - min(@policy_number_min) > bool 0",
                    kind="stat",
                    red=1,
                    about="1 while two workers have policies of different content in use.",
                ),
                Panel(
                    "Generation",
                    (
                        Query("min(@policy_generation_min)", "lowest"),
                        Query("max(@policy_generation_max)", "highest"),
                    ),
                    about="How often each worker changed its policies since it started.",
                ),
                _one("Age of the policies", "max(time() - @policy_loaded_timestamp_seconds)", unit="s", kind="stat"),
                Panel("Rules by rollout", (Query("max by (mode) (@rules)", "{{mode}}"),)),
                _one("Rules that no pack fits", "max(@unfit_rules)", kind="stat", red=1),
            ),
        ),
        Row(
            "Changes",
            (
                Panel(
                    "Reloads",
                    (Query("sum by (result) (increase(@policy_reloads_total[$__rate_interval]))", "{{result}}"),),
                ),
                Panel(
                    "Refused changes by reason",
                    (Query("sum by (reason) (increase(@policy_refusals_total[$__rate_interval]))", "{{reason}}"),),
                ),
                _one("Files are not what is in use", "max(@policy_last_reload_failed)", kind="stat", red=1),
                _one("Decisions under too old policies", "sum(rate(@stale_decisions_total[$__rate_interval]))"),
            ),
        ),
        Row(
            "Shadow",
            (
                _one(
                    "Share of requests that rules in shadow would change",
                    "sum(rate(@shadow_differences_total[$__rate_interval]))"
                    ' / sum(rate(@requests_total{endpoint="generations"}[$__rate_interval]))',
                    unit="percentunit",
                    about="The number to look at before a rule is promoted.",
                ),
                Panel("From enforced to shadow", (_rate("shadow_differences_total", "enforced, shadow"),)),
                Panel(
                    "Rules in shadow",
                    (
                        Query(
                            'sum by (rule, verdict) (rate(@decisions_total{mode="shadow"}[$__rate_interval]))',
                            "{{rule}} {{verdict}}",
                        ),
                    ),
                ),
                Panel("Spared by an exception", (_rate("policy_exemptions_total", "rule"),)),
            ),
        ),
    ),
)

STEERING = Board(
    "steering",
    "Palimpsest: steering and dose",
    "Which concepts are steered, how strongly, and what steering costs.",
    (
        Row(
            "Concepts",
            (
                Panel("Steered pictures", (_rate("steered_pictures_total", "concept"),)),
                _one(
                    "Rows that steering changed, a picture",
                    "sum by (concept) (rate(@steered_rows_total[$__rate_interval]))"
                    " / sum by (concept) (rate(@steered_pictures_total[$__rate_interval]))",
                    "{{concept}}",
                    about="Counted where text enters the model. A drop without a new pack: something broke.",
                ),
                _one(
                    "Share of pictures steered",
                    'sum(rate(@images_total{verdict="steer"}[$__rate_interval]))'
                    " / sum(rate(@images_total[$__rate_interval]))",
                    unit="percentunit",
                ),
            ),
        ),
        Row(
            "Dose",
            (
                Panel("Mean dose of edits", (_mean("steering_dose", "concept"),)),
                Panel(
                    "Dose of edits, middle and 95 of 100",
                    _quantiles("steering_dose", "concept"),
                    about="How much of a concept edits found and took out at a site; text swaps have no dose.",
                ),
            ),
        ),
        Row(
            "Cost",
            (
                Panel("Seconds of a batch", _quantiles("stage_duration_seconds", where='{stage="generate"}'), "s"),
                _one(
                    "Pictures made again, for each that left",
                    "sum(rate(@extra_generations_total[$__rate_interval]))"
                    " / sum(rate(@images_total[$__rate_interval]))",
                    unit="percentunit",
                ),
                _one(
                    "Steering that fell back to another prompt",
                    'sum(rate(@fallbacks_total{reason=~"fired|steering"}[$__rate_interval]))',
                    red=0.01,
                ),
            ),
        ),
    ),
)

BOARDS = (OPERATIONS, SAFETY, POLICIES, STEERING)
