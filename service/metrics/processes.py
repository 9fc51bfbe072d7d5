"""Memory, processor time, open files and start of every worker, under the standard names (`process_*`).

With several processes the client library leaves these out. They are read anew for each scrape, from the system: a
worker that is gone has no series, and there are as many as there are workers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial

from prometheus_client import Metric, ProcessCollector
from prometheus_client.registry import Collector

__all__ = ["Processes"]


class Processes(Collector):
    """The series of these processes, each with its `pid`. None where the system has no `/proc`."""

    def __init__(self, pids: Collection[int]) -> None:
        self._pids = pids

    def collect(self) -> Iterable[Metric]:
        """One family of each name."""
        families: dict[str, Metric] = {}
        for pid in sorted(self._pids):
            for family in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                own = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    own.add_sample(sample.name, {"pid": str(pid)}, sample.value)
        return families.values()
