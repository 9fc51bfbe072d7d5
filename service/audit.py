"""The audit log: what was decided, when and by which policies; never what was asked.

One JSON Lines file a worker process. Prompts appear as keyed hashes only, because a plain hash of a guessable text
can be looked up; destroying the key erases them. Each line carries a MAC over itself and the line before, under a key
derived from the same secret, so that a changed, removed or reordered line is found by `verify` and cannot be mended
without the key. A file that does not end with its `close` record belongs to a running worker, to one that was killed,
or was cut: `verify` says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

__all__ = ["AuditLog", "Finding", "Keys", "load_keys", "verify"]

_GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys derived from one secret, and the name by which lines refer to it."""

    id: str
    text: bytes
    chain: bytes
    canary: bytes  # draws canary rules, so that nobody outside can tell whom they meet

    @classmethod
    def derive(cls, secret: bytes) -> Keys:
        def part(label: bytes) -> bytes:
            return hmac.new(secret, b"palimpsest-audit/" + label, hashlib.sha256).digest()

        return cls(part(b"id").hex()[:8], part(b"text"), part(b"chain"), part(b"canary"))

    def hashed(self, text: str) -> str:
        """`text` as `keyid:hash`: equal texts are equal, and without the key nothing else can be learnt."""
        digest = hmac.new(self.text, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"{self.id}:{digest[:32]}"

    def mac(self, line: Mapping[str, Any]) -> str:
        """The MAC of a line without its own `mac`; `prev` inside it makes the chain."""
        return hmac.new(self.chain, _canonical(line), hashlib.sha256).hexdigest()


def load_keys(state: Path, secret: str | None = None) -> Keys:
    """The keys of `secret`, else of `audit.key` in `state`, a file made once and readable by its owner only."""
    if secret is not None:
        return Keys.derive(secret.encode())
    file = state / "audit.key"
    if not file.exists():
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = state / f".audit.key.{os.getpid()}"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secrets.token_hex(32))
        try:
            os.link(fresh, file)  # fails if another worker was first; its key is then ours too
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return Keys.derive(file.read_bytes().strip())


class AuditLog:
    """Appends records to this process's file. Thread-safe; each record is flushed before `append` returns."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.path = folder / f"audit-{started}-{os.getpid()}.jsonl"
        self.keys = keys
        self._lock = threading.Lock()
        self._file: TextIO | None = os.fdopen(
            os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        )
        self._sequence = 0
        self._previous = _GENESIS
        self.append({"event": "open"})

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record. Raises `OSError` when it could not; the chain then goes on from the last good line."""
        with self._lock:
            if self._file is None:
                raise OSError("the audit log is closed")
            line = {
                "v": 1,
                "seq": self._sequence,
                "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
                **record,
                "prev": self._previous,
            }
            mac = self.keys.mac(line)
            position = self._file.tell()
            try:
                self._file.write(_canonical({**line, "mac": mac}).decode() + "\n")
                self._file.flush()
            except OSError:
                self._give_up_line(position)
                raise
            self._sequence += 1
            self._previous = mac

    def _give_up_line(self, position: int) -> None:
        """Opens the file afresh without the half-written line, whose bytes the old object would flush again."""
        old, self._file = self._file, None
        if old is not None:
            with contextlib.suppress(OSError):
                old.close()
        os.truncate(self.path, position)
        self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Writes the `close` record and closes the file; a second call does nothing."""
        if self._file is not None:
            try:
                self.append({"event": "close"})
            finally:
                with self._lock:
                    self._file.close()
                    self._file = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong in one file: `broken` cannot have been written so, `open` has no `close` record."""

    file: str
    line: int
    kind: str
    text: str


def verify(folder: Path, keys: Keys) -> tuple[int, list[Finding]]:
    """The number of good records in `folder` and the findings, files in order of their names."""
    records, findings = 0, []
    for file in sorted(folder.glob("audit-*.jsonl")):
        good = 0
        for finding in _verify_file(file, keys):
            if isinstance(finding, Finding):
                findings.append(finding)
            else:
                good += 1
        records += good
    return records, findings


def _verify_file(file: Path, keys: Keys) -> Iterator[Finding | None]:
    """`None` for each good record, then at most one finding: after the first break nothing can be trusted."""
    previous, event, number = _GENESIS, None, 0
    for number, text in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            line = json.loads(text)
            mac = line.pop("mac")
        except (ValueError, KeyError, AttributeError, TypeError):
            yield Finding(file.name, number, "broken", "is not a record")
            return
        if line.get("prev") != previous or line.get("seq") != number - 1:
            yield Finding(
                file.name, number, "broken", "does not follow the line before: one was removed, added or moved"
            )
            return
        if not hmac.compare_digest(keys.mac(line), str(mac)):
            yield Finding(
                file.name, number, "broken", f"was changed, or was written under another key than `{keys.id}`"
            )
            return
        previous, event = mac, line.get("event")
        yield None
    if event != "close":
        text = "has no `close` record: its worker runs, was killed, or the end was cut off"
        yield Finding(file.name, number, "open", text)


def _canonical(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
