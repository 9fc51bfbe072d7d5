"""The audit log: which decision was made, when, and under which policies. It never contains a prompt.

Each worker process writes JSON Lines files. Prompts appear as keyed hashes only, because a plain hash of a guessable
text can be looked up. Destroying the key therefore erases them. Each line carries a MAC over its bytes, which hold the
MAC of the previous line, under a key derived from the same secret. So `verify` finds a changed, removed or reordered
line, and nobody can repair the chain without the key.

The files are chained, too. The first record of each has its own name, its run, and how far the file before it went: of
the same process, or of the one that started last. How far every file goes is also in its head (`service.audit.heads`),
outside of the log's folder. So `verify` finds a file that is gone, cut off, renamed or a copy.

A large file is closed and names its successor. Closed files can therefore be archived whole, oldest first.

If a record cannot be written (for example on a full disk), no partial line remains and the chain continues from the
last good line. The caller decides whether the request is still answered: `audit = required` refuses it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from service.audit.heads import HeadWriter, heads_of, read_head
from service.audit.keys import GENESIS, AuditKeys, canonical

__all__ = ["AuditLog"]


class AuditLog:
    """Appends records to the audit files of this process. Thread-safe. Each record is flushed before `append` returns.

    A file that reaches `most_bytes` is closed and a new one is started. The heads are beside the folder.
    """

    def __init__(self, folder: Path, keys: AuditKeys, *, most_bytes: int = 64 << 20) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.keys = keys
        self._folder = folder
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._file: TextIO | None = None
        self._first: Mapping[str, Any] | None = None  # a file's first record, until it is written
        self._run = secrets.token_hex(8)
        before = self._newest()
        self._begin(*self._fresh(), before)
        with self._lock:
            self._write_first()

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one record. Raises `OSError` if it cannot be written; the chain then continues from the last good
        line.
        """
        with self._lock:
            if self._file is None:
                raise OSError("the audit log is closed")
            self._write_first()
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
                self._write_first()
                self._write({"event": "close"})
            finally:
                self._file.close()
                self._file = None
                self._head.close()

    def _fresh(self) -> tuple[Path, HeadWriter]:
        """A new file of this process, empty and readable by its owner only, and its head."""
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        path = self._folder / f"audit-{started}-{os.getpid()}.jsonl"
        head = HeadWriter(heads_of(self._folder), self.keys, path.name, self._run)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError:
            head.remove()
            raise
        return path, head

    def _newest(self) -> Mapping[str, Any] | None:
        """How far the file goes that was started last, by its head. None if there is none that can be used."""
        for path in sorted(heads_of(self._folder).glob("audit-*.head"), reverse=True):
            with contextlib.suppress(ValueError):
                head = read_head(path, self.keys)
                return {"file": head.file, "records": head.records, "mac": head.mac}
        return None

    def _begin(self, path: Path, head: HeadWriter, after: Mapping[str, Any] | None) -> None:
        """Continues in the file `path`. Its first record, which is not written yet, says that it comes `after` one."""
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        self._head = head
        self._first = {"event": "open", "file": path.name, "run": self._run, "key": self.keys.id, "after": after}
        self._sequence = 0
        self._previous = GENESIS

    def _turn(self) -> None:
        """Closes the current file, which names its successor, and continues in the successor."""
        assert self._file is not None  # INVARIANT: only called from `append`
        fresh, head = self._fresh()
        old, old_head = self._file, self._head
        try:
            self._write({"event": "close", "next": fresh.name})
        except OSError:
            fresh.unlink()
            head.remove()
            raise
        after = {"file": self.path.name, "records": self._sequence, "mac": self._previous}
        self._begin(fresh, head, after)
        old.close()
        old_head.close()
        self._write_first()

    def _write_first(self) -> None:
        if self._first is not None:
            self._write(self._first)
            self._first = None

    def _write(self, record: Mapping[str, Any]) -> None:
        assert self._file is not None  # INVARIANT: open, under the lock
        line = {
            "v": 2,
            "seq": self._sequence,
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **record,
            "prev": self._previous,
        }
        mac = self.keys.mac(line)
        position = self.path.stat().st_size
        try:
            self._file.write(canonical({**line, "mac": mac}).decode() + "\n")
            self._file.flush()
        except OSError:
            self._give_up_line(position)
            raise
        self._sequence += 1
        self._previous = mac
        self._head.write(self._sequence, mac, closed=record.get("event") == "close")

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
