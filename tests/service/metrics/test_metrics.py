"""Metrics: bounded whatever is asked, true over several processes, named in one place."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from policies import VERDICTS
from service.metrics.catalogue import CATALOGUE, RequestOutcome
from service.metrics.recorder import Recorder

ROOT = Path(__file__).resolve().parents[3]


def test_names_follow_prometheus_conventions() -> None:
    never = {"prompt", "user", "tenant", "key", "seed", "pid", "worker", "digest"}
    for metric in CATALOGUE:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert not re.search(r"_(ms|millis|percent|mb|kb)(_|$)", metric.name)
        assert metric.help.endswith(".")
        assert len({label.name for label in metric.labels}) == len(metric.labels)
        assert not {label.name for label in metric.labels} & never
    assert len({m.name for m in CATALOGUE}) == len(CATALOGUE)


def test_no_other_module_makes_a_metric() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        if path.parent.name != "metrics":
            assert "prometheus_client" not in path.read_text("utf-8"), path.name


def samples(registry: CollectorRegistry) -> list[Any]:
    """What a scrape of several processes would hold: without the times of creation, which those do not have."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return [s for f in families for s in f.samples if not s.name.endswith("_created")]


MOST_SERIES = 2048  # of one worker, whatever comes


def test_the_catalogue_bounds_the_series_whatever_comes() -> None:
    assert sum(metric.series for metric in CATALOGUE) <= MOST_SERIES


ASKED = {"requests_total": 10_000, "decisions_total": 30_000, "policy_exemptions_total": 10_000}


def total(registry: CollectorRegistry, name: str) -> float:
    """The sum of a counter over its labels."""
    return sum(s.value for s in samples(registry) if s.name == f"palimpsest_{name}")


def test_ten_thousand_mixed_requests_of_five_hundred_tenants_stay_within_two_thousand_series() -> None:
    registry = CollectorRegistry()
    recorder = Recorder(registry)
    recorder.start()
    before = {name: total(registry, name) for name in ASKED}  # registries of one process share their files
    outcomes, rules = get_args(RequestOutcome), [(f"policy-rule-{k}", "enforce") for k in range(1000)]
    recorder.policies(generation=1, digest="sha256:" + 64 * "f", loaded=0.0, unfit=0, rules=rules, floor=True)
    for k in range(10_000):
        tenant = f"tenant-{k % 500}"  # nobody may ever bring a tenant here, but what policies say is theirs to say
        recorder.request(f"endpoint-{k}", outcomes[k % len(outcomes)], 0.1)
        recorder.decision((f"{tenant}-rule-{k}", f"policy-rule-{k % 1000}"), VERDICTS[k % 5], mode="enforce")
        recorder.decision((f"{tenant}-rule-{k}",), "block", mode="shadow")
        recorder.decision_errors((f"{tenant}-rule-{k}",))
        recorder.exempted((f"{tenant}-rule-{k}",))
        recorder.steered((f"concept/{tenant}-{k}",), rows=1, dose=(0.5,))
        recorder.detector(f"detector-{tenant}", 0.1)
        recorder.detector_error(f"detector-{tenant}", "timeout")
        recorder.breaker(f"detector-{tenant}", "open")
        recorder.build(f"1.0.{k}", tenant)
    found = samples(registry)
    assert len(found) <= sum(metric.series for metric in CATALOGUE) <= MOST_SERIES
    for name, asked in ASKED.items():
        values = [s for s in found if s.name == f"palimpsest_{name}"]
        counted = total(registry, name) - before[name]
        assert counted == asked, f"what {name} has no room for is counted as other, not dropped"
        assert any("other" in s.labels.values() and s.value > 0 for s in values)


def test_a_rule_that_was_seen_keeps_its_name_when_there_is_no_room_left() -> None:
    registry = CollectorRegistry()
    recorder = Recorder(registry)
    for rule in ("first", *(f"rule-{k}" for k in range(1000)), "first"):
        recorder.exempted((rule,))
    assert registry.get_sample_value("palimpsest_policy_exemptions_total", {"rule": "first"}) == 2


def test_what_a_canary_enforced_is_counted_apart() -> None:
    registry = CollectorRegistry()
    recorder = Recorder(registry)
    rules = [("canary-rule", "canary"), ("old-rule", "enforce")]
    recorder.policies(generation=1, digest="sha256:" + 64 * "a", loaded=0.0, unfit=0, rules=rules, floor=True)
    recorder.decision(("canary-rule", "old-rule"), "block", mode="enforce")
    recorder.decision(("canary-rule",), "block", mode="shadow")  # a request that it was not drawn for

    def counted(rule: str, mode: str) -> float | None:
        labels = {"rule": rule, "verdict": "block", "mode": mode}
        return registry.get_sample_value("palimpsest_decisions_total", labels)

    assert [counted("canary-rule", mode) for mode in ("enforce", "canary", "shadow")] == [None, 1, 1]
    assert counted("old-rule", "enforce") == 1


def test_models_share_gauges_by_their_sum_or_by_the_one_that_stands_worst() -> None:
    registry = CollectorRegistry()
    recorder = Recorder(registry)
    one, two = recorder.of("one"), recorder.of("two")

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"palimpsest_{name}", labels)

    def follows(model: Recorder, digest: str) -> None:
        model.policies(generation=1, digest=f"sha256:{64 * digest}", loaded=0.0, unfit=1, rules=[], floor=True)

    one.queue_depth(3, 100.0)
    two.queue_depth(2, 50.0)
    assert (value("queue_depth"), value("queue_oldest_timestamp_seconds")) == (5, 50)
    assert [value("model_queue_depth", model=name) for name in ("one", "two")] == [3, 2]
    two.queue_depth(0)
    assert (value("queue_depth"), value("queue_oldest_timestamp_seconds")) == (3, 100)
    follows(one, "b")
    alone = value("policy_number_max")
    follows(two, "c")
    together = value("policy_number_max")
    assert (value("unfit_rules"), alone) == (2, int(12 * "b", 16))
    follows(one, "a")
    assert len({alone, together, value("policy_number_max")}) == 3, "a change of either model is a change"


def test_a_value_outside_of_a_closed_label_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`result` must be one of ok, failed, got `maybe`"):
        Recorder(CollectorRegistry()).reload("maybe")  # type: ignore[arg-type]


def test_a_worker_that_starts_changes_no_minimum() -> None:
    registry = CollectorRegistry()
    Recorder(registry).start()
    for name in ("policy_loaded_timestamp_seconds", "policy_generation_min", "engine_beat_timestamp_seconds"):
        assert registry.get_sample_value(f"palimpsest_{name}") == float("inf"), name
    assert registry.get_sample_value("palimpsest_workers_up") == 1
    assert registry.get_sample_value("palimpsest_engine_ready") == 0


def test_every_verb_moves_what_it_names() -> None:
    registry = CollectorRegistry()
    recorder = Recorder(registry)
    for verb, name, labels in (
        (lambda: recorder.rung("blur", "passed", 0.1), "rungs_total", {"rung": "blur", "result": "passed"}),
        (recorder.extra_generation, "extra_generations_total", {}),
        (lambda: recorder.fallback("fired"), "fallbacks_total", {"reason": "fired"}),
        (lambda: recorder.dropped("disconnect"), "cancelled_pictures_total", {"reason": "disconnect"}),
        (
            lambda: recorder.shadow_difference("allow", "block"),
            "shadow_differences_total",
            {"enforced": "allow", "shadow": "block"},
        ),
        (lambda: recorder.batch(4, 3), "batch_padding_rows_total", {}),
        (lambda: recorder.reload("failed"), "policy_reloads_total", {"result": "failed"}),
        (recorder.turned_away, "queue_rejections_total", {}),
        (recorder.step, "engine_steps_total", {}),
        (recorder.out_of_memory, "out_of_memory_total", {}),
        (lambda: recorder.broken_picture("decoded"), "broken_pictures_total", {"cause": "decoded"}),
        (lambda: recorder.rung("wider", "failed", 0.5), "rung_duration_seconds_sum", {"rung": "wider"}),
        (lambda: recorder.steered(["pip"], rows=8), "steered_rows_total", {"concept": "pip"}),
        (lambda: recorder.steered(["pip"], rows=8, dose=[0.2]), "steering_dose_sum", {"concept": "pip"}),
        (lambda: recorder.detector("easyocr", 0.2), "detector_duration_seconds_sum", {"detector": "easyocr"}),
        (lambda: recorder.breaker("easyocr", "open"), "detector_open", {"detector": "easyocr"}),
        (lambda: recorder.decision_errors(["r"]), "decision_errors_total", {"rule": "r"}),
        (lambda: recorder.decision_errors([], stale=True), "stale_decisions_total", {}),
        (lambda: recorder.queue_depth(3, 12.0), "queue_depth", {}),
        (lambda: recorder.audit("error"), "audit_events_total", {"result": "error"}),
    ):
        before = registry.get_sample_value(f"palimpsest_{name}", labels) or 0.0
        verb()
        assert (registry.get_sample_value(f"palimpsest_{name}", labels) or 0.0) > before, name


def test_processes_are_summed_and_a_dead_worker_is_forgotten(tmp_path: Path) -> None:
    worker = """
from service.metrics.recorder import Recorder
import os, sys
r = Recorder()
r.ready(True)
r.extra_generation()
r.policies(generation=int(sys.argv[1]), digest=f"sha256:{64 * sys.argv[1]}", loaded=1.0, unfit=0, rules=[], floor=True)
os._exit(0)  # like a worker that was killed: nothing is cleaned up
"""
    reader = """
from service.metrics import recorder
import os
if os.environ.get("REMEMBER"):
    recorder.forget_dead_workers = lambda folder: None
print(recorder.render()[0].decode())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def run(code: str, *arguments: str, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    run(worker, "4")
    run(worker, "7")
    text = run(reader, REMEMBER="1")
    assert "palimpsest_extra_generations_total 2.0" in text
    assert "palimpsest_policy_generation_min 4.0" in text
    assert "palimpsest_policy_generation_max 7.0" in text
    numbers = {bound: re.findall(rf"^palimpsest_policy_number_{bound} (\S+)", text, re.M) for bound in ("min", "max")}
    assert float(numbers["min"][0]) == 0x444444444444
    assert float(numbers["max"][0]) == 0x777777777777
    assert "palimpsest_engine_ready 2.0" in text, "nobody but us tells the client that a killed worker is dead"
    text = run(reader)
    assert "palimpsest_extra_generations_total 2.0" in text
    assert "palimpsest_engine_ready" not in re.sub("# .*", "", text)
    assert "process_" not in text
    alive = run(f"from service.metrics.recorder import Recorder\nRecorder()\n{reader}\nprint(os.getpid())")
    *text, pid = alive.split()
    seen = re.findall(r'^process_(\w+)\{pid="(\d+)"\} (\S+)$', alive, re.M)
    values = {name: float(value) for name, process, value in seen if process == pid}
    assert set(values) >= {"cpu_seconds_total", "resident_memory_bytes", "open_fds", "start_time_seconds"}
    assert len(values) == len(seen), "the killed ones have none"
    assert 1e6 < values["resident_memory_bytes"] < 1e10
    assert values["open_fds"] > 2
    assert abs(values["start_time_seconds"] - time.time()) < 600


def test_every_process_has_its_own_series_under_one_name() -> None:
    from service.metrics.processes import Processes

    registry = CollectorRegistry()
    registry.register(Processes([os.getpid(), os.getppid(), 2**22 + 1]))
    text = generate_latest(registry).decode()
    assert text.count("# TYPE process_cpu_seconds_total counter") == 1
    assert set(re.findall(r'process_cpu_seconds_total\{pid="(\d+)"\}', text)) == {str(os.getpid()), str(os.getppid())}


@pytest.mark.system
def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    import shutil

    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    registry = CollectorRegistry()
    Recorder(registry).start()
    done = subprocess.run(["promtool", "check", "metrics"], input=generate_latest(registry), capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
