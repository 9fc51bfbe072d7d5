"""The policy store: holds the snapshot in force, polls the policy files and replaces the snapshot when they change.

A new snapshot is read, checked, compiled and tested on the store's own thread. Only then `Store.snapshot` changes, in
one assignment. If the files have problems, the last good snapshot stays in force and `Store.state` says why. With a
folder to keep them in, the last good policies and the sequence number of the last bundle survive a restart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from policies.decide.snapshot import Origin, Snapshot
from policies.problems import Code, PolicyError, Problem
from policies.store.diff import floor_losses
from policies.store.last_good import LastGood
from policies.store.loader import LoadedPolicies, Loader
from policies.store.sources import FileWatcher, Paths

__all__ = ["Store", "StoreState"]

_log = logging.getLogger("palimpsest.policies")


@dataclass(frozen=True, slots=True)
class StoreState:
    """The state of a store: what is in force, and since when.

    `generation` starts at 1 and grows with every change of content in this process. `source` is `live` while the
    snapshot is that of the files, and `last-good` while the files cannot be used; `last_error` then has the problems,
    one a line. `origin` is the bundle in use, None for plain files.
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
    origin: Origin | None = None


def _clock() -> datetime:
    return datetime.now(UTC)


class Store:
    """Holds the snapshot in force; `snapshot` and `state` may be read from any thread at any time.

    The constructor loads the policies. It raises `PolicyError` unless the folder `keep` holds policies that were in use
    before. With `expired`, a bundle that is wrong in nothing but its age may be what the process starts with; its state
    is then `last-good`, as for one that ends while it is in use. With `interval` (seconds) a daemon thread polls until
    `close()`; without it the caller calls `poll()`.

    `accept` may refuse a valid snapshot by returning what is wrong with it here (such as a rule without a pack); its
    texts become problems of the load. `on_reload` is called with the state after every attempt to load changed files,
    successful or not, on the polling thread; `on_poll` after every look at the files, so that one that never ends can
    be noticed. `paths` may be empty. `clock` returns the time, in UTC.
    """

    def __init__(
        self,
        loader: Loader,
        paths: Paths,
        *,
        interval: float | None = None,
        accept: Callable[[Snapshot], Sequence[str]] | None = None,
        on_reload: Callable[[StoreState], None] | None = None,
        on_poll: Callable[[], None] | None = None,
        keep: Path | None = None,
        expired: bool = False,
        clock: Callable[[], datetime] = _clock,
    ) -> None:
        if interval is not None and interval <= 0:
            raise ValueError(f"`interval` must be positive, got {interval}; leave it out for no polling")
        self._loader = loader
        self._paths = tuple(Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths))
        self._accept = accept
        self._on_reload = on_reload
        self._on_poll = on_poll
        self._memory = LastGood(keep, self._paths) if keep is not None and self._paths else None
        self._clock = clock
        self._expired = expired
        self._lock = threading.Lock()  # one poll at a time; readers never take it
        self._watcher = FileWatcher(self._paths)
        self._seen = self._watcher.fingerprint()
        self._confirmed = clock()  # when the files last agreed with what is in force
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

    @property
    def files(self) -> Mapping[str, bytes]:
        """The files that the snapshot in force was made of, as in `LoadedPolicies.files`."""
        return self._current[2]

    def poll(self) -> StoreState:
        """The state after one poll: the files are loaded if they changed since the last one."""
        with self._lock:
            now = self._watcher.fingerprint()
            if now != self._seen:
                self._seen = now
                self._reload()
            elif self.state.source == "live":
                self._still_good()
            elif self._clock_went_back():
                self._reload()
        return self.state

    def close(self) -> None:
        """Ends the polling; the snapshot stays readable."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _load(self) -> LoadedPolicies:
        loaded = self._loader.load_files(self._paths, now=self._clock())
        self._check(loaded.snapshot)
        return loaded

    def _check(self, snapshot: Snapshot) -> None:
        """Raises `PolicyError` for a snapshot that is valid and must not be used here."""
        where = ", ".join(map(str, self._paths))
        refused: list[tuple[Code, str]] = list(self._goes_back(snapshot.origin))
        if self._accept is not None and not refused:
            refused += [("unmet", text) for text in self._accept(snapshot)]
        if refused:
            raise PolicyError(Problem(where, 0, 0, "", text, code) for code, text in refused)

    def _goes_back(self, origin: Origin | None) -> list[tuple[Code, str]]:
        """Why the bundle `origin` may not replace what this machine used before; empty when it may."""
        kept = self._memory.read() if self._memory is not None else None
        used = [(kept.name, kept.sequence, kept.bundle)] if kept is not None and kept.name is not None else []
        own = self._current[0].origin if hasattr(self, "_current") else None
        used += [(own.name, own.sequence, own.digest)] if own is not None else []
        if origin is None or not used:
            return []
        name, sequence, digest = max(used, key=lambda u: u[1])
        if name != origin.name:
            way_out = f"; to follow another set, remove `{self._memory.file}`" if self._memory is not None else ""
            return [("other-host", f"it is a bundle of the set `{origin.name}`, and `{name}` is in use{way_out}")]
        if origin.sequence < sequence:
            return [("replayed", f"its sequence number is {origin.sequence}, and {sequence} was in use before")]
        if origin.sequence == sequence and origin.digest != digest:
            return [("replayed", f"another bundle with the sequence number {sequence} was in use before")]
        return []

    def _first(self) -> tuple[Snapshot, StoreState, Mapping[str, bytes]]:
        try:
            loaded = self._load()
        except PolicyError as error:
            return self._before(error)
        if self._memory is not None:
            self._memory.write(loaded.snapshot, loaded.files)
        return loaded.snapshot, self._fresh_state(loaded.snapshot), loaded.files

    def _fresh_state(self, snapshot: Snapshot) -> StoreState:
        paths = tuple(str(p) for p in self._paths)
        now = self._clock()
        return StoreState(snapshot.digest, 1, now, "live", paths, len(snapshot.rules), origin=snapshot.origin)

    def _before(self, error: PolicyError) -> tuple[Snapshot, StoreState, Mapping[str, bytes]]:
        """What to start with because the files cannot be used: what was in use before this process, or a bundle that
        has ended and may be used all the same. Raises `error` without any.
        """
        try:
            return self._remembered(error)
        except PolicyError:
            if not self._expired or set(error.codes) != {"expired"}:
                raise
        loaded = self._loader.load_files(self._paths, ended=True)
        self._check(loaded.snapshot)
        origin = loaded.snapshot.origin
        assert origin is not None  # INVARIANT: only a bundle expires
        self._confirmed = origin.not_after
        _log.error("the bundle has expired, and the service starts with it because the settings say so: %s", error)
        state = replace(self._fresh_state(loaded.snapshot), source="last-good", failed_at=self._clock())
        state = replace(state, last_error=str(error), last_problems=error.problems)
        return self._dated(loaded.snapshot), state, loaded.files

    def _clock_went_back(self) -> bool:
        """Whether nothing but age keeps the files out of use, and the clock is now earlier than when it did."""
        failed, codes = self.state.failed_at, {problem.code for problem in self.state.last_problems}
        return codes == {"expired"} and failed is not None and self._clock() < failed

    def _remembered(self, error: PolicyError) -> tuple[Snapshot, StoreState, Mapping[str, bytes]]:
        """The policies that were in use before this process, because the files cannot be used; raises `error` without
        any."""
        kept = self._memory.read() if self._memory is not None else None
        if kept is None or self._memory is None:
            raise error
        try:
            snapshot = self._loader.load_kept(kept.files, label=str(self._memory.file))
            self._check(snapshot)
        except PolicyError as second:
            _log.warning("the remembered policies cannot be used either: %s", second)
            raise error from None
        self._confirmed = kept.as_of
        snapshot = self._dated(snapshot)
        _log.warning("policies not loaded, those of an earlier run are in force: %s", error)
        state = replace(self._fresh_state(snapshot), source="last-good", failed_at=self._clock())
        return snapshot, replace(state, last_error=str(error), last_problems=error.problems), kept.files

    def _reload(self) -> None:
        snapshot, state, _ = self._current
        try:
            loaded = self._load()
            losses = floor_losses(snapshot, loaded.snapshot)
            if losses:
                where = ", ".join(map(str, self._paths))
                raise PolicyError(Problem(where, 0, 0, "", text, "floor") for text in losses)
        except PolicyError as error:
            self._fail(str(error), error.problems)
            return
        except Exception as error:  # a defect of this code must not remove the last good policy either
            _log.exception("loading policies failed in an unexpected way")
            self._fail(f"internal error: {error}", ())
            return
        self._confirmed = self._clock()
        again = loaded.snapshot.digest == state.digest and loaded.snapshot.origin == snapshot.origin
        if not again or snapshot.as_of != loaded.snapshot.as_of:
            snapshot = loaded.snapshot
        if not again and self._memory is not None:
            self._memory.write(loaded.snapshot, loaded.files)
        changed = loaded.snapshot.digest != state.digest
        fresh = self._fresh_state(snapshot)
        since = fresh.loaded_at if changed else state.loaded_at
        state = replace(fresh, generation=state.generation + changed, loaded_at=since)
        self._publish(snapshot, state, loaded.files)

    def _still_good(self) -> None:
        """Confirms the unchanged files as current, unless they are a bundle that has expired."""
        origin, now = self.state.origin, self._clock()
        if origin is not None and now >= origin.not_after:
            said = f"the bundle in use expired at {origin.not_after:%Y-%m-%d %H:%M} UTC; sign it again"
            self._fail(said, (Problem(", ".join(map(str, self._paths)), 0, 0, "", said, "expired"),))
            return
        self._confirmed = now
        if self._memory is not None:
            self._memory.confirm()

    def _fail(self, error: str, problems: tuple[Problem, ...]) -> None:
        snapshot, state, files = self._current
        failed = replace(state, source="last-good", last_error=error, last_problems=problems, failed_at=self._clock())
        self._publish(self._dated(snapshot), failed, files)

    def _dated(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the time when it was last current, if some policy has `freshness`."""
        if not snapshot.freshness or snapshot.as_of is not None:
            return snapshot
        return replace(snapshot, as_of=self._confirmed)

    def _publish(self, snapshot: Snapshot, state: StoreState, files: Mapping[str, bytes]) -> None:
        # INVARIANT: one assignment of one tuple, so that no reader sees a snapshot with another one's state
        self._current = (snapshot, state, files)
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
            if self._on_poll is not None:
                self._on_poll()
