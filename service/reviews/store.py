"""The cases on disk: an index in SQLite, and one sealed file a case.

The file is written before its row, so every row has its file: a worker that is killed in between leaves a file without
a row, which `sweep` removes after an hour. A decision is one statement on a row that is still pending, so of two
reviewers, in any two workers, one decides.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from service.reviews.cases import Case, Content, Reason, State, pack, unpack
from service.sealing import Seal
from service.secret_files import load_secret, write_private

__all__ = ["CaseStore", "Decided", "Full", "NoCase", "Quota", "new_id"]

_ORPHAN_SECONDS = 3600.0
_BUSY_SECONDS = 10.0
_COLUMNS = tuple(field.name for field in fields(Case))
_TABLE = """
CREATE TABLE IF NOT EXISTS cases (
  id TEXT PRIMARY KEY, queue TEXT NOT NULL, tenant TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL,
  expires REAL NOT NULL, rules TEXT NOT NULL, pictures INTEGER NOT NULL, repaired INTEGER NOT NULL,
  bytes INTEGER NOT NULL, decided REAL, chosen INTEGER NOT NULL, reason BLOB
);
CREATE INDEX IF NOT EXISTS by_time ON cases (state, created, id);
"""


class Full(Exception):
    """There is no room for another case."""


class NoCase(KeyError):
    """There is no such case."""


class Decided(Exception):
    """The case is not pending any more. `args[0]` is its state."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Most cases that wait, most bytes of sealed files, and the seconds that a file is kept."""

    cases: int
    bytes: int
    seconds: float


def new_id() -> str:
    """An id that nobody can guess."""
    return f"review_{secrets.token_hex(24)}"


class CaseStore:
    """The cases in a folder. Threads and processes may share it. `clock` is Unix time."""

    def __init__(self, state: Path, quota: Quota, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = state / "reviews"
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._quota = quota
        self._clock = clock
        self._seal = Seal(load_secret(state, "review.key"), "palimpsest-review")
        self._lock = threading.RLock()
        index = self._folder / "index.sqlite"
        os.close(os.open(index, os.O_WRONLY | os.O_CREAT, 0o600))
        self._rows = sqlite3.connect(index, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        _retried(lambda: self._rows.execute("PRAGMA journal_mode=WAL"))
        _retried(lambda: self._rows.executescript(_TABLE))

    def close(self) -> None:
        """Closes the index."""
        with self._lock:
            self._rows.close()

    def keep(self, case_id: str, queue: str, tenant: str, rules: tuple[str, ...], content: Content) -> Case:
        """Stores a pending case. Raises `Full`, or `OSError` or `sqlite3.Error` if it cannot be written."""
        sealed, now = self._seal.seal(pack(content), case_id), self._clock()
        case = Case(
            case_id,
            queue,
            tenant,
            "pending",
            now,
            now + self._quota.seconds,
            rules,
            len(content.files),
            bool(content.repaired),
            len(sealed),
        )
        self._check_room(len(sealed))
        write_private(self._file(case_id), sealed)
        try:
            with self._writing() as rows:
                self._check_room(len(sealed))
                marks = ", ".join("?" * len(_COLUMNS))
                values = astuple(replace(case, rules=json.dumps(rules)))  # type: ignore[arg-type]
                rows.execute(f"INSERT INTO cases ({', '.join(_COLUMNS)}) VALUES ({marks})", values)
        except BaseException:
            self._file(case_id).unlink(missing_ok=True)
            raise
        return case

    def drop(self, case_id: str) -> None:
        """Removes a case, as if it had never been kept."""
        with self._writing() as rows:
            rows.execute("DELETE FROM cases WHERE id = ?", (case_id,))
        self._file(case_id).unlink(missing_ok=True)

    def find(self, case_id: str) -> Case:
        """The case. One whose time is over is expired, whether or not `sweep` has seen it. Raises `NoCase`."""
        rows = self._select("WHERE id = ?", (case_id,))
        if not rows:
            raise NoCase(case_id)
        return rows[0]

    def page(
        self, *, state: State | None, queue: str | None, tenant: str | None, after: str | None, limit: int
    ) -> list[Case]:
        """The oldest cases behind the case `after`, at most `limit`. Raises `NoCase` for an unknown `after`."""
        self.sweep()
        asked: list[tuple[str, Any]] = [
            (f"{name} = ?", value)
            for name, value in (("state", state), ("queue", queue), ("tenant", tenant))
            if value is not None
        ]
        values: list[Any] = [value for _, value in asked]
        parts = [part for part, _ in asked]
        if after is not None:
            last = self.find(after)
            parts.append("(created, id) > (?, ?)")
            values += [last.created, last.id]
        where = f"WHERE {' AND '.join(parts)}" if parts else ""
        return self._select(f"{where} ORDER BY created, id LIMIT ?", (*values, limit))

    def content(self, case: Case) -> Content:
        """What is sealed of a case. Raises `Tampered`, or `NoCase` if its file is gone."""
        try:
            sealed = self._file(case.id).read_bytes()
        except FileNotFoundError:
            raise NoCase(case.id) from None
        return unpack(self._seal.open(sealed, case.id))

    def decide(self, case_id: str, state: State, *, chosen: bool, reason: Reason | None) -> Case:
        """The case, decided. The file of a rejected one is gone. Raises `NoCase` or `Decided`."""
        sealed = reason and self._seal.seal(json.dumps(astuple(reason)).encode(), f"{case_id}/reason")
        now = self._clock()
        with self._writing() as rows:
            done = rows.execute(
                "UPDATE cases SET state = ?, decided = ?, chosen = ?, reason = ?"
                " WHERE id = ? AND state = 'pending' AND expires > ?",
                (state, now, chosen, sealed, case_id, now),
            ).rowcount
        case = self.find(case_id)
        if not done:
            raise Decided(case.state)
        if state == "rejected":
            self._remove_file(case_id)
        return case

    def reason(self, case_id: str) -> Reason | None:
        """The reviewer's reason. Raises `Tampered`."""
        with self._lock:
            row = self._rows.execute("SELECT reason FROM cases WHERE id = ?", (case_id,)).fetchone()
        return Reason(*json.loads(self._seal.open(row[0], f"{case_id}/reason"))) if row and row[0] else None

    def depths(self) -> dict[str, tuple[int, float | None]]:
        """For each queue that has cases, how many wait, and since when the oldest does."""
        sql = (
            "SELECT queue, SUM(state = 'pending'), MIN(CASE WHEN state = 'pending' THEN created END)"
            " FROM cases GROUP BY queue"
        )
        with self._lock:
            return {queue: (count, oldest) for queue, count, oldest in self._rows.execute(sql)}

    def sweep(self) -> int:
        """Ends what is over: pending cases expire, files go at the end of their time, and rows after twice that time.
        Returns how many cases expired undecided.
        """
        now = self._clock()
        with self._lock:
            over = self._rows.execute(
                "SELECT COUNT(*) FROM cases WHERE state IN ('pending', 'released') AND expires <= ?"
                " OR created + 2 * ? <= ?",
                (now, self._quota.seconds, now),
            ).fetchone()[0]
        expired = 0
        if over:
            with self._writing() as rows:
                ended = "state = ? AND expires <= ?"
                expired = rows.execute(f"UPDATE cases SET state='expired' WHERE {ended}", ("pending", now)).rowcount
                rows.execute(f"UPDATE cases SET state='expired' WHERE {ended}", ("released", now))
                rows.execute("DELETE FROM cases WHERE created + 2 * ? <= ?", (self._quota.seconds, now))
        self._remove_leftovers(now)
        return expired

    def _remove_leftovers(self, now: float) -> None:
        """Removes files of cases that are over, and what a killed worker left."""
        with self._lock:
            rows = self._rows.execute("SELECT id FROM cases WHERE state IN ('pending', 'released')")
            live = {row[0] for row in rows}
        for file in self._folder.glob("*.case*"):
            if file.name.partition(".")[0] in live and file.suffix == ".case":
                continue
            with contextlib.suppress(OSError):
                known = self._known(file.name.partition(".")[0])
                if known or now - file.stat().st_mtime > _ORPHAN_SECONDS:
                    file.unlink()

    def _known(self, case_id: str) -> bool:
        """Whether a case is over."""
        with self._lock:
            row = self._rows.execute("SELECT state FROM cases WHERE id = ?", (case_id,)).fetchone()
        return row is not None and row[0] in ("rejected", "expired")

    def _remove_file(self, case_id: str) -> None:
        with contextlib.suppress(OSError):  # `sweep` tries again
            self._file(case_id).unlink(missing_ok=True)

    def _check_room(self, size: int) -> None:
        sql = (
            "SELECT COALESCE(SUM(state = 'pending'), 0), COALESCE(SUM(bytes), 0) FROM cases"
            " WHERE state IN ('pending', 'released') AND expires > ?"
        )
        with self._lock:
            cases, used = self._rows.execute(sql, (self._clock(),)).fetchone()
        if cases >= self._quota.cases or used + size > self._quota.bytes:
            raise Full

    def _select(self, rest: str, values: tuple[Any, ...]) -> list[Case]:
        with self._lock:
            rows = self._rows.execute(f"SELECT {', '.join(_COLUMNS)} FROM cases {rest}", values).fetchall()
        return [self._case(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def _case(self, row: dict[str, Any]) -> Case:
        case = Case(
            **row
            | {
                "rules": tuple(json.loads(row["rules"])),
                "repaired": bool(row["repaired"]),
                "chosen": bool(row["chosen"]),
            }
        )
        over = case.state in ("pending", "released") and case.expires <= self._clock()
        return replace(case, state="expired") if over else case

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the lock for writing from its start."""
        with self._lock:
            self._rows.execute("BEGIN IMMEDIATE")
            try:
                yield self._rows
            except BaseException:
                self._rows.execute("ROLLBACK")
                raise
            self._rows.execute("COMMIT")

    def _file(self, case_id: str) -> Path:
        return self._folder / f"{case_id}.case"


def _retried(work: Callable[[], Any]) -> None:
    """Does `work`. SQLite does not wait where two connections switch to the write-ahead log at once."""
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            work()
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
