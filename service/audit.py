"""The audit log: which decision was made, when, and under which policies. It never contains a prompt.

Each worker process writes JSON Lines files. Prompts appear as keyed hashes only, because a plain hash of a guessable
text can be looked up. Destroying the key therefore erases them. Each line carries a MAC over itself and the MAC of the
previous line, under a key derived from the same secret. So `verify` finds a changed, removed or reordered line, and
nobody can repair the chain without the key.

A file without a `close` record belongs to a running worker or to a killed one, or its end was cut off. `verify` reports
it. A large file is closed and names its successor, which starts with the last MAC of the closed file. Closed files can
therefore be archived whole, oldest first, and a file that is missing in the middle is detected.

If a record cannot be written (for example on a full disk), no partial line remains and the chain continues from the
last good line. The caller decides whether the request is still answered: `audit = required` refuses it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from service.secret_files import load_secret

__all__ = ["AuditKeys", "AuditLog", "Finding", "load_keys", "verify"]

_GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """The keys derived from one secret, and the id that log lines use to name them."""

    id: str
    text: bytes
    chain: bytes
    canary: bytes  # selects the requests of canary rules, so that outsiders cannot predict them
    session: bytes  # seals the sessions of the console

    @classmethod
    def derive(cls, secret: bytes) -> AuditKeys:
        def part(label: bytes) -> bytes:
            return hmac.new(secret, b"palimpsest-audit/" + label, hashlib.sha256).digest()

        return cls(part(b"id").hex()[:8], part(b"text"), part(b"chain"), part(b"canary"), part(b"session"))

    def hashed(self, text: str) -> str:
        """`text` as `keyid:hash`. Equal texts have equal hashes; without the key the hash reveals nothing else."""
        digest = hmac.new(self.text, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"{self.id}:{digest[:32]}"

    def mac(self, line: Mapping[str, Any]) -> str:
        """The MAC of a line without its own `mac`. The line includes `prev`, which makes the chain."""
        return hmac.new(self.chain, _canonical(line), hashlib.sha256).hexdigest()


def load_keys(state: Path, secret: str | None = None) -> AuditKeys:
    """The keys derived from `secret`, or else from the file `audit.key` in `state`.

    The file is created once and is readable by its owner only.
    """
    return AuditKeys.derive(load_secret(state, "audit.key") if secret is None else secret.encode())


class AuditLog:
    """Appends records to the audit files of this process. Thread-safe. Each record is flushed before `append` returns.

    A file that reaches `most_bytes` is closed and a new one is started.
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
        """Writes one record. Raises `OSError` if it cannot be written; the chain then continues from the last good
        line.
        """
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
        """Continues in the file `path`. Its first record is `head`, which is not written yet."""
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        self._head = head
        self._sequence = 0
        self._previous = _GENESIS

    def _turn(self) -> None:
        """Closes the current file, which names its successor, and continues in the successor."""
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
        """Reopens the file without the partial line. A new file object is needed because the old one would flush it
        again.
        """
        old = self._file
        if old is not None:
            with contextlib.suppress(OSError):
                old.close()
        os.truncate(self.path, position)
        self._file = self.path.open("a", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in one file.

    `broken`: a record is invalid or does not follow the previous one. `open`: there is no `close` record. `missing`:
    the file names a successor that does not exist.
    """

    file: str
    line: int
    kind: str
    text: str


def verify(folder: Path, keys: AuditKeys) -> tuple[int, list[Finding]]:
    """The number of intact records in `folder`, and the findings in order of file names."""
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
    """One file as it was read: number of good records, last MAC, first and last records, and finding."""

    good: int = 0
    mac: str = _GENESIS
    first: Mapping[str, Any] = field(default_factory=dict)
    last: Mapping[str, Any] = field(default_factory=dict)
    finding: Finding | None = None


def _read(file: Path, keys: AuditKeys) -> _Chain:
    """The chain in `file`, with at most one finding, because nothing after the first break can be trusted."""
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
        text = "has no `close` record: its worker is running, was killed, or the end of the file was cut off"
        chain.finding = Finding(file.name, chain.good, "open", text)
    return chain


def _joined(name: str, chain: _Chain, chains: Mapping[str, _Chain]) -> Finding | None:
    """The problem between a closed file and its successor, or None."""
    follows = chain.last.get("next")
    if follows is None:
        return None
    if follows not in chains:
        return Finding(name, chain.good, "missing", f"names `{follows}` as the next file, which does not exist")
    after = chains[follows].first.get("after", {})
    if chains[follows].good and (after.get("file"), after.get("mac")) != (name, chain.mac):
        return Finding(follows, 1, "broken", f"does not follow `{name}`")
    return None


def _canonical(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
