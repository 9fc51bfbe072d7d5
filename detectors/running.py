"""The interface of every detector (name, version, time budget, coverage), and how one is run.

A detector that raises or takes too long must never look like one that found nothing. `run` turns both into error
signals for every name that the detector covers. The policies then apply the rule's `on_error`. A score that is NaN or
infinite, as a damaged or half-precision network gives it, is such a failure too: every comparison with NaN is false, so
it would pass for "nothing there".

A `Watch` runs one detector for the life of the process, on a thread of its own, behind a circuit breaker. A call into a
native library cannot be ended, so a reading that hangs keeps its thread. The watch then uses one other thread. If that
hangs too, the circuit opens until one of them returns. A detector therefore holds at most two threads, and a detector
that hangs costs its callers an error signal, which is the strict answer, and nothing else.

Some pictures simply hold more than can be read in the time. A detector that can stop in the middle does so by itself
(`Limit`): that picture has an error, but the detector is well, so nobody else is refused for it.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

from policies.types import Signal, Signals, Stage, TextSource, View

__all__ = [
    "Detector",
    "DetectorFailed",
    "Failure",
    "Health",
    "Limit",
    "NotFinite",
    "TooMuch",
    "Watch",
    "WatchedFinder",
    "WatchedScorer",
    "probability",
    "run",
]

T = TypeVar("T")
CircuitState = Literal["closed", "open", "half-open"]
_MOST_STUCK = 2  # threads that hang before nothing more is started


@runtime_checkable
class Detector(Protocol):
    """The part that text and picture detectors share; `budget` is in seconds, `covers` are names of signals."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def budget(self) -> float: ...
    @property
    def covers(self) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a detector gave no answer: `error` when it raised, `timeout` when it took longer than its budget, `open`
    when it failed so often that it is not asked for a while. `well`: because of what it was asked, not of itself."""

    kind: Literal["error", "timeout", "open"]
    text: str
    well: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class DetectorFailed(Exception):
    """Raised where a failure cannot be returned; the message is `Failure`'s and quotes nothing that was read."""


class NotFinite(ValueError):
    """Raised for a score, or a vector that scores are made of, that is NaN or infinite."""


class TooMuch(Exception):
    """Raised by a detector that stopped by itself, because what it was given takes longer than it may take."""


class Limit:
    """The time of one reading, from now on: work that has parts asks `check` before each."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raises: TooMuch."""
        if time.monotonic() > self._end:
            raise TooMuch(f"not read within {self._seconds:g} s")


def probability(score: float, detector: str) -> float:
    """`score` as a number in [0, 1]; what rounding put beside an end is moved to it.

    Every score passes here before it is compared with anything. Raises: NotFinite.
    """
    if not math.isfinite(score):
        raise NotFinite(f"a score of `{detector}` must be a finite number, got {score}")
    return min(1.0, max(0.0, float(score)))


@dataclass(frozen=True, slots=True)
class Health:
    """How a watched detector does: `failures` in a row, `stuck` threads, how often the circuit `opened`, what
    happened last."""

    name: str
    state: CircuitState
    failures: int
    stuck: int
    opened: int
    last_error: str = ""

    @property
    def ok(self) -> bool:
        return self.state == "closed"


class Watch:
    """Runs one detector's work, one piece at a time, within its budget and behind a circuit breaker.

    After `failures` in a row the circuit opens: work is refused for `pause` seconds, then one piece is tried
    (half-open), which closes it or opens it again. `changed` is told the new health whenever the state changes. Until
    the first answer came, work may take `first` seconds: weights are loaded then.
    """

    def __init__(
        self,
        name: str,
        budget: float,
        *,
        failures: int = 3,
        pause: float = 30.0,
        first: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[Health], None] | None = None,
    ) -> None:
        if budget <= 0 or failures < 1 or pause < 0:
            got = f"{budget}, {failures} and {pause}"
            raise ValueError(f"`budget` must be positive, `failures` at least 1 and `pause` not negative, got {got}")
        self._name, self._budget, self._limit, self._pause = name, budget, failures, pause
        self._clock, self._changed = clock, changed
        self._patience = max(budget, first or budget)
        self._turn = threading.Lock()  # one piece of work at a time
        self._lock = threading.Lock()  # guards what follows
        self._state: CircuitState = "closed"
        self._failures = self._opened = 0
        self._since = 0.0
        self._last = ""
        self._worker: _Worker | None = None
        self._stuck: list[_Worker] = []
        self._observers: list[Callable[[Health, float], None]] = []

    def observe(self, told: Callable[[Health, float], None]) -> None:
        """Tells `told`, after every piece of work that was tried, how the detector does and the seconds it took."""
        self._observers.append(told)

    @property
    def health(self) -> Health:
        with self._lock:
            return self._health()

    def call(self, work: Callable[[], T]) -> T | Failure:
        """What `work` returns, or why there is no answer; time spent waiting for other callers does not count."""
        if not self._turn.acquire(timeout=min(threading.TIMEOUT_MAX, 2 * self._patience)):
            return Failure("timeout", "the detector was busy")
        try:
            refused = self._refused()
            if refused is not None:
                return refused
            started = time.perf_counter()
            result = self._attempt(work)
            took = time.perf_counter() - started
            self._note(result)
            for told in self._observers:
                told(self.health, took)
            return result
        finally:
            self._turn.release()

    def close(self) -> None:
        """Ends the thread when it is idle; a thread that hangs ends with the process."""
        with self._lock:
            if self._worker is not None:
                self._worker.dismiss()
            self._worker = None

    def _attempt(self, work: Callable[[], T]) -> T | Failure:
        if self._budget == float("inf"):
            return _attempt(work)
        worker = self._worker or _Worker(f"detector-{self._name}")
        self._worker = worker
        job = worker.submit(work)
        if job.done.wait(self._patience):
            assert job.result is not None  # INVARIANT: a job that is done has been answered
            return job.result[0]
        worker.dismiss()  # it ends when its work does
        with self._lock:
            self._worker = None
            self._stuck.append(worker)
        return Failure("timeout", f"no answer within {self._patience:g} s")

    def _refused(self) -> Failure | None:
        with self._lock:
            self._stuck = [w for w in self._stuck if w.alive]
            if len(self._stuck) >= _MOST_STUCK:
                return Failure("open", f"{_MOST_STUCK} readings hang")
            if self._state == "open" and self._clock() - self._since < self._pause:
                return Failure("open", f"failed {self._failures} times in a row, last `{self._last}`")
            if self._state == "open":
                self._become("half-open")
            return None

    def _note(self, result: object) -> None:
        with self._lock:
            if not isinstance(result, Failure) or result.well:
                self._failures = 0
                self._patience = self._budget
                self._become("closed")
                return
            self._failures += 1
            self._last = str(result)
            stuck = sum(w.alive for w in self._stuck)
            if self._state == "half-open" or self._failures >= self._limit or stuck >= _MOST_STUCK:
                self._since = self._clock()
                self._become("open")

    def _become(self, state: CircuitState) -> None:
        if state == self._state:
            return
        self._opened += state == "open"
        self._state = state
        if self._changed is not None:
            self._changed(self._health())

    def _health(self) -> Health:
        stuck = sum(w.alive for w in self._stuck)
        return Health(self._name, self._state, self._failures, stuck, self._opened, self._last)


class WatchedScorer:
    """A scorer of texts behind a watch: a failure is raised as `DetectorFailed`, which counts as an error signal."""

    def __init__(self, scorer: _Scorer, watch: Watch) -> None:
        self._scorer = scorer
        self.watch = watch

    @property
    def name(self) -> str:
        return self._scorer.name

    @property
    def version(self) -> str:
        return self._scorer.version

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """The scorer's answer within its budget. Raises `DetectorFailed` when there is none."""
        result = self.watch.call(lambda: self._scorer.scores(texts))
        if isinstance(result, Failure):
            raise DetectorFailed(str(result))
        return result


class WatchedFinder:
    """A finder of concepts in texts behind a watch; see `WatchedScorer`."""

    def __init__(self, finder: _Finder, watch: Watch) -> None:
        self._finder = finder
        self.watch = watch

    @property
    def name(self) -> str:
        return self._finder.name

    @property
    def version(self) -> str:
        return self._finder.version

    @property
    def concepts(self) -> frozenset[str]:
        return self._finder.concepts

    def find(self, views: Sequence[View], source: TextSource, text: str) -> list[Signal]:
        """The finder's answer within its budget. Raises `DetectorFailed` when there is none."""
        result = self.watch.call(lambda: self._finder.find(views, source, text))
        if isinstance(result, Failure):
            raise DetectorFailed(str(result))
        return result


class _Finder(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def concepts(self) -> frozenset[str]: ...
    def find(self, views: Sequence[View], source: TextSource, text: str) -> list[Signal]: ...


class _Scorer(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]: ...


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Callable[[], T]
    done: threading.Event
    result: tuple[T | Failure] | None = None


class _Worker:
    """One thread that does the work it is given, in order, until it is dismissed or nobody holds it any more."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        # the thread holds the queue alone: else an idle one would hold its detector, and all that watches it, for ever
        self._thread = threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True)
        self._thread.start()

    def __del__(self) -> None:
        self.dismiss()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, work: Callable[[], T]) -> _Job[T]:
        job = _Job(work, threading.Event())
        self._jobs.put(job)  # type: ignore[arg-type]  # the queue mixes jobs of all results
        return job

    def dismiss(self) -> None:
        self._jobs.put(None)


def _work(jobs: queue.SimpleQueue[_Job[object] | None]) -> None:
    while (job := jobs.get()) is not None:
        job.result = (_attempt(job.work),)
        job.done.set()
        del job  # what was read is not kept until the next reading


def run(
    detector: Detector, look: Callable[[], Iterable[Signal]], *, stage: Stage, watch: Watch | None = None
) -> Signals:
    """The signals of `look()`, or an error signal for each name that `detector` covers.

    With `watch` the work is done there. Without one a thread is started for this reading alone, and left behind if it
    hangs: fit for a command, not for a service. A budget that is not finite runs it in place.
    """
    own = watch or Watch(detector.name, detector.budget)
    result = own.call(lambda: tuple(look()))
    if watch is None:
        own.close()
    if isinstance(result, Failure):
        failed = tuple(
            Signal(name, detector.name, detector.version, stage, error=str(result)) for name in sorted(detector.covers)
        )
        return Signals(failed)
    return Signals(result, frozenset((stage, name) for name in detector.covers))


def _attempt(work: Callable[[], T]) -> T | Failure:
    try:
        return work()
    except TooMuch as error:
        return Failure("timeout", str(error), well=True)
    except Exception as error:
        # the message may quote what was read: the type says enough for an audit record
        return Failure("error", type(error).__name__)
