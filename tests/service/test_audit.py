"""The audit log finds every change and holds no prompt."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.audit import AuditKeys, AuditLog, find, load_keys, verify
from service.audit.heads import heads_of
from service.audit.keys import canonical

KEYS = AuditKeys.derive(b"a secret")


def write(folder: Path, records: int = 4, *, close: bool = True) -> Path:
    log = AuditLog(folder, KEYS)
    for k in range(records):
        log.append({"event": "decision", "k": k, "prompt": KEYS.hashed(f"prompt {k}")})
    if close:
        log.close()
    return log.path


def test_an_untouched_log_is_intact(tmp_path: Path) -> None:
    write(tmp_path)
    assert verify(tmp_path, keys=KEYS) == (6, [])


def change(lines: list[str]) -> list[str]:
    return [*lines[:2], lines[2].replace('"k":1', '"k":7'), *lines[3:]]


def remove(lines: list[str]) -> list[str]:
    return lines[:2] + lines[3:]


def swap(lines: list[str]) -> list[str]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def double(lines: list[str]) -> list[str]:
    return lines[:2] + lines[1:]


def garble(lines: list[str]) -> list[str]:
    return [*lines[:2], "{]", *lines[3:]]


@pytest.mark.parametrize("tamper", [change, remove, swap, double, garble])
def test_a_tampered_log_is_found(tmp_path: Path, tamper: Callable[[list[str]], list[str]]) -> None:
    path = write(tmp_path)
    path.write_text("\n".join(tamper(path.read_text().splitlines())) + "\n")
    _, findings = verify(tmp_path, keys=KEYS)
    assert [f.kind for f in findings] == ["broken"]


def test_whoever_lacks_the_key_cannot_mend_the_chain(tmp_path: Path) -> None:
    path = write(tmp_path)
    other, lines, previous = AuditKeys.derive(b"another"), [], "0" * 64
    for text in path.read_text().splitlines():
        line = json.loads(text)
        del line["mac"]
        line["prev"] = previous
        line |= {"key": other.id} if "key" in line else {}
        previous = other.mac(line)
        lines.append(canonical({**line, "mac": previous}).decode())
    path.write_text("\n".join(lines) + "\n")
    for head in heads_of(tmp_path).iterdir():
        head.unlink()
    heads_of(tmp_path).rmdir()
    assert [f.kind for f in verify(tmp_path, keys=other)[1]] == ["no-heads"], "only the key stands in the way"
    assert "key" in {f.kind for f in verify(tmp_path, keys=KEYS)[1]}


def test_a_log_cut_at_its_end_is_told_apart_from_a_closed_one(tmp_path: Path) -> None:
    write(tmp_path, close=False)
    (finding,) = verify(tmp_path, keys=KEYS)[1]
    assert (finding.kind, finding.faulty) == ("open", True)


def runs(folder: Path, count: int = 3) -> list[Path]:
    """The closed files of several runs, one after the other."""
    return [write(folder, records=3 + k) for k in range(count)]


def cut_with_close(files: list[Path]) -> None:
    """Cuts the newest file, which no later one vouches for."""
    lines = files[-1].read_text().splitlines()
    files[-1].write_text("\n".join(lines[:-2]) + "\n")


def cut_to_nothing(files: list[Path]) -> None:
    files[0].write_bytes(b"")


def cut_all_to_their_first_lines(files: list[Path]) -> None:
    for file in files:
        file.write_text(file.read_text().splitlines()[0] + "\n")


def remove_one(files: list[Path]) -> None:
    files[1].unlink()


def remove_oldest(files: list[Path]) -> None:
    files[0].unlink()


def remove_newest(files: list[Path]) -> None:
    files[-1].unlink()


def remove_all(files: list[Path]) -> None:
    for file in files:
        file.unlink()


def rename_one(files: list[Path]) -> None:
    files[1].rename(files[1].with_suffix(".bak"))


def replace_by_a_copy(files: list[Path]) -> None:
    files[1].write_bytes(files[0].read_bytes())


def add_a_copy(files: list[Path]) -> None:
    (files[0].parent / "audit-29990101T000000.000000Z-1.jsonl").write_bytes(files[0].read_bytes())


def exchange_names(files: list[Path]) -> None:
    between = files[0].with_suffix(".bak")
    files[0].rename(between)
    files[1].rename(files[0])
    between.rename(files[1])


def say_a_field_twice(files: list[Path]) -> None:
    """A reader that takes the first of two sees another value than the one under the MAC."""
    text = files[0].read_text()
    files[0].write_text(text.replace('"k":0', '"k":7,"k":0', 1))


def write_it_with_spaces(files: list[Path]) -> None:
    files[0].write_text(files[0].read_text().replace('"k":0', '"k": 0', 1))


def put_a_pipe_there(files: list[Path]) -> None:
    files[0].unlink()
    os.mkfifo(files[0])


def remove_heads(files: list[Path]) -> None:
    for head in heads_of(files[0].parent).iterdir():
        head.unlink()


def put_an_old_head_back(files: list[Path]) -> None:
    """As after a cut that the head should hide: the head of another file."""
    one, other = sorted(heads_of(files[0].parent).iterdir())[:2]
    one.write_bytes(other.read_bytes())


TAMPERINGS = [
    *(cut_with_close, cut_to_nothing, cut_all_to_their_first_lines, remove_one, remove_oldest, remove_newest),
    *(remove_all, rename_one, replace_by_a_copy, add_a_copy, exchange_names, say_a_field_twice, write_it_with_spaces),
    *(put_a_pipe_there, remove_heads, put_an_old_head_back),
]


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_whatever_is_done_to_the_files_is_found(tmp_path: Path, tamper: Callable[[list[Path]], None]) -> None:
    files = runs(tmp_path)
    assert verify(tmp_path, keys=KEYS) == (3 + 4 + 5 + 6, [])
    tamper(files)
    assert any(f.faulty for f in verify(tmp_path, keys=KEYS)[1])


@pytest.mark.parametrize("tamper", [cut_to_nothing, cut_all_to_their_first_lines, remove_one, exchange_names])
def test_the_chain_over_files_finds_it_where_the_heads_are_not_at_hand(
    tmp_path: Path, tamper: Callable[[list[Path]], None]
) -> None:
    files = runs(tmp_path)
    remove_heads(files)
    heads_of(tmp_path).rmdir()
    (unknown,) = verify(tmp_path, keys=KEYS)[1]
    assert (unknown.kind, unknown.faulty) == ("no-heads", True)
    assert verify(tmp_path, keys=KEYS, archived=True)[1] == []
    tamper(files)
    assert any(f.faulty for f in verify(tmp_path, keys=KEYS, archived=True)[1])
    for file in files:
        file.unlink(missing_ok=True)
    (nothing,) = verify(tmp_path, keys=KEYS)[1]
    assert (nothing.kind, nothing.faulty) == ("missing", True), "all is gone, or nothing was ever there"


def test_a_file_of_a_running_worker_is_no_fault_and_that_of_a_killed_one_is(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, KEYS)
    log.append({"k": 0})
    (running,) = verify(tmp_path, keys=KEYS)[1]
    assert (running.kind, running.faulty) == ("running", False)
    log._head.close()  # as the operating system does when the process ends
    (killed,) = verify(tmp_path, keys=KEYS)[1]
    assert (killed.kind, killed.faulty) == ("open", True)


def test_the_end_that_a_running_or_killed_worker_lost_is_told_by_its_head_and_by_the_next_file(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, KEYS)
    for k in range(3):
        log.append({"k": k})
    whole = log.path.read_bytes()
    log.path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    (running,) = verify(tmp_path, keys=KEYS)[1]
    assert (running.kind, running.text) == ("broken", "has 2 records, and 4 were written: its end was cut off")
    log._head.close()
    after = write(tmp_path)
    findings = {f.file: f.text for f in verify(tmp_path, keys=KEYS)[1]}
    assert "lost or changed records" in findings[after.name]


def test_a_worker_that_was_killed_between_a_record_and_its_head_lost_nothing(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, KEYS)
    log.append({"k": 0})
    (head,) = heads_of(tmp_path).iterdir()
    before = head.read_bytes()
    log.append({"k": 1})
    head.write_bytes(before)
    assert verify(tmp_path, keys=KEYS)[0] == 3
    assert [f.kind for f in verify(tmp_path, keys=KEYS)[1]] == ["running"]


def test_another_key_is_told_apart_from_a_change(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert {f.kind for f in verify(tmp_path, keys=AuditKeys.derive(b"another"))[1]} == {"key"}
    path.write_text(path.read_text().replace('"k":0', '"k":5'))
    (finding,) = (f for f in verify(tmp_path, keys=KEYS)[1] if f.line)
    assert (finding.kind, finding.text) == ("broken", "was changed")


def test_a_log_of_the_first_version_verifies_as_far_as_it_can(tmp_path: Path) -> None:
    """Written as version 1 was: no name, no key, no head."""
    previous, texts = "0" * 64, []
    for k, record in enumerate([{"event": "open"}, {"event": "decision", "k": 0}, {"event": "close"}]):
        line = {"v": 1, "seq": k, "ts": "2026-01-01T00:00:00.000+00:00", **record, "prev": previous}
        previous = KEYS.mac(line)
        texts.append(canonical({**line, "mac": previous}).decode() + "\n")
    path = tmp_path / "audit-20260101T000000.000000Z-1.jsonl"
    path.write_text("".join(texts))
    assert verify(tmp_path, keys=KEYS) == (3, [])
    write(tmp_path)
    assert verify(tmp_path, keys=KEYS) == (9, [])
    path.write_text("".join(texts[:-1]))
    assert [f.kind for f in verify(tmp_path, keys=KEYS)[1]] == ["open"]
    assert "another key" in verify(tmp_path, keys=AuditKeys.derive(b"another"))[1][0].text


def test_records_are_found_by_decision_and_by_prompt(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, KEYS)
    for k in range(3):
        log.append({"event": "decision", "decision_id": f"d{k}", "prompt": KEYS.hashed(f"prompt {k % 2}")})
    assert [line["decision_id"] for _, _, line in find(tmp_path, keys=KEYS, prompt="prompt 0")] == ["d0", "d2"]
    assert [number for _, number, _ in find(tmp_path, keys=KEYS, decision="d1")] == [3]
    assert list(find(tmp_path, keys=KEYS, prompt="prompt")) == []
    assert list(find(tmp_path, keys=AuditKeys.derive(b"another"), prompt="prompt 0")) == []


def test_a_record_that_could_not_be_written_leaves_the_chain_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path, KEYS)
    log.append({"k": 0})
    real = log._file
    assert real is not None

    class Full:
        """A file on a full disk: half a line goes in, then no more."""

        def write(self, text: str) -> int:
            real.write(text[:20])
            real.flush()
            raise OSError(28, "No space left on device")

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    monkeypatch.setattr(log, "_file", Full())
    with pytest.raises(OSError, match="No space"):
        log.append({"k": 1})
    log.append({"k": 2})
    log.close()
    assert verify(tmp_path, keys=KEYS) == (4, [])


def test_hashes_of_prompts_are_equal_for_equal_prompts_and_useless_without_the_key() -> None:
    assert KEYS.hashed("a word") == KEYS.hashed("a word")
    assert KEYS.hashed("a word") != KEYS.hashed("a word ")
    assert KEYS.hashed("a word") != AuditKeys.derive(b"another").hashed("a word")
    assert KEYS.hashed("half \ud83d").startswith(f"{KEYS.id}:")


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first, second = load_keys(tmp_path / "state"), load_keys(tmp_path / "state")
    assert first == second
    assert (tmp_path / "state" / "audit.key").stat().st_mode & 0o077 == 0
    assert load_keys(tmp_path / "state", "given") == AuditKeys.derive(b"given")


def test_a_large_file_is_closed_and_the_next_one_follows_it(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, KEYS, most_bytes=2000)
    for k in range(40):
        log.append({"k": k})
    log.close()
    files = sorted(tmp_path.glob("*.jsonl"))
    assert len(files) > 3
    assert all(file.stat().st_size < 2800 for file in files)
    assert verify(tmp_path, keys=KEYS) == (40 + 2 * len(files), [])
    kept = [json.loads(line).get("k") for file in files for line in file.read_text().splitlines()]
    assert [k for k in kept if k is not None] == list(range(40))


def test_closed_files_may_be_moved_away_oldest_first_and_no_other_may_vanish(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, KEYS, most_bytes=2000)
    for k in range(40):
        log.append({"k": k})
    log.close()
    first, _, third, *_ = sorted(tmp_path.glob("*.jsonl"))
    away = tmp_path / "away"
    away.mkdir()
    first.rename(away / first.name)
    assert [f.kind for f in verify(tmp_path, keys=KEYS)[1]] == ["missing"], "nobody said that it was moved"
    assert [f.kind for f in verify(tmp_path, keys=KEYS, archived=True)[1]] == ["older"]
    assert verify(tmp_path, away, keys=KEYS)[1] == []
    third.unlink()
    findings = verify(tmp_path, away, keys=KEYS, archived=True)[1]
    assert (third.name, "missing") in {(f.file, f.kind) for f in findings}
    assert all(f.faulty for f in findings)


def test_a_file_cut_after_any_line_or_inside_of_one_is_found(tmp_path: Path) -> None:
    whole = write(tmp_path).read_bytes()
    (path,) = tmp_path.glob("*.jsonl")
    for size in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:size])
        assert verify(tmp_path, keys=KEYS)[1], f"cut at {size} of {len(whole)} bytes"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_told_leaves_no_half_line_and_the_log_goes_on(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, KEYS)
    log.append({"k": 0})
    good = log._file
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        log._file = full
        with pytest.raises(OSError, match="No space"):
            log.append({"k": 1})
    assert good is not None
    log.append({"k": 2})
    log.close()
    assert verify(tmp_path, keys=KEYS) == (4, [])


@pytest.mark.parametrize(("audit", "status"), [("required", 503), ("on", 200)])
def test_a_picture_leaves_without_its_record_only_where_that_is_allowed(
    settings: Callable[..., Any], audit: str, status: int
) -> None:
    from prometheus_client import CollectorRegistry
    from starlette.testclient import TestClient

    from service.http.app import make_app
    from service.metrics.recorder import Recorder
    from service.worker.runtime import Runtime

    registry = CollectorRegistry()
    runtime = Runtime(settings(audit=audit), Recorder(registry))
    runtime.start()
    runtime.wait()

    def errors() -> float:
        return registry.get_sample_value("palimpsest_audit_events_total", {"result": "error"}) or 0.0

    before = errors()
    app = make_app()
    app.state.runtime = runtime
    try:
        with TestClient(app) as client:
            assert client.post("/v1/images/generations", json={"prompt": "a red moon"}).status_code == 200
            assert runtime._audit is not None
            runtime._audit._file = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115
            answer = client.post("/v1/images/generations", json={"prompt": "a red moon"})
            assert answer.status_code == status
            assert ("b64_json" in answer.text) is (status == 200)
            assert client.post("/v1/images/generations", json={"prompt": "a red moon"}).status_code == 200
    finally:
        runtime.stop()
    assert errors() == before + 1
    assert verify(runtime.settings.state_folder / "audit", keys=runtime.keys)[1] == []
