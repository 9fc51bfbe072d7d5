"""Thread pools that run detectors outside the event loop and the engine thread, with a time limit per reading.

A reading that fails or exceeds its time returns no signals. A policy treats a missing signal as an error, so the rules
that needed the reading apply their `on_error`. This module does not decide what a failure means. Prompts, pictures and
other work have separate threads: a picture detector that hangs does not block the reading of prompts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from policies import Request, Signals
from service.errors import without_message
from service.metrics.catalogue import ReadingFailure
from service.metrics.recorder import Recorder
from service.reading.types import Look, Sense

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["DetectorPools"]

log = logging.getLogger("bentoml.palimpsest.pools")
_T = TypeVar("_T")
_What = Literal["prompt", "picture", "work"]
_KINDS: dict[str, ReadingFailure] = {
    "timeout": "timeout",
    "open": "open",
}  # how errors of signals begin; all else: `error`


class DetectorPools:
    """The detectors of one worker. `sense` reads prompts; `look` reads a picture for the names that rules need."""

    def __init__(self, sense: Sense, look: Look, recorder: Recorder, *, threads: int, seconds: float) -> None:
        self._sense = sense
        self._look = look
        self._recorder = recorder
        self._threads = threads
        self._seconds = seconds
        self._pools = {what: self._new_pool(what) for what in get_args(_What)}

    def beside(self, look: Look) -> DetectorPools:
        """The same threads for a model with other readers of pictures."""
        other = copy(self)
        other._look = look
        return other

    async def read_prompt(self, request: Request) -> Signals:
        """The signals of a request's texts. Empty if the reading failed."""
        with self._recorder.stage("sense_prompt"):
            return await self._within_time("prompt", lambda: self._sense(request))

    async def read_picture(self, image: Image, reads: frozenset[str]) -> Signals:
        """The signals of one picture for the names in `reads`. Empty if the reading failed."""
        with self._recorder.stage("sense_picture"):
            return await self._within_time("picture", lambda: self._look(image, reads))

    async def run(self, work: Callable[[], _T]) -> _T:
        """Runs other short work on pictures, such as blurring and encoding, and returns its result."""
        return await self._on("work", work)

    def close(self) -> None:
        """Ends the idle threads. A reading that hangs ends with the process."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    async def _within_time(self, what: Literal["prompt", "picture"], read: Callable[[], Signals]) -> Signals:
        started = time.perf_counter()
        try:
            # each detector has its own time limit; this also covers detectors that exceed it, and the wait for a thread
            return self._counted(await asyncio.wait_for(self._on(what, read), 1.0 + 1.5 * self._seconds))
        except TimeoutError:
            self._recorder.detector_error(what, "timeout")
            log.error("reading a %s took much longer than its limit of %.1f s", what, self._seconds)
            # the thread cannot be stopped, so it is abandoned; the next reading gets a new one
            self._pools[what].shutdown(wait=False)
            self._pools[what] = self._new_pool(what)
        except Exception as error:
            self._recorder.detector_error(what, "error")
            log.error("reading a %s failed: %s", what, without_message(error))
        finally:
            self._recorder.detector(what, time.perf_counter() - started)
        return Signals()

    def _counted(self, signals: Signals) -> Signals:
        """The same signals. Counts the errors of single detectors, once per reading."""
        failed = {s.detector: s.error.partition(":")[0] for s in signals.items if s.error is not None}
        for detector, kind in failed.items():
            self._recorder.detector_error(detector, _KINDS.get(kind, "error"))
        return signals

    async def _on(self, what: _What, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pools[what], work)

    def _new_pool(self, what: _What) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix=f"palimpsest-{what}")
