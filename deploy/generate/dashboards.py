"""The four dashboards as data: who uses each one, and one question per panel.

* Operations: is the service up and fast?
* Safety: what was stopped or repaired, and did the picture checks work?
* Policies: which policies are in use, and what would rules in shadow mode do?
* Steering: which concepts are steered, how strongly, and at what cost?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deploy.generate.panels import Dashboard, Panel, Row, mean, of_process, one, quantiles, rate
from deploy.generate.queries import Query, metric_of, names_in
from service.metrics.catalogue import CATALOGUE, Metric

__all__ = ["DASHBOARDS", "complete", "usual_panel"]

OPERATIONS = Dashboard(
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
                one(
                    "Engines last moved",
                    "max(time() - @engine_beat_timestamp_seconds)",
                    unit="s",
                    kind="stat",
                    red=120,
                    about="The engine that moved least recently. Below zero: none is ready yet.",
                ),
                one("What runs", "max by (version, model) (@build_info)", "{{version}} {{model}}", kind="table"),
            ),
        ),
        Row(
            "Requests",
            (
                Panel("Requests by outcome", (rate("requests_total", "endpoint, outcome"),), "reqps"),
                Panel(
                    "Time to a picture",
                    quantiles("request_duration_seconds", where='{endpoint="generations"}', at=(0.5, 0.95, 0.99)),
                    "s",
                ),
                one(
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
                Panel("Stages, 95 of 100", quantiles("stage_duration_seconds", "stage", at=(0.95,)), "s"),
                Panel(
                    "Seconds of each stage a second",
                    (rate("stage_duration_seconds_sum", "stage"),),
                    "s",
                    about="`generate` at the number of workers means that engines have no time left.",
                ),
            ),
        ),
        Row(
            "Queue and engine",
            (
                one("Pictures that wait", "sum(@queue_depth)"),
                one(
                    "The longest wait now",
                    "max(clamp_min(time() - @queue_oldest_timestamp_seconds, 0))",
                    unit="s",
                    red=30,
                ),
                Panel(
                    "Turned away and given up",
                    (
                        Query("sum(rate(@queue_rejections_total[$__rate_interval]))", "queue full"),
                        rate("cancelled_pictures_total", "reason"),
                        Query("sum(rate(@rate_fallbacks_total[$__rate_interval]))", "rate kept apart"),
                    ),
                ),
                Panel("Pictures in a batch", (mean("batch_rows"), *quantiles("batch_rows", at=(0.95,)))),
                Panel(
                    "Denoising steps and padding rows a second",
                    (
                        Query("sum(rate(@engine_steps_total[$__rate_interval]))", "steps"),
                        Query("sum(rate(@batch_padding_rows_total[$__rate_interval]))", "padding rows"),
                    ),
                ),
                one("Batches that did not fit the device", "sum(increase(@out_of_memory_total[$__rate_interval]))"),
                Panel("Pictures with values that are not finite", (rate("broken_pictures_total", "cause"),)),
                Panel("Pictures behind links", (rate("picture_links_total", "result"),)),
            ),
        ),
        Row(
            "Models",
            (
                Panel("Pictures by model", (rate("model_pictures_total", "model"),)),
                one("Pictures that wait, by model", "sum by (model) (@model_queue_depth)", "{{model}}"),
                one("Workers that hold a model in memory", "sum by (model) (@model_loaded)", "{{model}}"),
                Panel(
                    "Loads of models",
                    (
                        Query(
                            "sum by (model, result) (increase(@model_loads_total[$__rate_interval]))",
                            "{{model}} {{result}}",
                        ),
                    ),
                    about="One a model and worker at the start. More: `model_memory` is too low for the requests.",
                ),
            ),
        ),
        Row(
            "Marks",
            (
                Panel(
                    "Marks put on pictures",
                    (Query("sum by (mark, result) (rate(@marks_total[$__rate_interval]))", "{{mark}} {{result}}"),),
                ),
                Panel(
                    "Provenance checks",
                    (
                        Query(
                            "sum by (mark, result) (rate(@provenance_checks_total[$__rate_interval]))",
                            "{{mark}} {{result}}",
                        ),
                    ),
                ),
                one(
                    "Time to the signing certificate's end",
                    "min(@signing_certificate_expires_timestamp_seconds) - time()",
                    unit="s",
                    kind="stat",
                ),
            ),
        ),
        Row("Audit", (Panel("Audit records", (rate("audit_events_total", "result"),)),)),
        Row(
            "Processes",
            (
                of_process("Memory of each worker", "process_resident_memory_bytes#", "bytes"),
                of_process("Processors used", "rate(process_cpu_seconds_total#[$__rate_interval])", "short"),
                of_process("Open files", "process_open_fds#", "short"),
                of_process("Age of each worker", "time() - process_start_time_seconds#", "s"),
            ),
        ),
    ),
)

SAFETY = Dashboard(
    "safety",
    "Palimpsest: safety",
    "What was stopped or repaired, and whether the detectors looked.",
    (
        Row(
            "What left",
            (
                Panel("Pictures by verdict", (rate("images_total", "verdict"),)),
                one(
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
                Panel(
                    "Strikes noted",
                    (rate("strikes_total", "kind"),),
                    about="Requests of persons that callers name, on which rules acted; only where a rule asks.",
                ),
            ),
        ),
        Row(
            "Repair",
            (
                Panel("Rungs climbed", (rate("rungs_total", "rung, result"),)),
                one(
                    "Share of climbs that repaired",
                    'sum(rate(@rungs_total{result="passed"}[$__rate_interval]))'
                    " / sum(rate(@rungs_total[$__rate_interval]))",
                    unit="percentunit",
                ),
                Panel("Seconds that a rung adds", quantiles("rung_duration_seconds", "rung", at=(0.95,)), "s"),
                one("Pictures made again", "sum(rate(@extra_generations_total[$__rate_interval]))"),
                one("Planned again before the first step", "sum(rate(@woken_pictures_total[$__rate_interval]))"),
                Panel("Prompt replaced instead of steering", (rate("fallbacks_total", "reason"),)),
                Panel("Prompts that the pipeline rewrote", (rate("rewritten_prompts_total", "result"),)),
            ),
        ),
        Row(
            "Detectors",
            (
                Panel("Readings, 95 of 100", quantiles("detector_duration_seconds", "detector", at=(0.95,)), "s"),
                Panel("Readings without an answer", (rate("detector_errors_total", "detector, reason"),)),
                one(
                    "Circuits",
                    "sum by (detector) (@detector_open)",
                    "{{detector}}",
                    kind="stat",
                    red=1,
                    about="In how many workers the circuit is open.",
                    says=((0, "closed"),),
                ),
                Panel(
                    "Rules that could not be judged",
                    (rate("decision_errors_total", "rule"),),
                    about="Each such decision applied the rule's `on_error`.",
                ),
            ),
        ),
        Row(
            "Review",
            (
                Panel("Cases that wait, by queue", (Query("sum by (queue) (@review_pending)", "{{queue}}"),)),
                one("Age of the oldest", "max(time() - @review_oldest_timestamp_seconds)", unit="s"),
                Panel("Cases held", (rate("review_cases_total", "result"),)),
                Panel("Decisions", (rate("review_decisions_total", "decision"),)),
                Panel("Looks", (rate("review_looks_total", "how"),)),
            ),
        ),
    ),
)

POLICIES = Dashboard(
    "policies",
    "Palimpsest: policies and shadow",
    "Which policies are in use, whether workers agree, and what rules in shadow would do.",
    (
        Row(
            "In use",
            (
                one(
                    "Workers",
                    "max(@policy_number_max) - min(@policy_number_min) > bool 0",
                    kind="stat",
                    red=1,
                    says=((0, "agree"), (1, "disagree")),
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
                one("Age of the policies", "max(time() - @policy_loaded_timestamp_seconds)", unit="s", kind="stat"),
                one(
                    "Last look at the files",
                    "max(time() - @policy_poll_timestamp_seconds)",
                    unit="s",
                    kind="stat",
                    red=120,
                ),
                one(
                    "Time to the bundle's end", "min(@policy_expires_timestamp_seconds) - time()", unit="s", kind="stat"
                ),
                Panel("Rules by rollout", (Query("max by (mode) (@rules)", "{{mode}}"),)),
                one("Rules that no pack fits", "max(@unfit_rules)", kind="stat", red=1, says=((0, "none"),)),
                one("Floor", "max(@floor_missing)", kind="stat", red=1, says=((0, "in force"), (1, "missing"))),
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
                one(
                    "Policies in use",
                    "max(@policy_last_reload_failed)",
                    kind="stat",
                    red=1,
                    says=((0, "those on disk"), (1, "last good ones")),
                ),
                one("Decisions under too old policies", "sum(rate(@stale_decisions_total[$__rate_interval]))"),
            ),
        ),
        Row(
            "Shadow and canary",
            (
                one(
                    "Share of requests that rules in shadow would change",
                    "sum(rate(@shadow_differences_total[$__rate_interval]))"
                    ' / sum(rate(@requests_total{endpoint="generations"}[$__rate_interval]))',
                    unit="percentunit",
                    about="The number to look at before a rule is promoted.",
                ),
                Panel("From enforced to shadow", (rate("shadow_differences_total", "enforced, shadow"),)),
                Panel(
                    "Rules in shadow",
                    (
                        Query(
                            'sum by (rule, verdict) (rate(@decisions_total{mode="shadow"}[$__rate_interval]))',
                            "{{rule}} {{verdict}}",
                        ),
                    ),
                ),
                Panel(
                    "Canaries, where they acted",
                    (
                        Query(
                            'sum by (rule, verdict) (rate(@decisions_total{mode="canary"}[$__rate_interval]))',
                            "{{rule}} {{verdict}}",
                        ),
                    ),
                    about="Requests that a canary was not drawn for are among those of rules in shadow.",
                ),
                Panel("Spared by an exception", (rate("policy_exemptions_total", "rule"),)),
            ),
        ),
    ),
)

STEERING = Dashboard(
    "steering",
    "Palimpsest: steering and dose",
    "Which concepts are steered, how strongly, and what steering costs.",
    (
        Row(
            "Concepts",
            (
                Panel("Steered pictures", (rate("steered_pictures_total", "concept"),)),
                Panel("Pictures with an adapter", (rate("adapter_pictures_total", "adapter"),)),
                one(
                    "Rows that steering changed, a picture",
                    "sum by (concept) (rate(@steered_rows_total[$__rate_interval]))"
                    " / sum by (concept) (rate(@steered_pictures_total[$__rate_interval]))",
                    "{{concept}}",
                    about="Counted where text enters the model. A drop without a new pack: something broke.",
                ),
                one(
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
                Panel("Mean dose of edits", (mean("steering_dose", "concept"),)),
                Panel(
                    "Dose of edits, middle and 95 of 100",
                    quantiles("steering_dose", "concept"),
                    about="How much of a concept edits found and took out at a site; text swaps have no dose.",
                ),
            ),
        ),
        Row(
            "Cost",
            (
                Panel("Seconds of a batch", quantiles("stage_duration_seconds", where='{stage="generate"}'), "s"),
                one(
                    "Pictures made again, for each that left",
                    "sum(rate(@extra_generations_total[$__rate_interval]))"
                    " / sum(rate(@images_total[$__rate_interval]))",
                    unit="percentunit",
                ),
                one(
                    "Steering that fell back to another prompt",
                    'sum(rate(@fallbacks_total{reason=~"fired|steering"}[$__rate_interval]))',
                    red=0.01,
                ),
            ),
        ),
    ),
)


def usual_panel(metric: Metric) -> Panel:
    """The panel of a metric that nobody has drawn one for: a rate, a value or two quantiles, by its labels."""
    by = ", ".join(label.name for label in metric.labels)
    if metric.kind == "counter":
        return Panel(
            metric.help, (rate(metric.name, by) if by else Query(f"sum(rate(@{metric.name}[$__rate_interval]))"),)
        )
    if metric.kind == "histogram":
        return Panel(metric.help, quantiles(metric.name, by), "s" if metric.name.endswith("_seconds") else "short")
    worst = {"livesum": "sum", "livemin": "min", "livemax": "max"}[metric.mode]
    return one(metric.help, f"{worst} by ({by}) (@{metric.name})" if by else f"{worst}(@{metric.name})")


def complete(dashboards: Sequence[Dashboard], catalogue: Sequence[Metric] = CATALOGUE) -> tuple[Dashboard, ...]:
    """The dashboards; the first has a last row for the metrics of the catalogue that no panel asks for."""
    asked = {metric_of(name) for board in dashboards for panel in board.panels for name in names_in(panel.queries)}
    rest = [usual_panel(metric) for metric in catalogue if metric not in asked]
    if not rest:
        return tuple(dashboards)
    first, *others = dashboards
    return (replace(first, rows=(*first.rows, Row("Other metrics", tuple(rest)))), *others)


DASHBOARDS = complete((OPERATIONS, SAFETY, POLICIES, STEERING))
