"""How a worker shuts down: it drains on a signal, and exits at once if its engine is dead.

uvicorn closes its socket as soon as it gets the signal, so a load balancer would only notice refused connections. Here
the signal first makes the worker unready: it fails health checks and still answers requests, as a balancer sends some
until it has looked. uvicorn gets the signal after that, and waits for the requests in flight. What still waits for an
engine when half of that time is over is told to come back, so that what runs has the other half.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Protocol

__all__ = ["drain_on_signals", "end_when_dead"]

log = logging.getLogger("bentoml.palimpsest.ending")
_EXIT = 70  # the worker could not go on


class _Runtime(Protocol):
    @property
    def state(self) -> str: ...

    def is_alive(self) -> bool: ...


def drain_on_signals(drain: Callable[[], None], turn_away: Callable[[], None], *, seconds: float, grace: float) -> None:
    """Calls `drain` on SIGTERM and SIGINT, the previous handler `seconds` later, and `turn_away` after half of `grace`
    seconds more. Call this on the event loop.

    A second signal is not delayed. Does nothing outside the main thread, where signals cannot be caught.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        _put_before(number, ((0.0, drain), (seconds + grace / 2, turn_away)), seconds, loop)


def _put_before(
    number: signal.Signals,
    calls: Sequence[tuple[float, Callable[[], None]]],
    seconds: float,
    loop: asyncio.AbstractEventLoop,
) -> None:
    before = signal.getsignal(number)
    if not callable(before):
        return
    seen: list[int] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        seen.append(signum)
        if len(seen) > 1:
            before(signum, frame)
            return
        # not here: the interrupted code may hold the locks that draining needs
        for after, call in calls:
            loop.call_soon_threadsafe(loop.call_later, after, call)
        loop.call_soon_threadsafe(loop.call_later, seconds, before, signum, None)

    signal.signal(number, handle)


def end_when_dead(
    runtime: _Runtime, *, every: float = 2.0, end: Callable[[int], object] = os._exit
) -> threading.Thread:
    """Starts a background thread that exits the process when a runtime that was ready is no longer alive.

    The supervisor of the workers, or in a container its restart policy, then starts a new one.
    """

    def watch() -> None:
        pause = threading.Event()
        while runtime.state in ("starting", "ready"):
            pause.wait(every)
            if runtime.state == "ready" and not runtime.is_alive():
                log.critical("the engine is dead or stuck: this worker ends, another one may start")
                end(_EXIT)
                return

    thread = threading.Thread(target=watch, name="palimpsest-watchdog", daemon=True)
    thread.start()
    return thread
