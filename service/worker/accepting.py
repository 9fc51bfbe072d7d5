"""Decides when a worker starts to accept connections.

The workers of a server share one socket. The operating system gives each connection to any worker that accepts. A
worker whose model is still loading would reject requests that a ready worker could answer. So a worker accepts
connections when it is ready. If no worker is ready, one of them accepts early, so that health checks are answered
during the start.
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
        """Waits until this worker may accept connections: when it no longer starts (see `state()`), or when it was the
        first to ask and no other worker is ready.
        """
        while state() == "starting" and (self._neighbour_is_ready() or not self._am_first()):
            await asyncio.sleep(every)

    def _neighbour_is_ready(self) -> bool:
        return any(note["state"] == "ready" and note["pid"] != os.getpid() for note in self._notes.read())

    def _am_first(self) -> bool:
        """Whether this worker holds the lock. The operating system releases it when the worker ends, for any reason."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
