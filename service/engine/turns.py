"""Turns: which of the models of a worker uses the device now.

A worker has one device, and torch keeps things for the whole process that loading a model changes (the default dtype,
what new modules begin with). So one model at a time draws a batch or is loaded. Who comes first is first: each model
that has work gets one batch in turn, however many requests another one has.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Turns"]

_LOOK_SECONDS = 0.1


class Turns:
    """The turns of the engines of one worker. Thread-safe."""

    def __init__(self) -> None:
        self._line: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, goes_on: Callable[[], bool]) -> Iterator[bool]:
        """A turn, which ends with the block. While the thread waits for it, `goes_on()` is called ten times a second;
        once that is false, the block runs with False, and without the turn.
        """
        ticket = object()
        with self._changed:
            self._line.append(ticket)
        try:
            yield self._is_mine(ticket, goes_on)
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()

    def _is_mine(self, ticket: object, goes_on: Callable[[], bool]) -> bool:
        while True:
            with self._changed:
                if self._line[0] is ticket or self._changed.wait_for(lambda: self._line[0] is ticket, _LOOK_SECONDS):
                    return True
            if not goes_on():
                return False
