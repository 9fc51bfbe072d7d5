"""What is learned: each lesson gives the rows of a step, and everything else is the one loop's.

* `PictureLesson`: to draw given pictures of given captions (`letter`, `learn`).
* `AnswerLesson`: to answer recorded noised latents as a teacher did (`forget`); no picture is needed.

Texts and latents are computed once. Rows depend on the step and the seed only, so a resumed run sees the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from tuning.noise import Noise
from tuning.student import Texts

__all__ = ["AnswerLesson", "Lesson", "PictureLesson", "Rows"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a step: noised latents `x` [b, ...] at `timesteps` [b] with `texts`; what to predict, and what the
    squared error counts, in a shape that `x` can be multiplied with."""

    x: Tensor
    timesteps: Tensor
    texts: Texts
    target: Tensor
    weights: Tensor


class Lesson(Protocol):
    """Gives the rows of a step."""

    def rows(self, step: int) -> Rows:
        """The rows of a step; equal for equal steps."""
        ...


@dataclass(frozen=True, slots=True)
class PictureLesson:
    """Denoises pictures.

    latents: [n, ...]; captions: encoded, row by row, with the empty text in the last row; groups: (first row, end, how
    many of a step's rows, weight): the pictures, and the prior ones beside them; `drop`: share of rows that are given
    the empty text; maps: what each place of the latents counts [n, ...], None: all alike.
    """

    noise: Noise
    latents: Tensor
    captions: Texts
    groups: Sequence[tuple[int, int, int, float]]
    seed: int
    drop: float = 0.0
    maps: Tensor | None = None

    def rows(self, step: int) -> Rows:
        """The rows of a step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        drawn = [torch.randint(a, b, (count,), generator=generator) for a, b, count, _ in self.groups]
        weights = torch.cat([torch.full((count,), weight) for _, _, count, weight in self.groups])
        rows = torch.cat(drawn)
        clean = self.latents[rows]
        noise = torch.randn(clean.shape, generator=generator)
        levels = self.noise.levels(len(rows), generator)
        dropped = torch.rand(len(rows), generator=generator) < self.drop
        said = torch.where(dropped, torch.full_like(rows, len(self.latents)), rows)
        return Rows(
            x=self.noise.mix(clean, noise, levels),
            timesteps=self.noise.timesteps(levels),
            texts={name: told[said] for name, told in self.captions.items()},
            target=self.noise.target(clean, noise, levels),
            weights=_wide(weights * self.noise.weights(levels), clean) * (1 if self.maps is None else self.maps[rows]),
        )


@dataclass(frozen=True, slots=True)
class AnswerLesson:
    """Answers recorded calls as a teacher did: rows of the concept and rows of what must stay, half each.

    x, timesteps, targets: [n, ...], the first `kept_from` of the concept; `said`: which row of `captions` each has.
    """

    x: Tensor
    timesteps: Tensor
    targets: Tensor
    captions: Texts
    said: Tensor
    kept_from: int
    batch: int
    seed: int
    kept_weight: float = field(default=1.0)

    def rows(self, step: int) -> Rows:
        """The rows of a step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        kept = self.batch // 2 if self.kept_from < len(self.x) else 0
        concept = torch.randint(0, self.kept_from, (self.batch - kept,), generator=generator)
        others = torch.randint(self.kept_from, max(self.kept_from + 1, len(self.x)), (kept,), generator=generator)
        rows = torch.cat([concept, others])
        return Rows(
            x=self.x[rows],
            timesteps=self.timesteps[rows],
            texts={name: told[self.said[rows]] for name, told in self.captions.items()},
            target=self.targets[rows],
            weights=_wide(torch.where(rows < self.kept_from, 1.0, self.kept_weight), self.x),
        )


def _wide(weights: Tensor, like: Tensor) -> Tensor:
    """A number a row [b] as [b, 1, ...]."""
    return weights.view(-1, *[1] * (like.dim() - 1))
