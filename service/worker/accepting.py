"""When a worker begins to accept connections.

The workers of a server share one socket, and the operating system gives a connection to any worker that accepts. A
worker that accepted while its model loads would refuse requests that a ready worker could answer. So a worker accepts
once it is ready. If no worker is ready yet, one of them accepts before, so that health checks are answered.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from service.worker.notes import WorkerNotes

__all__ = ["Acceptance"]


class Acceptance:
    """Decides when one worker accepts connections; `folder` holds the `WorkerNotes` of this server."""

    def __init__(self, folder: Path) -> None:
        self._notes = WorkerNotes(folder)
        self._lock = os.open(folder / "first.lock", os.O_RDWR | os.O_CREAT, 0o600)

    async def wait(self, state: Callable[[], str], *, every: float = 0.1) -> None:
        """Waits until this worker may accept connections: it no longer starts (`state()`), or it was the first to ask
        and no other worker is ready."""
        while state() == "starting" and (self._neighbour_is_ready() or not self._am_first()):
            await asyncio.sleep(every)

    def _neighbour_is_ready(self) -> bool:
        return any(note["state"] == "ready" and note["pid"] != os.getpid() for note in self._notes.read())

    def _am_first(self) -> bool:
        """Whether this worker holds the lock, which the system takes back when the worker ends, however it ends."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
