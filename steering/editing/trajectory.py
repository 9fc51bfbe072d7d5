"""The way of a picture through the denoiser, written down in one call and kept in part by another.

Both are done where the scheduler takes its steps, so they hold for every family and every scheduler: what was predicted
for a row and where its latents went is in the arguments and the result of `scheduler.step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steering.editing.latents import latent_maps
from steering.errors import BadPlan, NotSupported

__all__ = ["Kept", "PathKeeper", "Trajectory"]


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """One picture's way: `latents` [evaluations + 1, ...] before each call of the scheduler and after the last, what
    was predicted for it [evaluations, ...], at `timesteps`, all on the CPU in the call's type.

    `first`: the first step that is exact; what stands before it, of an inversion that stopped there, is a straight
    line. `error`: of an inversion, by how much the last iteration still moved the latents of its worst step,
    |dx| / |x|; 0 of a generation.
    """

    timesteps: tuple[float, ...]
    latents: Tensor
    predictions: Tensor
    first: int = 0
    error: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a row of a call keeps of a trajectory: all steps before `start` (a step, counted from 0), and after each
    later one the latents outside of `mask` [h, w] (in pixels, above 0 where the picture is drawn anew; None:
    everywhere). A latent that stands for any such pixel is drawn anew.

    Raises: BadPlan, when `start` is outside of what the trajectory knows.
    """

    trajectory: Trajectory
    mask: np.ndarray | None = None
    start: int = 0

    def __post_init__(self) -> None:
        last = len(self.trajectory.timesteps) - 1
        if type(self.start) is not int or not self.trajectory.first <= self.start <= last:
            raise BadPlan(
                f"start must be a step in [{self.trajectory.first}, {last}] of the kept trajectory, got `{self.start}`"
            )


class PathKeeper:
    """The kept rows of one call, and the record of its pictures' ways. `kept` has one entry a picture of the caller;
    rows of other pictures, which plans add, are left alone."""

    def __init__(self, kept: Sequence[Kept | None], *, record: int) -> None:
        self.kept, self.record = tuple(kept), record
        self._latents: list[Tensor] = []
        self._predictions: list[Tensor] = []
        self._timesteps: tuple[float, ...] = ()
        self._maps: dict[int, Tensor] = {}
        self._begun = False

    def start(self, timesteps: Sequence[float]) -> None:
        """The call's timesteps. Raises: BadPlan, when a kept trajectory has others."""
        self._timesteps = tuple(timesteps)
        for kept in self.kept:
            if kept is not None and not _alike(kept.trajectory.timesteps, self._timesteps):
                raise BadPlan(
                    f"a kept trajectory must have the call's timesteps: {len(self._timesteps)} from"
                    f" {self._timesteps[0]:.1f}, got {len(kept.trajectory.timesteps)} from"
                    f" {kept.trajectory.timesteps[0]:.1f}"
                )

    def skips(self, step: int) -> bool:
        """Whether nothing of this step is drawn, so that the denoiser need not be called."""
        return bool(self.kept) and all(k is not None and step < k.start for k in self.kept)

    def before(self, evaluation: int, step: int, predicted: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction [b, ...] and the latents [b, ...] that the scheduler is to take: a kept row's own ones."""
        if evaluation and not self._begun:
            raise NotSupported("a call that begins with a picture, and not with noise, has no whole way to keep")
        self._begun = True
        early = [r for r, k in enumerate(self.kept) if k is not None and step < k.start]
        if early:
            predicted, sample = predicted.clone(), sample.clone()
            for row in early:
                way = self._way(row, sample)
                predicted[row] = way.predictions[evaluation].to(predicted)
                sample[row] = way.latents[evaluation].to(sample)
        if self.record:
            self._predictions.append(predicted[: self.record].cpu())
            self._latents.append(sample[: self.record].cpu())
        return predicted, sample

    def after(self, pipe: Any, evaluation: int, step: int, latents: Tensor) -> Tensor:
        """The latents [b, ...] after a call of the scheduler, with what the rows keep of their trajectories."""
        if any(self.kept):
            latents = latents.clone()
            for row, kept in enumerate(self.kept):
                if kept is None:
                    continue
                own = self._way(row, latents).latents[evaluation + 1].to(latents)
                if step < kept.start:
                    latents[row] = own
                elif kept.mask is not None:
                    latents[row] = torch.where(self._map(pipe, row, kept.mask, latents), latents[row], own)
        self._last = latents[: self.record].cpu() if self.record else None
        return latents

    def trajectories(self) -> tuple[Trajectory, ...]:
        """The ways of the recorded pictures."""
        if not self.record:
            return ()
        assert self._last is not None
        latents, predicted = torch.stack([*self._latents, self._last], 1), torch.stack(self._predictions, 1)
        return tuple(Trajectory(self._timesteps, x.clone(), p.clone()) for x, p in zip(latents, predicted, strict=True))

    def _way(self, row: int, latents: Tensor) -> Trajectory:
        kept = self.kept[row]
        assert kept is not None
        if kept.trajectory.latents.shape[1:] != latents.shape[1:]:
            raise BadPlan(
                f"a kept trajectory must have latents {list(latents.shape[1:])} like the call, got"
                f" {list(kept.trajectory.latents.shape[1:])}"
            )
        return kept.trajectory

    def _map(self, pipe: Any, row: int, mask: np.ndarray, latents: Tensor) -> Tensor:
        """Where a row is drawn anew, [...] like its latents."""
        if row not in self._maps:
            shown = torch.from_numpy((np.asarray(mask) > 0).astype(np.float32))
            self._maps[row] = latent_maps(pipe, [shown], latents.shape[1:], widest=True)[0].to(latents.device) > 0
        return self._maps[row]


def _alike(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and bool(np.allclose(a, b))
