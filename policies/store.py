"""Keeps the snapshot that is in force: polls the policy files, and swaps one reference when a better one is ready.

A new snapshot is read, checked, compiled and tested on this module's thread, off the path of requests; only then does
`Store.snapshot` change, in one assignment. Whatever is wrong with the files, the last good snapshot stays and
`Store.state` says why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from policies.loader import Loader
from policies.problems import PolicyError, Problem
from policies.snapshot import Snapshot
from policies.sources import fingerprint

__all__ = ["Store", "StoreState"]

_log = logging.getLogger("palimpsest.policies")


@dataclass(frozen=True, slots=True)
class StoreState:
    """What is in force and since when.

    `generation` grows with every change of content in this process, from 1. `source` is `live` while the snapshot is
    what the files say, and `last-good` while they say something that cannot be used; `last_error` has the problems
    then, one a line.
    """

    digest: str
    generation: int
    loaded_at: datetime
    source: Literal["live", "last-good"]
    paths: tuple[str, ...]
    rules: int
    last_error: str | None = None
    last_problems: tuple[Problem, ...] = ()
    failed_at: datetime | None = None


class Store:
    """Holds the snapshot in force; `snapshot` and `state` may be read from any thread at any time.

    The first load happens in the constructor and raises `PolicyError`. With `interval` (seconds) a daemon thread polls
    until `close()`; without it `poll()` must be called. `accept` may refuse a snapshot that loaded well, by naming what
    is wrong with it here (a rule that no pack fits, say): its texts count as problems of the load. `on_reload` hears
    the state after every attempt that found changed files, good or bad, on the polling thread. `paths` may be empty.
    """

    def __init__(
        self,
        loader: Loader,
        paths: str | Path | Sequence[str | Path],
        *,
        interval: float | None = None,
        accept: Callable[[Snapshot], Sequence[str]] | None = None,
        on_reload: Callable[[StoreState], None] | None = None,
    ) -> None:
        if interval is not None and interval <= 0:
            raise ValueError(f"`interval` must be positive, got {interval}; leave it out for no polling")
        self._loader = loader
        self._paths = tuple(Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths))
        self._accept = accept
        self._on_reload = on_reload
        self._lock = threading.Lock()  # one poll at a time; readers never take it
        self._seen = fingerprint(self._paths)
        self._current = self._first()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if interval is not None:
            self._thread = threading.Thread(target=self._run, args=(interval,), name="policy-store", daemon=True)
            self._thread.start()

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in force; take it once a request."""
        return self._current[0]

    @property
    def state(self) -> StoreState:
        return self._current[1]

    def poll(self) -> StoreState:
        """The state after one look at the files: they are loaded if they changed since the last look."""
        with self._lock:
            now = fingerprint(self._paths)
            if now != self._seen:
                self._seen = now
                self._reload()
        return self.state

    def close(self) -> None:
        """Ends the polling; the snapshot stays readable."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _load(self) -> Snapshot:
        snapshot = self._loader.load(self._paths)
        refused = self._accept(snapshot) if self._accept is not None else ()
        if refused:
            where = ", ".join(map(str, self._paths))
            raise PolicyError(Problem(where, 0, 0, "", text) for text in refused)
        return snapshot

    def _first(self) -> tuple[Snapshot, StoreState]:
        snapshot = self._load()
        paths = tuple(str(p) for p in self._paths)
        state = StoreState(snapshot.digest, 1, datetime.now(UTC), "live", paths, len(snapshot.rules))
        return snapshot, state

    def _reload(self) -> None:
        snapshot, state = self._current
        try:
            loaded = self._load()
        except PolicyError as error:
            failed = replace(state, source="last-good", last_error=str(error), last_problems=error.problems)
            self._publish(snapshot, replace(failed, failed_at=datetime.now(UTC)))
            return
        except Exception as error:  # a defect of ours must not take the last good policy away either
            _log.exception("loading policies failed in an unexpected way")
            failed = replace(state, source="last-good", last_error=f"internal error: {error}", last_problems=())
            self._publish(snapshot, replace(failed, failed_at=datetime.now(UTC)))
            return
        changed = loaded.digest != state.digest
        self._publish(
            loaded if changed else snapshot,
            replace(
                state,
                digest=loaded.digest,
                generation=state.generation + changed,
                loaded_at=datetime.now(UTC) if changed else state.loaded_at,
                source="live",
                rules=len(loaded.rules),
                last_error=None,
                last_problems=(),
                failed_at=None,
            ),
        )

    def _publish(self, snapshot: Snapshot, state: StoreState) -> None:
        # INVARIANT: one assignment of one tuple, so that no reader sees a snapshot with another one's state
        self._current = (snapshot, state)
        if state.last_error is not None:
            _log.warning("policies not loaded, the last good ones stay: %s", state.last_error)
        else:
            _log.info("policies in force: %s, generation %d, %d rules", state.digest, state.generation, state.rules)
        if self._on_reload is not None:
            self._on_reload(state)

    def _run(self, interval: float) -> None:
        while not self._stop.wait(interval):
            try:
                self.poll()
            except Exception:
                _log.exception("polling policies failed; the last good ones stay")
