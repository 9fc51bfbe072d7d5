"""The audit log finds every change and holds no prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.audit import AuditKeys, AuditLog, load_keys, verify

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
    assert verify(tmp_path, KEYS) == (6, [])


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
    _, findings = verify(tmp_path, KEYS)
    assert [f.kind for f in findings] == ["broken"]


def test_whoever_lacks_the_key_cannot_mend_the_chain(tmp_path: Path) -> None:
    path = write(tmp_path)
    other, lines, previous = AuditKeys.derive(b"another"), [], "0" * 64
    for text in path.read_text().splitlines():
        line = json.loads(text)
        del line["mac"]
        line["prev"] = previous
        previous = other.mac(line)
        lines.append(json.dumps({**line, "mac": previous}))
    path.write_text("\n".join(lines) + "\n")
    assert verify(tmp_path, other)[1] == []
    assert verify(tmp_path, KEYS)[1][0].kind == "broken"


def test_a_log_cut_at_its_end_is_told_apart_from_a_closed_one(tmp_path: Path) -> None:
    write(tmp_path, close=False)
    assert [f.kind for f in verify(tmp_path, KEYS)[1]] == ["open"]


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
    assert verify(tmp_path, KEYS) == (4, [])


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
    assert verify(tmp_path, KEYS) == (40 + 2 * len(files), [])
    kept = [json.loads(line).get("k") for file in files for line in file.read_text().splitlines()]
    assert [k for k in kept if k is not None] == list(range(40))


def test_closed_files_may_be_moved_away_oldest_first_and_no_other_may_vanish(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, KEYS, most_bytes=2000)
    for k in range(40):
        log.append({"k": k})
    log.close()
    first, second, third, *_ = sorted(tmp_path.glob("*.jsonl"))
    first.unlink()
    assert verify(tmp_path, KEYS)[1] == []
    third.unlink()
    (finding,) = verify(tmp_path, KEYS)[1]
    assert (finding.file, finding.kind) == (second.name, "missing")


def test_a_file_cut_after_any_line_or_inside_of_one_is_found(tmp_path: Path) -> None:
    whole = write(tmp_path).read_bytes()
    (path,) = tmp_path.glob("*.jsonl")
    for size in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:size])
        assert verify(tmp_path, KEYS)[1], f"cut at {size} of {len(whole)} bytes"


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
    assert verify(tmp_path, KEYS) == (4, [])


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
    assert verify(runtime.settings.state_folder / "audit", runtime.keys)[1] == []
