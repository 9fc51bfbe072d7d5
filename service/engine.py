"""The engine thread: the only one in a worker that touches the model.

A job is one picture. Jobs wait in a bounded line; the thread takes the oldest, adds what is compatible with it (same
size, steps and guidance, whatever the plans), and runs one call of the host. Retries of the closed loop go to the
front of the line and are never refused, because their request was already admitted.

A batch that fails as a whole is run again row by row, so that one bad row costs its neighbours time and nothing else.
Rows cannot leave a running pipeline; the call is aborted when nobody waits for any of its pictures.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.errors import Busy, DeadlineExceeded, Unavailable, without_message
from service.metrics import Recorder
from service.settings import Batching

if TYPE_CHECKING:
    from PIL.Image import Image

    from steering import Host, PictureReport, Plan

__all__ = ["Engine", "Form", "Job", "Made", "Queue"]

log = logging.getLogger("bentoml.palimpsest.engine")


@dataclass(frozen=True, slots=True)
class Form:
    """What pictures of one batch have in common."""

    height: int
    width: int
    steps: int
    guidance: float
    negative: bool = False  # some pipelines encode "no negative prompt" otherwise than an empty one


@dataclass(frozen=True, slots=True)
class Made:
    """A finished picture, what was done to it, and the seconds it waited and took."""

    image: Image
    report: PictureReport
    waited: float
    took: float


@dataclass(slots=True, eq=False)
class Job:
    """One picture to make; `done` gets a `Made` or an exception. `deadline` is in `time.monotonic` seconds."""

    prompt: str
    negative_prompt: str | None
    seed: int
    plan: Plan | None
    form: Form
    deadline: float
    done: Future[Made] = field(default_factory=Future)
    entered: float = field(default_factory=time.monotonic)
    abandoned: threading.Event = field(default_factory=threading.Event)

    @property
    def lost(self) -> str | None:
        """Why nobody waits for the picture any more, or None."""
        if self.abandoned.is_set():
            return "disconnect"
        return "deadline" if time.monotonic() > self.deadline else None

    def settle(self, result: Made | BaseException) -> None:
        """Sets the outcome once; later ones are dropped."""
        if self.done.done() or not (self.done.running() or self.done.set_running_or_notify_cancel()):
            return
        if isinstance(result, BaseException):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class Queue:
    """The bounded line of jobs. Thread-safe."""

    def __init__(self, size: int, recorder: Recorder) -> None:
        self.size = size
        self.pace = 0.5  # seconds a picture, as last measured; only for `Retry-After`
        self._recorder = recorder
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, jobs: Sequence[Job]) -> None:
        """Adds all jobs of a request or none. Raises `Busy` when the line is full."""
        with self._changed:
            if len(self._jobs) + len(jobs) > self.size:
                self._recorder.turned_away()
                raise Busy("the queue is full; try again later", retry_after=self.pace * len(self._jobs))
            self._jobs.extend(jobs)
            self._tell()

    def put_first(self, job: Job) -> None:
        """Adds a retry at the front; never refused."""
        with self._changed:
            self._jobs.appendleft(job)
            self._tell()

    def take(self, most: int, timeout: float) -> list[Job]:
        """The oldest job and up to `most - 1` that are compatible with it; empty after `timeout` seconds of nothing."""
        with self._changed:
            if not self._jobs:
                self._changed.wait(timeout)
            form = self._jobs[0].form if self._jobs else None
            taken = [job for job in self._jobs if job.form == form][:most]
            for job in taken:
                self._jobs.remove(job)
            self._tell()
            return taken

    def drop_lost(self) -> list[Job]:
        """The jobs that nobody waits for, taken out of the line."""
        with self._changed:
            lost = [job for job in self._jobs if job.lost]
            for job in lost:
                self._jobs.remove(job)
            self._measure()
            return lost

    def _tell(self) -> None:
        self._measure()
        self._changed.notify()

    def _measure(self) -> None:
        first = min((job.entered for job in self._jobs), default=None)
        since = None if first is None else time.time() - (time.monotonic() - first)
        self._recorder.queue_depth(len(self._jobs), since)


class _Abandoned(Exception):
    """Nobody waits for any picture of the running batch."""


class Engine(threading.Thread):
    """Loads the host and runs the jobs of `queue` until `stop`.

    `load` is called on this thread, so that the model belongs to it from the start; if it raises, `failure` holds why
    and the thread ends. `ready` is set once jobs run.
    """

    def __init__(
        self, load: Callable[[], Host], queue: Queue, recorder: Recorder, *, batching: Batching, max_batch: int
    ) -> None:
        super().__init__(name="palimpsest-engine", daemon=True)
        self.queue = queue
        self.ready = threading.Event()
        self.settled = threading.Event()  # loaded, or failed to
        self.failure: BaseException | None = None
        self.beat = time.monotonic()
        self.host: Host | None = None
        self._load = load
        self._recorder = recorder
        self._batching = batching
        self._most = 1 if batching == "solo" else max_batch
        self._stopping = threading.Event()

    def run(self) -> None:
        try:
            self.host = host = self._load()
        except BaseException as error:
            self.failure = error
            self.settled.set()
            return
        self.ready.set()
        self.settled.set()
        while not self._stopping.is_set():
            self._beat()
            for job in self.queue.drop_lost():
                self._give_up(job)
            if jobs := self.queue.take(self._most, timeout=0.1):
                self._run(host, jobs)
        self._drain()

    def stop(self, timeout: float) -> None:
        """Lets the running batch end, then ends the thread; jobs that still wait are answered `Unavailable`."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout)

    def alive(self, *, within: float) -> bool:
        """Whether the thread runs and moved in the last `within` seconds."""
        return self.is_alive() and time.monotonic() - self.beat < within

    def _beat(self) -> None:
        self.beat = time.monotonic()
        self._recorder.engine(ready=True)

    def _run(self, host: Host, jobs: list[Job]) -> None:
        """Runs one batch; every job is settled afterwards."""
        waiting = [job for job in jobs if not job.lost]
        for job in jobs:
            if job not in waiting:
                self._give_up(job)
        if not waiting:
            return
        try:
            self._generate(host, waiting)
        except _Abandoned:
            for job in waiting:
                self._give_up(job)
        except Exception as error:
            if len(waiting) == 1:
                waiting[0].settle(error)
                return
            log.warning("a batch of %d failed, running its rows alone: %s", len(waiting), without_message(error))
            for job in waiting:
                self._run(host, [job])

    def _generate(self, host: Host, jobs: list[Job]) -> None:
        rows = self._most if self._batching == "fixed" else len(jobs)
        padding = rows - len(jobs)
        form, started = jobs[0].form, time.monotonic()
        out = host.generate(
            [job.prompt for job in jobs] + [""] * padding,
            plans=[job.plan for job in jobs] + [None] * padding,
            seeds=[job.seed for job in jobs] + [0] * padding,
            negative_prompts=[job.negative_prompt for job in jobs] + [""] * padding if form.negative else None,
            on_step=lambda step, steps: self._between_steps(jobs),
            height=form.height,
            width=form.width,
            num_inference_steps=form.steps,
            guidance_scale=form.guidance,
        )
        took = time.monotonic() - started
        self.queue.pace = took / rows
        self._recorder.batch(rows, padding)
        self._recorder.stage_took("generate", took)
        for job, image, report in zip(jobs, out.images, out.report, strict=False):
            self._recorder.stage_took("queue", started - job.entered)
            job.settle(Made(image, report, started - job.entered, took))

    def _between_steps(self, jobs: list[Job]) -> None:
        self._beat()
        self._recorder.step()
        if all(job.lost for job in jobs):
            raise _Abandoned

    def _give_up(self, job: Job) -> None:
        if job.abandoned.is_set():
            self._recorder.dropped("disconnect")
            job.done.cancel()
        else:
            self._recorder.dropped("deadline")
            job.settle(DeadlineExceeded("the request's time ran out while it waited for the model"))

    def _drain(self) -> None:
        self._recorder.engine(ready=False)
        while jobs := self.queue.take(self.queue.size, timeout=0):
            for job in jobs:
                self._recorder.dropped("shutdown")
                job.settle(Unavailable("the worker is shutting down", code="shutting_down"))
