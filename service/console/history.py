"""The last hour of the service's metrics, in memory: one sample of all workers every half minute.

Requests cost nothing for it: a thread of its own reads the counters that the recorder keeps anyway.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

from service.errors import without_message
from service.metrics.recorder import values_of

__all__ = ["SAMPLED", "History", "Sample"]

log = logging.getLogger("bentoml.palimpsest.console")

SAMPLED = ("images_total", "requests_total", "request_duration_seconds_bucket", "queue_depth", "rungs_total")
_EVERY = 30.0
_MOST = 121  # an hour, and where it began


@dataclass(frozen=True, slots=True)
class Sample:
    """The values of `SAMPLED` at a time (`time.time`)."""

    at: float
    values: dict[str, dict[tuple[str, ...], float]]


class History:
    """Keeps the samples of an hour. A worker knows the time since its own start only."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=_MOST)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to take samples, on a daemon thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="palimpsest-console", daemon=True)
            self._thread.start()

    def samples(self) -> list[Sample]:
        """The samples so far, and one of now."""
        return [*self._samples, _sample()]

    def _run(self) -> None:
        while True:
            try:
                self._samples.append(_sample())
            except Exception as error:  # a worker that ends removes its files while they are read
                log.warning("the metrics could not be sampled: %s", without_message(error))
            time.sleep(_EVERY)


def _sample() -> Sample:
    return Sample(time.time(), values_of(SAMPLED))
