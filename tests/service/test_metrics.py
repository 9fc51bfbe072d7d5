"""Metrics: bounded whatever is asked, true over several processes, named in one place."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import CATALOGUE, Outcome, Recorder

ROOT = Path(__file__).resolve().parent.parent.parent


def test_names_follow_prometheus_conventions() -> None:
    for metric in CATALOGUE:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert not re.search(r"_(ms|millis|percent|mb|kb)(_|$)", metric.name)
        assert metric.help.endswith(".")
        assert metric.labels == tuple(dict.fromkeys(metric.labels))
    assert len({m.name for m in CATALOGUE}) == len(CATALOGUE)


def test_no_other_module_makes_a_metric() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        if path.name != "metrics.py":
            assert "prometheus_client" not in path.read_text("utf-8"), path.name


def test_ten_thousand_rules_and_requests_stay_within_two_thousand_series() -> None:
    registry = CollectorRegistry()
    recorder = Recorder(registry)
    recorder.start()
    outcomes = get_args(Outcome)
    for k in range(10_000):
        recorder.request("generations", outcomes[k % len(outcomes)], 0.1)
        recorder.decision((f"rule-{k}",), "steer", mode="enforce")
        recorder.decision((f"rule-{k}",), "block", mode="shadow")
    families = text_string_to_metric_families(generate_latest(registry).decode())
    samples = [s for f in families for s in f.samples]
    assert len(samples) < 2000
    others = [s.value for s in samples if s.labels.get("rule") == "other" and s.name.endswith("decisions_total")]
    assert sum(others) == 2 * (10_000 - 200)


def test_every_verb_moves_what_it_names() -> None:
    registry = CollectorRegistry()
    recorder = Recorder(registry)
    for verb, name, labels in (
        (lambda: recorder.rung("blur", "passed"), "rungs_total", {"rung": "blur", "result": "passed"}),
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
    ):
        before = registry.get_sample_value(f"palimpsest_{name}", labels) or 0.0
        verb()
        assert (registry.get_sample_value(f"palimpsest_{name}", labels) or 0.0) > before, name


def test_processes_are_summed_and_a_dead_worker_is_forgotten(tmp_path: Path) -> None:
    worker = """
from service.metrics import Recorder
import os, sys
r = Recorder()
r.engine(ready=True)
r.extra_generation()
r.policies(generation=int(sys.argv[1]), loaded=1.0, unfit=0)
os._exit(0)  # like a worker that was killed: nothing is cleaned up
"""
    reader = """
from pathlib import Path
from service.metrics import Recorder, forget_dead_workers, render
import os
if os.environ.get("FORGET"):
    forget_dead_workers(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
print(render()[0].decode())
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
    text = run(reader)
    assert "palimpsest_extra_generations_total 2.0" in text
    assert "palimpsest_policy_generation_min 4.0" in text
    assert "palimpsest_policy_generation_max 7.0" in text
    assert "palimpsest_engine_ready 2.0" in text, "nobody tells the client that a killed worker is dead"
    text = run(reader, FORGET="1")
    assert "palimpsest_extra_generations_total 2.0" in text
    assert "palimpsest_engine_ready" not in re.sub("# .*", "", text)


@pytest.mark.system
def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    import shutil

    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    registry = CollectorRegistry()
    Recorder(registry).start()
    done = subprocess.run(["promtool", "check", "metrics"], input=generate_latest(registry), capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
