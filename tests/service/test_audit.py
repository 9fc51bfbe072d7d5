"""The audit log finds every change and holds no prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.audit import AuditLog, Keys, load_keys, verify

KEYS = Keys.derive(b"a secret")


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
    other, lines, previous = Keys.derive(b"another"), [], "0" * 64
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
    assert KEYS.hashed("a word") != Keys.derive(b"another").hashed("a word")
    assert KEYS.hashed("half \ud83d").startswith(f"{KEYS.id}:")


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    first, second = load_keys(tmp_path / "state"), load_keys(tmp_path / "state")
    assert first == second
    assert (tmp_path / "state" / "audit.key").stat().st_mode & 0o077 == 0
    assert load_keys(tmp_path / "state", "given") == Keys.derive(b"given")
