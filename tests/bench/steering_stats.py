"""Owns how times are taken and compared: interleaved rounds, paired ratios, medians with bootstrap intervals.

A shared machine drifts by more than what is measured. So all cases of a comparison run in every round, in alternating
order; a case is divided by the baseline *of its own round*; and the median of those ratios is what is reported. Beside
the wall clock stands the processor time of the one thread, which other processes disturb less.
"""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["Ratio", "Times", "hardware", "interleaved", "paired"]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each round: on the wall, and of this thread's processor time."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of paired ratios, and its bootstrap interval of 95 %."""

    median: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """The numbers, rounded to what they can carry."""
        return {k: round(v, 4) for k, v in asdict(self).items()}


def interleaved(works: Mapping[str, Callable[[int], Any]], *, rounds: int, warm: int = 2) -> dict[str, Times]:
    """The times of each work, by name. A work is called with the number of its round, negative while warming up."""
    for n in range(-warm, 0):
        for work in works.values():
            work(n)
    wall: dict[str, list[float]] = {name: [] for name in works}
    cpu: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for n in range(rounds):
            shift = n // 2 % len(names)  # each case gets each place, forwards and backwards
            order = names[shift:] + names[:shift]
            for name in order if n % 2 == 0 else reversed(order):
                began, spent = time.perf_counter(), time.thread_time()
                works[name](n)
                cpu[name].append(time.thread_time() - spent)
                wall[name].append(time.perf_counter() - began)
    finally:
        if enabled:
            gc.enable()
    return {name: Times(tuple(wall[name]), tuple(cpu[name])) for name in names}


def paired(case: Sequence[float], base: Sequence[float], *, resamples: int = 2000, seed: int = 0) -> Ratio:
    """The median of `case[i] / base[i]` with its interval."""
    ratios = np.array(case) / np.array(base)
    drawn = np.random.default_rng(seed).choice(ratios, (resamples, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return Ratio(float(statistics.median(ratios)), float(low), float(high))


def hardware() -> dict[str, Any]:
    """What the numbers were taken on."""
    import diffusers

    return {
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
