"""What happens to requests while something breaks: real processes, a tiny model, clients that ask all the time.

`make test-system` runs it; `pytest tests/deploy/test_faults.py -m system --faults-table=tests/bench/results/faults.md`
writes what it saw as a table. The law of all of them: where the policy demands that a picture is read, none leaves
unread. `unread` counts what was handed out under such a rule and not read: by the readings that the service counted,
or by the time from which nothing could be read.

Mutations that turned it red: readings that fail give `Signals` that cover everything (OCR hanging, unread > 0); a
worker that starts accepts at once (worker killed, 503); `audit = required` answers all the same (disk full).
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.running import TWO_RULES, Load, Server, lettering_pack, load, serving, until
from tests.tiny import save_pixart

pytestmark = pytest.mark.system

READER = "rapidocr"
RUDE = """
  - id: rude
    why: Rude signs.
    category: harassment
    when: {lettering: {toxicity_at_least: 0.9}}
    then: [{do: block}]
    on_error: block
"""
MIX = [
    ("free", {"prompt": "a red moon"}),
    ("read", {"prompt": 'a moon with a sign that says "idiot"'}),
    ("never", {"prompt": "a forbidden moon"}),
]
# a library of detectors that hangs while a file is there: the real one, wrapped before anybody imports it
HANGING = """
import importlib, os, sys, time
here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:] = [p for p in sys.path if os.path.abspath(p) != here]
del sys.modules["rapidocr"]
real = importlib.import_module("rapidocr")
found = real.RapidOCR.detect_and_crop
def hanging(self, *arguments, **options):
    while os.path.exists(os.environ["HANG"]):
        time.sleep(0.05)
    return found(self, *arguments, **options)
real.RapidOCR.detect_and_crop = hanging
sys.modules["rapidocr"] = real
"""

Row = Callable[[str, str, str, int | str, str], None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pixart(tmp_path_factory.mktemp("faults") / "model")


@pytest.fixture(scope="module")
def packs(model: Path) -> Path:
    return lettering_pack(model, model.parent / "packs")


def unread(server: Server, load: Load) -> int:
    """Pictures that left under the rule that demands a reading, beyond those that were read."""
    left = sum(a.status == 200 for a in load.answers if a.kind == "read")
    tried = server.metric("detector_duration_seconds_count", detector=READER)
    # what an open circuit refuses was not tried
    failed = sum(server.metric("detector_errors_total", detector=READER, reason=r) for r in ("timeout", "error"))
    return max(0, round(left - (tried - failed)))


def told(codes: Counter[str]) -> str:
    """What callers saw, most frequent first; 0 is a connection that broke."""
    return ", ".join(f"{n} x {'connection broken' if c == '0' else c}" for c, n in codes.most_common())


def enough(load: Load, since: float, kind: str, count: int = 3, seconds: float = 120) -> None:
    until(lambda: len(load.since(since, kind=kind)) >= count, seconds, f"{count} answers to `{kind}`")


def test_a_worker_is_killed(model: Path, packs: Path, tmp_path: Path, row: Row) -> None:
    with serving(tmp_path / "s", model=str(model), policy=TWO_RULES, packs=packs, workers=2) as server:
        with load(server, MIX, clients=6) as running:
            enough(running, 0, "read")
            killed = time.monotonic()
            victim = server.workers[0]
            os.kill(victim, signal.SIGKILL)
            until(lambda: _replaced(server, victim), 240, "two workers are ready again")
            back = time.monotonic() - killed
            after = time.monotonic()
            enough(running, after, "read")
        codes = running.codes(killed, to=after)
        assert codes["0"] <= 6, "only what the killed worker had in hand is lost"
        assert set(codes) <= {"200", "400 moderation_blocked", "0"}, codes
        assert set(running.codes(after)) <= {"200", "400 moderation_blocked"}
        assert not [a for a in running.answers if a.kind == "never" and a.status == 200]
        missed = unread(server, running)
        assert missed == 0
        assert {f["kind"] for f in server.verified()["findings"]} <= {"open", "running"}
        row(
            "worker killed", "SIGKILL to one of two workers under load", told(codes), missed,
            f"a third process was ready after {back:.0f} s and took no connection before; the audit chain holds",
        )  # fmt: skip


def _replaced(server: Server, victim: int) -> bool:
    """Whether another process is in its place and answers; its note stays until it is buried."""
    return len(server.workers) == 2 and victim not in server.workers and server.ready(2)


def test_the_reader_of_pictures_hangs(model: Path, packs: Path, tmp_path: Path, row: Row) -> None:
    (tmp_path / "first" / "rapidocr").mkdir(parents=True)
    (tmp_path / "first" / "rapidocr" / "__init__.py").write_text(HANGING)
    hang = tmp_path / "hang"
    options = {"packs": packs, "detector_seconds": 3, "first": [tmp_path / "first"], "also": {"HANG": str(hang)}}
    with serving(tmp_path / "s", model=str(model), policy=TWO_RULES, **options) as server:  # type: ignore[arg-type]
        with load(server, MIX, clients=6) as running:
            enough(running, 0, "read")
            assert running.codes(0, kind="read")["200"] > 0, "pictures are read and leave"
            hang.touch()
            hung = time.monotonic()
            until(lambda: _circuit(server) == "open", 60, "the circuit opens")
            opened = time.monotonic() - hung
            enough(running, time.monotonic(), "read")
            enough(running, hung, "free")
            over = time.monotonic()
            hang.unlink()
            until(lambda: running.codes(over, kind="read")["200"] > 0, 120, "pictures are read again")
            back = time.monotonic() - over
            until(lambda: not server.get("status")["degraded"], 60, "all is well")
        assert set(running.codes(hung, to=over, kind="read")) == {"400 moderation_blocked"}
        # its rule looks at every picture, and here at none
        assert set(running.codes(hung, to=over, kind="free")) == {"400 moderation_blocked"}
        missed = running.codes(hung, to=over)["200"]  # nothing could be read
        assert missed == 0
        row(
            "OCR hanging", "every reading hangs under load", told(running.codes(hung, to=over)), missed,
            f"circuit open after {opened:.1f} s; every picture was refused, because a rule looks at them all; read"
            f" again {back:.0f} s after it came back",
        )  # fmt: skip


def _circuit(server: Server) -> str:
    (worker,) = server.get("status")["workers"]
    return next(str(d["circuit"]) for d in worker["detectors"] if d["name"] == READER)


def test_the_toxicity_model_is_missing_or_cut(model: Path, tmp_path: Path, row: Row) -> None:
    from detectors.detox import EMBEDDED

    missing = tmp_path / "nothing"
    with serving(tmp_path / "a", model=str(model), policy=TWO_RULES + RUDE, detoxify=missing, wait=False) as server:
        assert server.process.wait(120) == 2
        assert "`detoxify` must be a folder" in server.log
        assert "Traceback" not in server.log
    cut = shutil.copytree(EMBEDDED, tmp_path / "cut")
    (weights,) = cut.glob("*.ckpt")
    os.truncate(weights, weights.stat().st_size // 2)
    with serving(tmp_path / "b", model=str(model), policy=TWO_RULES + RUDE, detoxify=cut) as server:
        began = time.monotonic()
        with load(server, MIX, clients=3) as running:
            enough(running, began, "free", 5)
            enough(running, began, "read", 5)
        codes = running.codes(began, kind="read")
        assert set(codes) == {"400 moderation_blocked"}, codes
        assert server.get("status")["degraded"]
    row(
        "toxicity model missing", "no folder; then half a checkpoint, and a rule that needs it (`on_error: block`)",
        f"no folder: exit 2 before anything listens. Cut: signs {told(codes)}", 0,
        "`GET /v1/status` says `degraded` and which detector",
    )  # fmt: skip


def test_the_disk_of_the_audit_log_is_full(model: Path, packs: Path, tmp_path: Path, row: Row) -> None:
    with serving(tmp_path / "s", model=str(model), policy=TWO_RULES, packs=packs, audit="required") as server:
        with load(server, MIX, clients=4) as running:
            enough(running, 0, "read")
            (worker,), (file,) = server.workers, (tmp_path / "s" / "state" / "audit").glob("*.jsonl")
            _, hard = resource.prlimit(worker, resource.RLIMIT_FSIZE)
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (file.stat().st_size + 100, hard))  # not one record more
            time.sleep(0.5)
            full = time.monotonic()
            for kind in ("free", "read", "never"):
                enough(running, full, kind)
            free = time.monotonic()
            resource.prlimit(worker, resource.RLIMIT_FSIZE, (hard, hard))
            again = time.monotonic()
            for kind in ("free", "read", "never"):
                enough(running, again, kind)
        during = [a for a in running.since(full) if a.ended < free]
        assert {a.code for a in during} == {"503 audit_unavailable"}, Counter(a.code for a in during)
        assert set(running.codes(again)) == {"200", "400 moderation_blocked"}
        assert server.metric("audit_events_total", result="error") > 0
        assert {f["kind"] for f in server.verified()["findings"]} <= {"open", "running"}, (
            "no half line, and the chain goes on"
        )
        answered = sum(a.status in (200, 400) for a in running.answers)
        recorded = sum(r.get("event") == "decision" for r in server.audit())
        assert recorded >= answered
        missed = unread(server, running)
        assert missed == 0
    codes = Counter(a.code for a in during)
    row(
        "disk full for the audit log", "no byte more fits (file size limit of the worker), `audit = required`",
        told(codes), missed, "nothing left without a record; answers at once when there was room; the chain holds",
    )  # fmt: skip


def test_the_policy_file_is_cut(model: Path, packs: Path, tmp_path: Path, row: Row) -> None:
    cuts = 0
    with serving(tmp_path / "s", model=str(model), policy=TWO_RULES, packs=packs) as server:
        with load(server, MIX, clients=4) as running:
            enough(running, 0, "read")
            began = time.monotonic()
            inside = [k for k in range(200, len(TWO_RULES)) if TWO_RULES[:k].count("{") > TWO_RULES[:k].count("}")]
            for size in inside[:: len(inside) // 12]:
                server.policy.write_text(TWO_RULES[:size])
                until(lambda: _source(server) == "last-good", 10, "the cut file is refused")
                cuts += 1
            server.policy.write_text(TWO_RULES)
            until(lambda: _source(server) == "live", 10, "the whole file")
            enough(running, time.monotonic(), "never")
        assert set(running.codes(began)) <= {"200", "400 moderation_blocked"}
        assert not [a for a in running.answers if a.kind == "never" and a.status == 200]
        missed = unread(server, running)
        assert missed == 0
    row(
        "policy file truncated", f"cut to {cuts} lengths while requests run", told(running.codes(began)), missed,
        "the last good policies stay, `GET /v1/policies` says why. Cut after a whole rule it is a policy of fewer"
        " rules, which only a signed bundle can tell",
    )  # fmt: skip


def _source(server: Server) -> str:
    return str(server.get("policies")["workers"][0]["policy"]["source"])


@pytest.mark.parametrize("fault", ["weights cut", "no configuration", "no folder"])
def test_the_model_cannot_be_read_at_the_start(model: Path, tmp_path: Path, row: Row, fault: str) -> None:
    broken = shutil.copytree(model, tmp_path / "model")
    if fault == "weights cut":
        weights = max((broken / "transformer").glob("*.safetensors"), key=lambda f: f.stat().st_size)
        os.truncate(weights, weights.stat().st_size // 2)
    elif fault == "no configuration":
        (broken / "transformer" / "config.json").unlink()
    else:
        shutil.rmtree(broken)
    with serving(tmp_path / "s", model=str(broken), policy=TWO_RULES, wait=False) as server:
        code = server.process.wait(240)
        assert code == 2, server.log[-2000:]
        lines = [line for line in server.log.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, server.log[-2000:]
        assert str(broken) in lines[0], "it names the folder that was given"
    row(
        f"model unreadable at start: {fault}", "as named", "nothing: no worker became ready", 0,
        f"one line says why, exit {code}",
    )  # fmt: skip


def test_clients_vanish(model: Path, packs: Path, tmp_path: Path, row: Row) -> None:
    options = {"max_steps": 1000, "queue_size": 64, "max_batch": 2, "packs": packs}
    with serving(tmp_path / "s", model=str(model), policy=TWO_RULES, **options) as server:  # type: ignore[arg-type]
        with load(server, MIX, clients=2) as running:
            enough(running, 0, "read")
            began = time.monotonic()
            long = {"n": 2, "num_inference_steps": 1000, "timeout": 1.0}
            leaving = [threading.Thread(target=server.ask, args=("a slow moon",), kwargs=long) for _ in range(12)]
            for thread in leaving:
                thread.start()
            for thread in leaving:
                thread.join()
            gone = time.monotonic()
            enough(running, gone, "free")
            back = next(a.ended for a in running.since(gone, kind="free")) - gone
        assert set(running.codes(began)) <= {"200", "400 moderation_blocked"}
        dropped = server.metric("cancelled_pictures_total", reason="disconnect")
        left = [r for r in server.audit() if r.get("outcome") == "disconnect"]
        assert dropped >= 20, "a few may have left before their pictures were in the line"
        assert len(left) >= 10
        missed = unread(server, running)
        assert missed == 0
        row(
            "clients vanish", "12 clients ask for two pictures of 1,000 steps each and leave after 1 s",
            f"of those who stayed: {told(running.codes(began))}", missed,
            f"{dropped:.0f} pictures given up, {len(left)} audit records; the next free request took {back:.1f} s",
        )  # fmt: skip


@pytest.fixture(scope="module")
def row(request: pytest.FixtureRequest) -> Row:
    """Adds a row to the table, which is written after each of them where it was asked for."""
    rows: list[tuple[str, ...]] = []
    file = request.config.getoption("faults_table", None)

    def add(*cells: object) -> None:
        rows.append(tuple(map(str, cells)))
        if file is not None:
            _write(Path(str(file)), rows)

    return add


def _write(file: Path, rows: list[tuple[str, ...]]) -> None:
    head = ("fault", "how", "what callers saw", "left unread", "and then")
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rows)]
    file.write_text(
        "# Faults under load\n\n"
        "Written by `pytest tests/deploy/test_faults.py -m system --faults-table=FILE`: real processes, a tiny model\n"
        "with random weights, clients that ask all the time for pictures without a rule, under one that demands a\n"
        "reading, and for what is always blocked. `left unread`: pictures that the policy wanted read and that left\n"
        "all the same. 400 is `moderation_blocked`.\n\n" + "\n".join(lines) + "\n"
    )
