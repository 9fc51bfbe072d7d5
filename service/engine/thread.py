"""The engine thread of a model: the only thread that uses it.

It takes a batch of compatible jobs and makes one call of the host. If the batch has room, it first waits briefly for
more jobs. If a batch fails, its rows run again one by one, so that a bad row only delays the others: one whose picture
has values that are not finite, for instance, which is an error and no picture. If a batch does
not fit into memory, it runs in halves, and later batches are smaller. A row cannot leave a running pipeline. The call
is aborted once none of its pictures is needed.

Where a worker serves several models, each has its engine, and these draw in turn (see `service.engine.turns`).

A fatal device error ends the thread. The worker then fails its liveness check and is replaced.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from service.engine.queue import Job, Made, Queue, Rewritten, Woken, shutting_down
from service.engine.turns import Turns
from service.engine.weights import free_caches
from service.errors import DeadlineExceeded, PictureBroken, TextUnjudged, Unavailable, without_message
from service.metrics.recorder import Recorder
from service.settings import Batching
from service.tracing import Attributes

if TYPE_CHECKING:
    from steering import Host, Kept

__all__ = ["Engine", "is_fatal", "is_out_of_memory"]

log = logging.getLogger("bentoml.palimpsest.engine")
_GOOD_BATCHES = 100  # as many batches must fit before a larger one is tried again
_GATHER = 0.02  # of the time that the next batch will take: how long it waits for one more picture


class _Stopped(Exception):
    """A batch ended before it drew its pictures, and nothing is wrong."""


class _Abandoned(_Stopped):
    """No picture of the running batch is needed any more."""


class _SomeWoken(_Stopped):
    """Some pictures of the batch are not begun: `scores` by job, what their texts told."""

    def __init__(self, scores: Mapping[Job, Mapping[str, float]]) -> None:
        super().__init__()
        self.scores = scores


class _AllRewritten(_Stopped):
    """The pipeline put `texts`, one a row, in place of the prompts of its batch."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        self.texts = tuple(texts)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a batch failed because it did not fit into device or host memory."""
    said = str(error).lower()
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and ("not enough memory" in said or "out of memory" in said))


def is_fatal(error: BaseException) -> bool:
    """Whether this process can no longer use the device: after such a CUDA error every later call fails, too."""
    if is_out_of_memory(error):
        return False
    return type(error).__name__ == "AcceleratorError" or (
        isinstance(error, RuntimeError) and "CUDA error" in str(error)
    )


class Engine(threading.Thread):
    """Loads the host, then runs the jobs of `queue` until `stop`.

    `load` is called on this thread, so the model belongs to it from the start. If `load` raises, `failure` holds the
    error and the thread ends. `ready` is set when the thread can run jobs. `turns` are those of the engines that share
    its device.
    """

    def __init__(
        self,
        load: Callable[[], Host],
        queue: Queue,
        recorder: Recorder,
        *,
        batching: Batching,
        max_batch: int,
        turns: Turns | None = None,
    ) -> None:
        super().__init__(name="palimpsest-engine", daemon=True)
        self.queue = queue
        self.ready = threading.Event()
        self.settled = threading.Event()  # loaded, or failed to
        self.failure: BaseException | None = None
        self.beat = time.monotonic()
        self.host: Host | None = None
        self.running = 0  # pictures of the batch that runs now
        self._load = load
        self._recorder = recorder
        self._batching = batching
        self._most = self._room = 1 if batching == "solo" else max_batch
        self._good = 0
        self._turns = turns or Turns()
        self._stopping = threading.Event()
        self._retiring = threading.Event()

    def run(self) -> None:
        try:
            with self._turns.taken(self._goes_on) as mine:
                if not mine:
                    raise shutting_down()
                self.host = host = self._load()
        except BaseException as error:
            self.failure = error
            self.settled.set()
            return
        self.ready.set()
        self.settled.set()
        while self._goes_on():
            if not self.queue.wait(0.1):
                continue
            with self._turns.taken(self._goes_on) as mine:
                if mine and (jobs := self.queue.take(self._room, timeout=0, gather=self._gather)):
                    self.running = len(jobs)
                    self._run(host, jobs)
                    self.running = 0
        if self._retiring.is_set():
            host.close()
            self.host = None
        else:
            self._drain()

    def _goes_on(self) -> bool:
        """Whether the thread goes on. Says that the engine lives, and gives up the jobs that nobody needs any more."""
        self._beat()
        for job in self.queue.drop_lost():
            self._give_up(job)
        return self.failure is None and not self._stopping.is_set() and not self._retiring.is_set()

    def retire(self) -> None:
        """Ends the thread and lets go of the model, so that its memory is free. The queue stays as it is, for the next
        engine; call it while no job waits or runs.
        """
        self._retiring.set()
        self.join()

    def stop(self, timeout: float) -> None:
        """Waits for the running batch and ends the thread. Waiting jobs are answered with `Unavailable`. A model that
        is still loading is not waited for: the thread ends with the process.
        """
        self._stopping.set()
        if self.settled.is_set() and self.is_alive():
            self.join(timeout)

    def turn_away(self) -> None:
        """Answers jobs that have not started with `Unavailable` and accepts no new ones. Started jobs finish."""
        for job in self.queue.close():
            self._recorder.dropped("shutdown")
            job.settle(shutting_down())

    def alive(self, *, within: float) -> bool:
        """Whether the thread runs and made progress in the last `within` seconds."""
        return self.is_alive() and time.monotonic() - self.beat < within

    def _beat(self) -> None:
        self.beat = time.monotonic()
        self._recorder.beat()

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
        except _SomeWoken as some:
            for job, scores in some.scores.items():
                job.settle(Woken(scores))
            self._run(host, [job for job in waiting if job not in some.scores])
        except _AllRewritten as other:
            for job, text in zip(waiting, other.texts, strict=False):  # padding has texts, too, and no job
                job.settle(Rewritten(text))
        except Exception as error:
            self._failed(host, waiting, error)
        else:
            self._fitted()

    def _failed(self, host: Host, jobs: list[Job], error: Exception) -> None:
        """Splits a failed batch into smaller ones, or settles the job if it is the only one."""
        said = without_message(error)
        if is_fatal(error):
            log.critical("the device is lost, the worker ends: %s", said)
            self.failure = error
            for job in jobs:
                job.settle(Unavailable("the worker has lost its device and starts again", code="device_lost"))
            return
        if is_out_of_memory(error):
            self._recorder.out_of_memory()
            error.__traceback__ = None  # its frames hold the tensors of the batch
            free_caches()
            if len(jobs) == 1 and self._rows(jobs) == 1:
                log.error("a picture does not fit into memory: %s", said)
                jobs[0].settle(Unavailable("the picture does not fit into the memory at hand", code="out_of_memory"))
                return
            self._room, self._good = max(1, self._rows(jobs) // 2), 0
            log.warning("a batch of %d does not fit into memory; batches are now at most %d", len(jobs), self._room)
            parts = [jobs[i : i + self._room] for i in range(0, len(jobs), self._room)]
        elif len(jobs) == 1:
            jobs[0].settle(self._told(error))
            return
        else:
            log.warning("a batch of %d failed; running its rows one by one: %s", len(jobs), said)
            parts = [[job] for job in jobs]
        for part in parts:
            if self.failure is None:
                self._run(host, part)
            else:
                for job in part:
                    job.settle(Unavailable("the worker has lost its device and starts again", code="device_lost"))

    def _told(self, error: Exception) -> Exception:
        """The error that a job is settled with, where steering could not mend it. A broken picture is counted."""
        from steering import BrokenPicture, UnjudgedText

        if isinstance(error, UnjudgedText):
            self._recorder.rewritten("unjudged")
            log.error("the pipeline would have read text with `%s` that nobody judged", error.component)
            return TextUnjudged()
        if not isinstance(error, BrokenPicture):
            return error
        self._recorder.broken_picture(error.cause)
        log.error("a picture is broken: %s", error)
        return PictureBroken()

    def _fitted(self) -> None:
        """After many batches that fit, allows one more row. A fixed shape does not change, because pictures depend on
        it.
        """
        self._good += 1
        if self._room < self._most and self._good >= _GOOD_BATCHES and self._batching == "dynamic":
            self._room, self._good = self._room + 1, 0

    @property
    def _gather(self) -> float:
        """How long the next batch may wait for another picture, in seconds: a small share of its expected run time."""
        rows = self._room if self._batching == "fixed" else max(1, min(len(self.queue), self._room))
        return _GATHER * rows * self.queue.pace

    def _rows(self, jobs: list[Job]) -> int:
        return self._room if self._batching == "fixed" else len(jobs)

    def _generate(self, host: Host, jobs: list[Job]) -> None:
        rows = self._rows(jobs)
        padding = rows - len(jobs)
        key, started = jobs[0].key, time.monotonic()
        call: dict[str, Any] = {"height": key.height, "width": key.width, "num_inference_steps": key.steps}
        if key.guidance is not None:
            call["guidance_scale"] = key.guidance
        if not key.rewrites:
            call |= host.rewriter_off
        # without trust nothing is watched: a sentinel that stays silent is an error for the rules that ask it
        sentinels = tuple(dict.fromkeys(s for job in jobs for s in job.sentinels)) if host.trusted else ()
        lora = nullcontext() if key.lora is None else host.lora(key.lora.name, key.lora.scale)
        with self._traced(host, jobs, rows), lora:
            kept = [self._kept(host, jobs, job, call) for job in jobs] if key.given else None
            out = host.generate(
                [job.prompt for job in jobs] + [""] * padding,
                plans=[job.plan for job in jobs] + [None] * padding,
                seeds=[job.seed for job in jobs] + [0] * padding,
                negative_prompts=[job.negative_prompt for job in jobs] + [""] * padding if key.negative else None,
                on_step=lambda step, steps: self._between_steps(jobs, step, steps),
                sentinels=sentinels,
                on_text=(lambda scores: _wake(jobs, scores)) if sentinels else None,
                on_rewritten=partial(_stop_rewritten, rows) if key.rewrites else None,
                kept=None if kept is None else kept + [None] * padding,
                **call,
            )
        took = time.monotonic() - started
        self.queue.pace = took / rows
        self._recorder.batch(rows, padding)
        self._recorder.stage_took("generate", took)
        for job, image, report in zip(jobs, out.images, out.report, strict=False):
            self._recorder.stage_took("queue", started - job.entered)
            job.settle(Made(image, report, started - job.entered, took))

    @contextmanager
    def _traced(self, host: Host, jobs: Sequence[Job], rows: int) -> Iterator[None]:
        """Makes the spans `queue` and `denoise` of the block for each job that is traced. `denoise` is linked to the
        other requests of the batch.
        """
        traced = [(job, job.trace) for job in jobs if job.trace is not None]
        if not traced:
            yield
            return
        tracing, began, failed = self._recorder.tracing, time.monotonic(), None
        try:
            yield
        except Exception as error:
            failed = None if isinstance(error, _Stopped) else error
            raise
        finally:
            ended = time.monotonic()
            about: dict[str, str | int] = {"palimpsest.host": host.name, "palimpsest.rows": rows}
            about["palimpsest.steps"] = jobs[0].key.steps
            for job, trace in traced:
                tracing.past("queue", trace, job.entered, began)
                of_it: Attributes = {**about, "palimpsest.sites": () if job.plan is None else job.plan.sites}
                others = [other for _, other in traced if other is not trace]
                tracing.past("denoise", trace, began, ended, of_it, links=others, error=failed)

    def _kept(self, host: Host, jobs: list[Job], job: Job, call: dict[str, Any]) -> Kept | None:
        """What a job of a batch keeps of the given picture that it draws over."""
        from steering import Kept

        source = job.source
        if source is None:
            return None
        if source.way is None:
            (source.way,) = host.invert(
                [source.image],
                [source.prompt],
                first=source.start,
                controller=source.controller,
                seed=source.seed,
                on_step=lambda *_: self._go_on(jobs),
                **call,
            )
        return Kept(source.way, job.mask, source.start)

    def _between_steps(self, jobs: list[Job], step: int, steps: int) -> None:
        self._recorder.step()
        self._go_on(jobs)
        for job in jobs:
            if job.on_step is not None:
                job.on_step(step + 1, steps)

    def _go_on(self, jobs: list[Job]) -> None:
        """Says that the engine lives. Raises: _Abandoned, when nobody waits for the batch any more."""
        self._beat()
        if all(job.lost for job in jobs):
            raise _Abandoned

    def _give_up(self, job: Job) -> None:
        if job.lost == "disconnect":
            self._recorder.dropped("disconnect")
            job.done.cancel()
        else:
            self._recorder.dropped("deadline")
            job.settle(DeadlineExceeded("the request's time ran out while it waited for the model"))

    def _drain(self) -> None:
        self._recorder.ready(False)
        self.turn_away()
        while jobs := self.queue.take(self.queue.size, timeout=0):
            for job in jobs:
                self._recorder.dropped("shutdown")
                job.settle(shutting_down())


def _wake(jobs: Sequence[Job], scores: Sequence[Mapping[str, float]]) -> None:
    """Raises `_SomeWoken` if some job's own text wakes it. Padding rows have scores, too, and no job."""
    told = zip(jobs, scores, strict=False)
    woken = {job: own for job, own in told if job.wakes is not None and job.wakes(own)}
    if woken:
        raise _SomeWoken(woken)


def _stop_rewritten(rows: int, texts: Sequence[str]) -> None:
    """Raises `_AllRewritten`, or an error when nobody can say which text stands for which row."""
    if len(texts) != rows:
        raise RuntimeError(f"the pipeline wrote {len(texts)} texts in place of {rows} prompts")
    raise _AllRewritten(texts)
