"""What every detector is to its callers: a name, a version, a time budget, and what it covers; and how one is run.

A detector that raises or takes too long must never look like one that found nothing. `run` turns both into error
signals for every name that the detector covers, and the policies then apply the rule's `on_error`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from policies.types import Signal, Signals, Stage

__all__ = ["Detector", "Failure", "run"]


@runtime_checkable
class Detector(Protocol):
    """The part that text and picture detectors share; `budget` is in seconds, `covers` are names of signals."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def budget(self) -> float: ...
    @property
    def covers(self) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a detector gave no answer: `error` when it raised, `timeout` when it took longer than its budget."""

    kind: str
    text: str


def run(detector: Detector, look: Callable[[], Iterable[Signal]], *, stage: Stage) -> Signals:
    """The signals of `look()`, or an error signal for each name that `detector` covers.

    `look` runs on a thread of its own, because nothing can end a call into a native library: after the budget its
    answer is no longer waited for. A budget that is not finite runs it in place.
    """
    result = _within(look, detector.budget)
    if isinstance(result, Failure):
        failed = tuple(
            Signal(name, detector.name, detector.version, stage, error=f"{result.kind}: {result.text}")
            for name in sorted(detector.covers)
        )
        return Signals(failed)
    return Signals(result, frozenset((stage, name) for name in detector.covers))


def _within(look: Callable[[], Iterable[Signal]], budget: float) -> tuple[Signal, ...] | Failure:
    if budget == float("inf"):
        return _attempt(look)
    box: list[tuple[Signal, ...] | Failure] = []
    thread = threading.Thread(target=lambda: box.append(_attempt(look)), name="detector", daemon=True)
    thread.start()
    thread.join(budget)
    return box[0] if box else Failure("timeout", f"no answer within {budget:g} s")


def _attempt(look: Callable[[], Iterable[Signal]]) -> tuple[Signal, ...] | Failure:
    try:
        return tuple(look())
    except Exception as error:
        # the message may quote what was read: the type says enough for an audit record
        return Failure("error", type(error).__name__)
