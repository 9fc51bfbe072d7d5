"""The audit log: what was decided, when, and by which policies. It never holds what was asked.

Each worker process writes one JSON Lines file. Prompts appear only as keyed hashes: a plain hash of a guessable text
could be looked up. Destroying the key makes the hashes meaningless. Each line carries a MAC over itself and the line
before it, under a key derived from the same secret. `verify` therefore finds a changed, removed or reordered line, and
nobody without the key can repair the chain. A file that does not end with a `close` record belongs to a running worker
or to one that was killed, or it was cut; `verify` reports it. A large file is closed and names the next one, which
begins with its last MAC. Closed files can be moved away whole, oldest first, but none from between two others.

If a record cannot be written (a full disk), no half line remains and the chain continues from the last good line. The
setting `audit = required` then refuses the request.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

__all__ = ["AuditKeys", "AuditLog", "Finding", "load_keys", "verify"]

_GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """The keys derived from one secret, and the name by which lines refer to it."""

    id: str
    text: bytes
    chain: bytes
    canary: bytes  # draws canary rules, so that nobody outside can tell whom they meet

    @classmethod
    def derive(cls, secret: bytes) -> AuditKeys:
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


def load_keys(state: Path, secret: str | None = None) -> AuditKeys:
    """The keys of `secret`, else of `audit.key` in `state`, a file made once and readable by its owner only."""
    if secret is not None:
        return AuditKeys.derive(secret.encode())
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
    return AuditKeys.derive(file.read_bytes().strip())


class AuditLog:
    """Appends records to this process's files. Thread-safe; each record is flushed before `append` returns.

    A file that holds `most_bytes` is closed and a new one begun.
    """

    def __init__(self, folder: Path, keys: AuditKeys, *, most_bytes: int = 64 << 20) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.keys = keys
        self._folder = folder
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        self._head: Mapping[str, Any] | None = None  # a file's first record, until it is written
        self._begin(self._fresh(), {"event": "open"})
        with self._lock:
            self._write_head()

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record. Raises `OSError` when it could not; the chain then goes on from the last good line."""
        with self._lock:
            if self._file is None:
                raise OSError("the audit log is closed")
            self._write_head()
            self._write(record)
            if self._file.tell() >= self._most_bytes:
                with contextlib.suppress(OSError):  # the record is written; the next one tries again
                    self._turn()

    def close(self) -> None:
        """Writes the `close` record and closes the file; a second call does nothing."""
        with self._lock:
            if self._file is None:
                return
            try:
                self._write_head()
                self._write({"event": "close"})
            finally:
                self._file.close()
                self._file = None

    def _fresh(self) -> Path:
        """A new file of this process, empty and readable by its owner only."""
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        path = self._folder / f"audit-{started}-{os.getpid()}.jsonl"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return path

    def _begin(self, path: Path, head: Mapping[str, Any]) -> None:
        """Goes on in the file `path`, whose first record is `head`, still to be written."""
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        self._head = head
        self._sequence = 0
        self._previous = _GENESIS

    def _turn(self) -> None:
        """Closes the file, which names the next one, and begins that."""
        assert self._file is not None  # INVARIANT: only called from `append`
        fresh, old = self._fresh(), self._file
        try:
            self._write({"event": "close", "next": fresh.name})
        except OSError:
            fresh.unlink()
            raise
        name, mac = self.path.name, self._previous
        self._begin(fresh, {"event": "open", "after": {"file": name, "mac": mac}})
        old.close()
        self._write_head()

    def _write_head(self) -> None:
        if self._head is not None:
            self._write(self._head)
            self._head = None

    def _write(self, record: Mapping[str, Any]) -> None:
        assert self._file is not None  # INVARIANT: open, under the lock
        line = {
            "v": 1,
            "seq": self._sequence,
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **record,
            "prev": self._previous,
        }
        mac = self.keys.mac(line)
        position = self.path.stat().st_size
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
        old = self._file
        if old is not None:
            with contextlib.suppress(OSError):
                old.close()
        os.truncate(self.path, position)
        self._file = self.path.open("a", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one file: `broken` was changed, `open` has no `close` record, `missing` names a
    next file that is not there."""

    file: str
    line: int
    kind: str
    text: str


def verify(folder: Path, keys: AuditKeys) -> tuple[int, list[Finding]]:
    """The number of good records in `folder` and the findings, files in order of their names."""
    records, findings = 0, []
    chains = {file.name: _read(file, keys) for file in sorted(folder.glob("audit-*.jsonl"))}
    for name, chain in chains.items():
        records += chain.good
        finding = chain.finding or _joined(name, chain, chains)
        if finding is not None:
            findings.append(finding)
    return records, findings


@dataclass(slots=True)
class _Chain:
    """One file as it was read: good records, the last MAC, its first and last records, and what is wrong."""

    good: int = 0
    mac: str = _GENESIS
    first: Mapping[str, Any] = field(default_factory=dict)
    last: Mapping[str, Any] = field(default_factory=dict)
    finding: Finding | None = None


def _read(file: Path, keys: AuditKeys) -> _Chain:
    """The chain in `file`, with at most one finding: after the first break nothing can be trusted."""
    chain = _Chain()
    for number, text in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            line = json.loads(text)
            mac = line.pop("mac")
        except (ValueError, KeyError, AttributeError, TypeError):
            chain.finding = Finding(file.name, number, "broken", "is not a record")
            return chain
        if line.get("prev") != chain.mac or line.get("seq") != number - 1:
            why = "does not follow the line before: one was removed, added or moved"
        elif not hmac.compare_digest(keys.mac(line), str(mac)):
            why = f"was changed, or was written under another key than `{keys.id}`"
        else:
            chain.good, chain.mac, chain.last = number, mac, line
            chain.first = chain.first or line
            continue
        chain.finding = Finding(file.name, number, "broken", why)
        return chain
    if chain.last.get("event") != "close":
        text = "has no `close` record: its worker runs, was killed, or the end was cut off"
        chain.finding = Finding(file.name, chain.good, "open", text)
    return chain


def _joined(name: str, chain: _Chain, chains: Mapping[str, _Chain]) -> Finding | None:
    """What is wrong between a closed file and the next, which it names."""
    follows = chain.last.get("next")
    if follows is None:
        return None
    if follows not in chains:
        return Finding(name, chain.good, "missing", f"is followed by `{follows}`, which is not there")
    after = chains[follows].first.get("after", {})
    if chains[follows].good and (after.get("file"), after.get("mac")) != (name, chain.mac):
        return Finding(follows, 1, "broken", f"does not follow `{name}`")
    return None


def _canonical(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
