"""The engine's job queue: bounded, and fair between callers.

A job is one picture. Callers take turns. The next batch starts with the oldest job of the caller that has waited
longest for a turn. The rest of the batch takes one compatible job (same size, steps, guidance and LoRA file, any plan)
from each caller in turn. Retries of the closed loop go first and are never refused, because their request is already
admitted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.errors import Busy, Unavailable
from service.metrics.recorder import Recorder
from service.order import Lora

if TYPE_CHECKING:
    import numpy as np
    from opentelemetry.context import Context
    from PIL.Image import Image

    from steering import PictureReport, Plan, Sentinel, Trajectory

__all__ = ["BatchKey", "Job", "Made", "Queue", "Rewritten", "Source", "Woken", "shutting_down"]

_SHARE = 4  # a named caller may hold this many times the free places: alone, four fifths of the queue


@dataclass(frozen=True, slots=True)
class BatchKey:
    """The properties that all pictures of one batch share."""

    height: int
    width: int
    steps: int
    guidance: float | None  # None: the pipeline has none
    lora: Lora | None = None  # the LoRA file that is switched on for the batch
    negative: bool = False  # some pipelines encode "no negative prompt" otherwise than an empty one
    given: bool = False  # its pictures are drawn over given ones: a batch of these can leave out their first steps
    rewrites: bool = False  # the pipeline may put its own words in place of a prompt, and then draws nothing


@dataclass(frozen=True, slots=True)
class Made:
    """A finished picture, the steering report, and the seconds that it waited and took."""

    image: Image
    report: PictureReport
    waited: float
    took: float


@dataclass(slots=True, eq=False)
class Source:
    """A given picture that jobs draw over: at their size, with what it shows.

    Its first `start` steps are kept; what comes before a given picture is found with `controller` of the noise of
    `seed` (see `Host.invert`). The engine finds `way` when it first draws over the picture.
    """

    image: Image
    prompt: str
    start: int
    controller: float = 0.0
    seed: int = 0
    way: Trajectory | None = None


class Woken(Exception):
    """Before its first step, what the encoded text tells about a picture made its request another one.

    `scores`: by concept, what the sentinels told. The picture was not begun.
    """

    def __init__(self, scores: Mapping[str, float]) -> None:
        super().__init__("the encoded text tells a concept that a rule asks about")
        self.scores = dict(scores)


class Rewritten(Exception):
    """The pipeline put `text` in place of the prompt, and nobody has judged it. The picture was not begun."""

    def __init__(self, text: str) -> None:
        super().__init__("the pipeline rewrote the prompt")
        self.text = text


@dataclass(slots=True, eq=False)
class Job:
    """One picture to generate. `done` receives a `Made` or an exception. `deadline` is in `time.monotonic` seconds.

    `on_step(i, n)` is called on the engine thread after step `i` of `n`. `sentinels` watch the picture. `wakes(scores)`
    is called on the engine thread before the first step with their scores of the text, by concept; if it says so, the
    picture is not begun and the job settles with `Woken`; with `Rewritten`, if the pipeline rewrites the prompt and the
    key lets it. The picture is drawn over `source`, inside of `mask` [h, w]
    (None: everywhere). `trace`: the span that asked for it, if that is recorded.
    """

    prompt: str
    negative_prompt: str | None
    seed: int
    plan: Plan | None
    key: BatchKey
    deadline: float
    caller: str = ""
    on_step: Callable[[int, int], None] | None = None
    sentinels: tuple[Sentinel, ...] = ()
    wakes: Callable[[Mapping[str, float]], bool] | None = None
    source: Source | None = None
    mask: np.ndarray | None = None
    trace: Context | None = None
    done: Future[Made] = field(default_factory=Future)
    entered: float = field(default_factory=time.monotonic)
    abandoned: threading.Event = field(default_factory=threading.Event)
    late: bool = False  # it was abandoned because its time ran out

    def abandon(self) -> None:
        """Nobody waits for the picture any more: its caller left, or has its answer, or its time ran out."""
        self.late = time.monotonic() >= self.deadline
        self.abandoned.set()

    @property
    def lost(self) -> str | None:
        """Why the picture is no longer needed, or None."""
        if self.abandoned.is_set():
            return "deadline" if self.late else "disconnect"
        return "deadline" if time.monotonic() > self.deadline else None

    def settle(self, result: Made | BaseException) -> None:
        """Sets the result. Only the first call has an effect."""
        if self.done.done() or not (self.done.running() or self.done.set_running_or_notify_cancel()):
            return
        if isinstance(result, BaseException):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


def shutting_down() -> Unavailable:
    """The error for requests that are rejected because the worker is shutting down."""
    return Unavailable("the worker is shutting down; another one will answer", code="shutting_down", retry_after=1)


class Queue:
    """The bounded queue of jobs. Thread-safe."""

    def __init__(self, size: int, recorder: Recorder) -> None:
        self.size = size
        self.pace = 0.5  # seconds a picture, as last measured; only for `Retry-After`
        self._recorder = recorder
        self._retries: deque[Job] = deque()
        self._lines: dict[str, deque[Job]] = {}  # by caller, in the order of their turns
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._retries) + sum(map(len, self._lines.values()))

    def put(self, jobs: Sequence[Job]) -> None:
        """Adds all jobs of a request or none. Raises `Busy` if the queue is full, `Unavailable` if it is closed."""
        caller = jobs[0].caller
        with self._changed:
            if self._closed:
                raise shutting_down()
            waiting, own = len(self), len(self._lines.get(caller, ()))
            if waiting + len(jobs) > self.size:
                self._recorder.turned_away()
                raise Busy("the queue is full; try again later", retry_after=self.pace * waiting)
            if caller and own and own + len(jobs) > _SHARE * (self.size - waiting):
                self._recorder.turned_away()
                raise Busy("this key's share of the queue is full; try again later", retry_after=self.pace * own)
            self._lines.setdefault(caller, deque()).extend(jobs)
            self._tell()

    def put_first(self, job: Job) -> None:
        """Adds a retry before all waiting jobs. Never refused."""
        with self._changed:
            self._retries.appendleft(job)
            self._tell()

    def wait(self, timeout: float) -> bool:
        """Whether a job waits, at the latest after `timeout` seconds."""
        with self._changed:
            return len(self) > 0 or (self._changed.wait(timeout) and len(self) > 0)

    def take(self, most: int, timeout: float, *, gather: float = 0.0) -> list[Job]:
        """The jobs of one batch, at most `most`. Empty if no job arrives within `timeout` seconds.

        gather: seconds that a batch with room waits for another job. Each new job restarts the wait; the total is at
        most twice `gather`.
        """
        with self._changed:
            if not len(self):
                self._changed.wait(timeout)
            self._gather(most, gather)
            first = self._first()
            taken = [] if first is None else self._compatible(first.key, most)
            self._remove(taken)
            for caller in dict.fromkeys(job.caller for job in taken):
                if caller in self._lines:
                    self._lines[caller] = self._lines.pop(caller)  # moves the caller to the end of the order
            self._tell()
            return taken

    def _gather(self, most: int, seconds: float) -> None:
        """Returns when the batch is full, when no job arrived for `seconds`, or after twice `seconds`."""
        last = time.monotonic()
        end, have = last + 2 * seconds, self._ready(most)
        while 0 < have < most and not self._closed:
            left = min(last + seconds, end) - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)
            if (now := self._ready(most)) > have:
                have, last = now, time.monotonic()

    def _ready(self, most: int) -> int:
        """The number of jobs in the next batch."""
        first = self._first()
        return 0 if first is None else len(self._compatible(first.key, most))

    def drop_lost(self) -> list[Job]:
        """Removes and returns the jobs that are no longer needed."""
        with self._changed:
            lost = [job for job in self._all() if job.lost]
            self._remove(lost)
            self._measure()
            return lost

    def close(self) -> list[Job]:
        """Removes and returns the jobs that have not started. Afterwards the queue accepts retries only."""
        with self._changed:
            self._closed = True
            dropped = [job for line in self._lines.values() for job in line]
            self._lines.clear()
            self._tell()
            return dropped

    def _first(self) -> Job | None:
        return next(self._all(), None)

    def _all(self) -> Iterator[Job]:
        yield from self._retries
        for line in self._lines.values():
            yield from line

    def _compatible(self, key: BatchKey, most: int) -> list[Job]:
        """Retries with this key, then one job of each caller in turn."""
        taken = [job for job in self._retries if job.key == key][:most]
        lines = [deque(job for job in line if job.key == key) for line in self._lines.values()]
        while len(taken) < most and any(lines):
            for line in lines:
                if line and len(taken) < most:
                    taken.append(line.popleft())
        return taken

    def _remove(self, jobs: Sequence[Job]) -> None:
        gone = set(map(id, jobs))
        self._retries = deque(job for job in self._retries if id(job) not in gone)
        kept = {c: deque(j for j in line if id(j) not in gone) for c, line in self._lines.items()}
        self._lines = {caller: line for caller, line in kept.items() if line}

    def _tell(self) -> None:
        self._measure()
        self._changed.notify()

    def _measure(self) -> None:
        first = min((job.entered for job in self._all()), default=None)
        since = None if first is None else time.time() - (time.monotonic() - first)
        self._recorder.queue_depth(len(self), since)
