"""The smaller values that packs hold: how many sites were chosen, and what each dose did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["CalibrationPoint", "Choice"]

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Choice:
    """How many sites were chosen: `k`, the share of all sites' effect that they reach together, and its interval.

    `target` is the share that was asked for; `share` below it means that no compact set was found.
    """

    k: int
    share: float
    low: float
    high: float
    target: float = 0.9


@dataclass(frozen=True, slots=True)
class CalibrationPoint:
    """At `strength` (the dose), the measured erasure and drift, both in [0, 1].

    * `erasure`: of `n` pictures that showed the concept unsteered, the share in which it is gone.
    * `drift`: the mean absolute change of pixels in `drift_n` pictures that should not change.
    * `kept`: of what else was right in the `n` pictures, the share that still is (`kept_n` such things); None when
      it was not measured.
    * `moved`: how far the edit moved the hidden states, `|y - x| / |x|`, the mean over sites; None for swaps.

    Intervals are of 95 %; None when they were not measured.
    """

    strength: float
    erasure: float
    drift: float
    n: int = 0
    erasure_interval: Interval | None = None
    drift_n: int = 0
    drift_interval: Interval | None = None
    kept: float | None = None
    kept_n: int = 0
    kept_interval: Interval | None = None
    moved: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The point as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> CalibrationPoint:
        """The point that `to_json` gave, or one of the first packs, which had three numbers."""
        if not isinstance(value, Mapping):
            return cls(*value)
        parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return cls(**parts)
