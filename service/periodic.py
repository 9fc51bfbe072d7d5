"""Work that is done again and again, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Periodic"]


class Periodic:
    """Does `work` at `start`, and then every `seconds` until `stop`. What `work` raises at the start is raised there;
    it must raise nothing later.
    """

    def __init__(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        self._seconds = seconds
        self._work = work
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"palimpsest-{name}", daemon=True)

    def start(self) -> None:
        """Does the work once, and goes on in the background."""
        self._work()
        self._thread.start()

    def stop(self) -> None:
        """Ends it, after the work that is being done."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._seconds)

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            self._work()
