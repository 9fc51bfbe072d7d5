"""The position in the trajectory: which step of how many a denoiser call belongs to.

It is read from the scheduler (its timesteps, and its own index where it keeps one) and never from the number of hook
calls: guidance may call the denoiser several times a step, second-order schedulers several times a timestep, and some
pipelines have no step callback.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["StepClock"]


class StepClock:
    """Where a run is. `evaluation` is an index into the scheduler's timesteps; `step` of `steps` counts different
    timesteps."""

    def __init__(self) -> None:
        self.timesteps: tuple[float, ...] = ()
        self._rank: tuple[int, ...] = ()
        self.begin = 0
        self.evaluation = 0

    def start(self, timesteps: Sequence[float], begin: int = 0) -> None:
        """Sets the clock to the first of the timesteps that will be used; `begin` skips some (image to image)."""
        self.timesteps = tuple(timesteps)
        ranks, rank = [], 0
        for k, t in enumerate(self.timesteps):
            rank += int(k > 0 and t != self.timesteps[k - 1])  # a second-order scheduler lists a timestep twice
            ranks.append(rank)
        self._rank = tuple(ranks)
        self.begin = self.evaluation = begin

    @property
    def running(self) -> bool:
        """True when the timesteps are known and not used up."""
        return self.evaluation < len(self.timesteps)

    @property
    def steps(self) -> int:
        """Number of different timesteps of this run."""
        return self._rank[-1] - self._rank[self.begin] + 1 if self.timesteps else 0

    @property
    def step(self) -> int:
        """Index of the current step; equals `steps` when the run is over."""
        return self._rank[self.evaluation] - self._rank[self.begin] if self.running else self.steps

    def advance(self, scheduler: Any, timestep: Any) -> None:
        """Moves on after `scheduler.step(..., timestep, ...)`: by the scheduler's own index, else by the timestep that
        it was given."""
        index = getattr(scheduler, "step_index", None)
        self.evaluation = int(index) if index is not None else self._find(float(timestep)) + 1

    def _find(self, timestep: float) -> int:
        """The index of a timestep, from where the clock stands; the nearest, because a pipeline may have rounded it."""
        rest = range(self.evaluation, len(self.timesteps))
        return min(rest, key=lambda k: abs(self.timesteps[k] - timestep), default=self.evaluation)
