"""A real Prometheus scrapes the real service with two workers under mixed load, and every query has an answer.

`make test-system` runs it. What is asked: every query of every dashboard, every recording rule, and every value that an
alert compares; none may be empty, and those that do not move while everything happens are listed in `STEADY` with why.
The prompts carry a canary word, which may appear nowhere but in the requests.

No round of the load is like another: wording, steps and the share of each kind of request change, so that means, shares
and quantiles must change as well, however fast the machine is. Rounds go on until all that should move has moved; a
machine that is too slow for Prometheus to see every second round gets more of them, up to `MOST_ROUNDS`.

Mutations that turned it red: a metric renamed in a panel's text after the check of names; `engine_steps_total` never
moved; a prompt written to the log at the place where a request is counted.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.generate.alerts import ALERTS, RECORDS
from deploy.generate.dashboards import DASHBOARDS
from deploy.generate.queries import expand
from service.metrics.catalogue import CATALOGUE
from tests.running import REPAIR_LETTERING, ROOT, free_port, policy_text, until
from tests.tiny import save_pixart

pytestmark = pytest.mark.system

CANARY = "xylocanth"
WINDOW = "30s"  # what `$__rate_interval` would be
LEAST_ROUNDS, MOST_ROUNDS = 3, 12

POLICY = policy_text(
    "live",
    REPAIR_LETTERING
    + """
  - id: less-mouse
    why: An edit, so that there is a dose.
    category: other
    when: {prompt: {any_of: [mouse]}}
    then: [{do: steer, concept: animal/mouse}]
  - id: stubborn
    why: No picture is good enough, so every rung is climbed.
    category: other
    when: {prompt: {any_of: [stubborn]}}
    watch: matched-prompts
    then:
      - {do: steer, concept: lettering, toward: benign-word}
      - {do: verify, read: character/pip, below: 0.0, ladder: [wider, swap-prompt], otherwise: block}
    on_error: block
  - id: nowhere
    why: There is no pack for it.
    category: other
    when: {prompt: {any_of: [nowhere]}}
    then: [{do: steer, concept: place/nowhere, toward: somewhere}]
    unfit: swap-prompt
  - id: never
    why: Some words are refused wherever they stand.
    category: hate
    when: {prompt: {any_of: [forbidden]}}
    then: [{do: block}]
    exceptions:
      - id: museum
        when: {prompt: {any_of: [museum]}}
        reason: History is shown.
        approved_by: lead@example.com
        expires: 2099-01-01
  - id: desk
    why: A person looks at these first.
    category: news
    when: {prompt: {any_of: [election]}}
    then: [{do: review-hold, queue: news-desk}]
  - id: first-steps
    why: A canary that nearly every request is drawn for.
    category: other
    when: {prompt: {any_of: [ring]}}
    then: [{do: label, value: ring}]
    rollout: {mode: canary, percent: 99}
  - id: trial
    why: Tried in shadow first.
    category: other
    when: {prompt: {any_of: [star]}}
    then: [{do: block}]
    rollout: {mode: shadow}
""",
)

# what may stay as it is while everything happens: a state that is right all the time, or a fault that nobody caused
STEADY = {
    "workers_up": "no worker ended",
    "engine_ready": "no worker ended",
    "build_info": "one version",
    "model_loaded": "the model stays in memory",
    "model_loads_total": "the model is loaded once; tests/service/worker/test_models.py loads several",
    "rules": "the reload changes a word, not a rollout",
    "policy_expires_timestamp_seconds": "the policies are no bundle",
    "signing_certificate_expires_timestamp_seconds": "nothing is signed",
    "marks_total": "nothing is marked; tests/service/marking does",
    "provenance_checks_total": "nothing is checked; tests/service/marking does",
    "unfit_rules": "one rule is unfit all the time",
    "floor_missing": "the shipped floor is added to the policies",
    "detector_open": "no detector failed often enough",
    "detector_errors_total": "no detector failed",
    "decision_errors_total": "no rule could not be judged",
    "stale_decisions_total": "no policy is too old",
    "out_of_memory_total": "there is memory",
    "broken_pictures_total": "the weights are sound; tests/service/worker/test_broken.py breaks them",
    "fallbacks_total": "steering did what it said; only a rule without a pack replaced prompts",
    "rate_fallbacks_total": "no Redis; tests/deploy/test_redis.py stops one",
    "policy_number_min": "workers may agree at every scrape",
    "policy_number_max": "workers may agree at every scrape",
    "up": "the server was up",
    "review_decisions_total": "nobody decides; tests/deploy/test_workers.py does",
    "review_looks_total": "nobody looks",
    "rewritten_prompts_total": "the pipeline rewrites nothing; tests/service/worker/test_serve_rewriting.py does",
    "picture_links_total": "nobody asks for links; tests/service/http/test_pictures.py does",
    "woken_pictures_total": "no rule asks a sentinel",
    "strikes_total": "no rule asks for strikes",
}

# the same for single queries: what they ask of metrics that move does not
STEADY_QUERIES = {
    "operations/Pictures in a batch/0": "`fixed` batching pads every batch to one size",
    "safety/Share of climbs that repaired/0": "random weights repair nothing",
    "steering/Dose of edits, middle and 95 of 100/0": "one operator on random weights stays in one bucket",
    "steering/Dose of edits, middle and 95 of 100/1": "the same",
    "operations/Share of failures of ours/0": "nothing of ours failed",
    "record/palimpsest:failed:ratio5m": "nothing of ours failed",
    "record/palimpsest:failed:ratio15m": "nothing of ours failed",
    "recorded/palimpsest:failed:ratio15m": "nothing of ours failed",
    "alert/PalimpsestFailedBurst/0": "nothing of ours failed",
    "alert/PalimpsestFailedBurst/1": "nothing of ours failed",
    "recorded/palimpsest:failed:ratio5m": "nothing of ours failed",
    "alert/PalimpsestFailing/0": "nothing of ours failed",
    "alert/PalimpsestReviewsRefused/0": "there is room for every case",
    "alert/PalimpsestAuditWriteFailing/0": "the disk has room; tests/service/test_audit.py fills one",
}


def _queries() -> Iterator[tuple[str, str]]:
    """Where a query stands, and its text."""
    for board in DASHBOARDS:
        for panel in board.panels:
            for k, query in enumerate(panel.queries):
                yield f"{board.name}/{panel.title}/{k}", query.text
    for record in RECORDS:
        yield f"record/{record.name}", expand(record.expression)
        yield f"recorded/{record.name}", record.name
    for alert in ALERTS:
        for k, condition in enumerate(alert.conditions):
            yield f"alert/{alert.name}/{k}", expand(condition.value)


QUERIES = dict(_queries())


@dataclass(frozen=True)
class Live:
    """The service, its Prometheus, and what was started when."""

    service: str
    prometheus: str
    folder: Path
    policy: Path
    answers: list[tuple[str, int, str]]
    began: float

    def query(self, text: str, path: str = "query", **options: Any) -> list[dict[str, Any]]:
        """The series that Prometheus answers."""
        for variable in ("$job", "$namespace", "$instance"):
            text = text.replace(variable, ".*")
        text = text.replace("$__rate_interval", WINDOW)
        asked = {"query": text, **options}
        answer = httpx.get(f"{self.prometheus}/api/v1/{path}", params=asked, timeout=60).json()
        assert answer["status"] == "success", f"{text}: {answer}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def moved(self, text: str) -> bool:
        """Whether any of the series had two values in the run."""
        span = {"start": self.began, "end": time.time(), "step": "1s"}
        series = [{v for _, v in s["values"]} - {"NaN"} for s in self.query(text, "query_range", **span)]
        return any(len(values) > 1 for values in series)

    def unexplained(self) -> dict[str, str]:
        """The queries that did not move, and nobody said why."""
        names = re.compile(r"\b(?:palimpsest_)?([a-z_]+)\b")
        wanted = {
            where: text
            for where, text in QUERIES.items()
            if where not in STEADY_QUERIES and not set(names.findall(text)) & set(STEADY)
        }
        return {where: text for where, text in wanted.items() if not self.moved(text)}

    def still(self) -> list[str]:
        """The metrics that did not move, and nobody said why."""
        names = (m.name + ("_count" if m.kind == "histogram" else "") for m in CATALOGUE if m.name not in STEADY)
        return [name for name in names if not self.moved(f"palimpsest_{name}")]

    def scraped(self, *, since: float) -> int:
        """How often the service was scraped after `since`, in seconds of the epoch."""
        (up,) = self.query("up[10m]") or [{"values": []}]
        return sum(value == "1" for at, value in up["values"] if at > since)


@contextlib.contextmanager
def _running(arguments: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, stdout=out, stderr=out, **options)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()


def _packs(model: Path, folder: Path) -> Path:
    """A pack that swaps lettering, and one that edits mice away."""
    import torch

    from steering import Choice, Host, Operator, Pack, Window

    host = Host.load(model)
    names = tuple(site.name for site in host.sites)
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(1, 16, generator=generator), dim=-1)
    common: dict[str, Any] = {
        "host": host.fingerprint, "sites": names[1:3], "wider": names[:3], "site_names": names,
        "scores": torch.ones(len(names), 1), "bins": (Window(0, 1),), "evidence": {"kind": "measured"},
        "choice": Choice(k=2, share=0.9, low=0.8, high=1.0),
    }  # fmt: skip
    Pack(concept="lettering", **common).save(folder / "lettering.safetensors")
    edit = Operator(e=direction, d=direction, m=torch.zeros(1, 16))
    Pack(concept="animal/mouse", operators=dict.fromkeys(names[:3], (edit,)), **common).save(
        folder / "animal-mouse.safetensors"
    )
    return folder


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    if shutil.which("prometheus") is None:
        pytest.fail("the Debian package `prometheus` is not installed; `make test-system` installs it")
    folder = tmp_path_factory.mktemp("live")
    for name in ("policies", "packs", "data"):
        (folder / name).mkdir()
    policy = folder / "policies" / "live.yaml"
    policy.write_text(POLICY)
    model = save_pixart(folder / "model")
    _packs(model, folder / "packs")
    service, prometheus = free_port(), free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PALIMPSEST_PACKS": str(folder / "packs"),
        "PALIMPSEST_JUDGE": str(ROOT / "reference" / "judges" / "first"),  # no model of ours is served here
        "PALIMPSEST_STATE": str(folder / "state"),
        "PALIMPSEST_QUEUE_SIZE": "8",
        "PALIMPSEST_MAX_STEPS": "1000",
        "PALIMPSEST_THREADS": "1",
        "PALIMPSEST_BATCHING": "fixed",
        "PALIMPSEST_MAX_BATCH": "4",
        "PALIMPSEST_GRACE_SECONDS": "5",
        "PALIMPSEST_DETECTOR_SECONDS": "60",
        "PALIMPSEST_DEADLINE_SECONDS": "120",
        "PALIMPSEST_ADAPTERS": f"mice={folder / 'packs' / 'animal-mouse.safetensors'}",
    }
    serve = [sys.executable, "-c", "from palimpsest.cli.main import main; main()", "serve", "--workers", "2"]
    serve += ["--model", str(model), "--policy", str(policy.parent), "--port", str(service)]
    shutil.copy(ROOT / "deploy" / "prometheus" / "rules.yml", folder / "rules.yml")
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\nscrape_configs:\n"
        f"  - {{job_name: palimpsest, static_configs: [{{targets: ['127.0.0.1:{service}']}}]}}\n"
    )
    scrape = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    scrape += [f"--web.listen-address=127.0.0.1:{prometheus}", "--log.level=warn"]
    live = Live(f"http://127.0.0.1:{service}", f"http://127.0.0.1:{prometheus}", folder, policy, [], time.time())
    with (
        _running(serve, folder / "service.log", cwd=folder, env=environment) as server,
        _running(scrape, folder / "prometheus.log"),
    ):

        def ready() -> bool:
            assert server.poll() is None, (folder / "service.log").read_text()[-3000:]
            workers = httpx.get(f"{live.service}/v1/policies", timeout=10).json().get("workers", ())
            return [worker["state"] for worker in workers] == ["ready", "ready"]

        until(ready, 120, "two workers are ready")
        until(lambda: live.scraped(since=0) >= 3, 60, "Prometheus saw a service that nobody has asked yet")
        for k in range(MOST_ROUNDS):
            live.answers.extend(_round(live.service, policy, k))
            if k + 1 >= LEAST_ROUNDS and not live.unexplained() and not live.still():
                break
        over = time.time()
        until(lambda: live.scraped(since=over) >= 2, 60, "Prometheus saw the end")
        print(f"\nrounds: {k + 1}, seconds: {time.time() - live.began:.0f}")
        yield live


def _kinds(k: int) -> dict[str, dict[str, Any]]:
    """What is asked in round `k`, by kind: the dose depends on the words, rows and seconds depend on the steps."""
    count, some = ("one", "two", "three")[k % 3], {"num_inference_steps": (2, 60, 10, 200)[k % 4]}
    mice = " and ".join(["a mouse"] * (1 + k % 5))
    return {
        "allow": {"prompt": f"a red moon and a {CANARY}"},
        "steer": {"prompt": f'{count} {CANARY} with a sign that says "idiot"', **some},
        "dose": {"prompt": f"{mice} and a {CANARY}", **some},
        "climb": {"prompt": f'a stubborn {CANARY} with a sign that says "hello"', **some},
        "unfit": {"prompt": f"nowhere but a {CANARY}"},
        "block": {"prompt": f"a forbidden {CANARY}"},
        "exempt": {"prompt": f"a forbidden {CANARY} in a museum"},
        "held": {"prompt": f"an election and a {CANARY}"},
        "shadow": {"prompt": f"a star and a {CANARY}"},
        "adapter": {"prompt": f"a ring and a {CANARY}", "lora": {"name": "mice"}},
    }


def _round(url: str, policy: Path, k: int) -> list[tuple[str, int, str]]:
    """Everything that can happen to a request: what was asked, the status, the body. No kind keeps its share."""
    crowd = {"prompt": CANARY, "n": 4, "num_inference_steps": 40}
    bodies = [("leave", {"prompt": CANARY, "n": 4, "num_inference_steps": 1000})]
    for i, (kind, body) in enumerate(_kinds(k).items()):
        bodies += [(kind, body)] * (1 + (k + i) % 3)
    bodies += [("bad", {"prompt": CANARY, "sede": 1}), ("bad", {"prompt": CANARY, "size": "17x17"})]
    bodies += [("crowd", crowd)] * 12  # two workers hold 8 of their pictures each, and make 4
    path = f"{url}/v1/images/generations"

    def ask(kind: str, body: dict[str, Any]) -> tuple[str, int, str]:
        try:
            answer = httpx.post(path, json=body, timeout=0.5 if kind == "leave" else 120)
        except httpx.TimeoutException:
            return kind, 0, ""
        return kind, answer.status_code, "" if answer.status_code == 200 else answer.text

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda asked: ask(*asked), bodies))
    answers += [("text", httpx.post(path, content=f"{{{CANARY}", timeout=60).status_code, "")]
    for other in ("models", "policies", "nothing"):
        answers += [("other", httpx.get(f"{url}/v1/{other}", timeout=60).status_code, "")]
    policy.write_text((POLICY.replace("[forbidden]", "[forbidden, banned]"), POLICY[:300], POLICY)[k % 3])
    time.sleep(1.5)
    return answers


def test_the_load_was_mixed(live: Live) -> None:
    seen = {(kind, status) for kind, status, _ in live.answers}
    assert {("allow", 200), ("steer", 200), ("dose", 200), ("climb", 400), ("block", 400), ("exempt", 200)} <= seen
    assert {
        ("held", 202),
        ("shadow", 200),
        ("unfit", 200),
        ("bad", 400),
        ("crowd", 429),
        ("leave", 0),
        ("text", 415),
    } <= seen
    failed = [(kind, status, body) for kind, status, body in live.answers if status >= 500]
    assert not failed, json.dumps(failed, indent=1)


def test_every_query_of_every_dashboard_rule_and_alert_has_an_answer(live: Live) -> None:
    empty = {where: text for where, text in QUERIES.items() if not live.query(text)}
    assert not empty, json.dumps(empty, indent=1)


def test_those_that_should_move_do(live: Live) -> None:
    unexplained = live.unexplained()
    assert not unexplained, json.dumps(unexplained, indent=1)


def test_every_metric_is_scraped_and_moves_unless_it_is_known_to_be_steady(live: Live) -> None:
    for metric in CATALOGUE:
        name = f"palimpsest_{metric.name}" + ("_count" if metric.kind == "histogram" else "")
        assert live.query(name), name
    assert not live.still(), "these did not move"


def test_the_series_stay_under_two_thousand(live: Live) -> None:
    (count,) = live.query('count({__name__=~"palimpsest_.*"})')
    print(f"\nseries: {count['value'][1]}")
    assert float(count["value"][1]) < 2000


def test_two_workers_are_summed(live: Live) -> None:
    (up,) = live.query("sum(palimpsest_workers_up)")
    assert float(up["value"][1]) == 2
    asked = sum(kind != "other" and status != 0 for kind, status, _ in live.answers)
    (counted,) = live.query('sum(palimpsest_requests_total{endpoint="generations",outcome!="cancelled"})')
    assert float(counted["value"][1]) == asked


def test_alerts_are_evaluated_and_the_right_ones_wait(live: Live) -> None:
    rules = httpx.get(f"{live.prometheus}/api/v1/rules").json()["data"]["groups"]
    alerts = {r["name"]: r for g in rules for r in g["rules"] if r["type"] == "alerting"}
    assert set(alerts) == {alert.name for alert in ALERTS}
    assert all(alert["health"] == "ok" for alert in alerts.values())
    assert alerts["PalimpsestUnfitRules"]["state"] == "pending"
    assert alerts["PalimpsestDown"]["state"] == "inactive"


def test_the_canary_is_nowhere(live: Live) -> None:
    metrics = httpx.get(f"{live.service}/metrics").text
    places = {"metrics": metrics, "answers": json.dumps([body for _, _, body in live.answers])}
    places |= {str(f.relative_to(live.folder)): f.read_text() for f in (live.folder / "state").rglob("*.jsonl")}
    places["log"] = (live.folder / "service.log").read_text()
    assert any("jsonl" in place for place in places)
    assert "generations" in places["log"]
    for place, text in places.items():
        for word in (CANARY, "idiot", "stubborn"):
            kept = text.replace('"rule":"stubborn"', "")
            if place == "metrics" or "jsonl" in place or place == "log":
                kept = re.sub(r"stubborn", "", kept) if word == "stubborn" else kept
            assert word not in kept, f"`{word}` is in {place}"


def test_a_closed_audit_log_verifies(live: Live) -> None:
    command = [sys.executable, "-c", "from palimpsest.cli.main import main; main()", "audit", "verify", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PALIMPSEST_STATE": str(live.folder / "state")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    found = json.loads(done.stdout)
    assert {f["kind"] for f in found["findings"]} <= {"open", "running"}, "workers that run have no last line yet"
    assert found["records"] > 20
    assert not math.isnan(found["records"])
