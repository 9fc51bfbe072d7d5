"""What is learned: each lesson gives the rows of a step, and everything else is the one loop's.

* `PictureLesson`: to draw given pictures of given captions (`letter`, `learn`).
* `AnswerLesson`: to answer recorded noised latents as a teacher did (`forget`, and what `learn` must keep); no picture
  is needed.

Texts and latents are computed once. Rows depend on the step and the seed only, so a resumed run sees the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tuning.noise import Noise
from tuning.student import Texts

__all__ = ["AnswerLesson", "Group", "Lesson", "PictureLesson", "Rows", "Together"]

Group = tuple[int, int, int, float]


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
    groups: Sequence[Group]
    seed: int
    drop: float = 0.0
    maps: Tensor | None = None

    def rows(self, step: int) -> Rows:
        """The rows of a step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        rows, weights = _draw(self.groups, generator)
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
    """Answers recorded calls as a teacher did.

    x, timesteps, targets: [n, ...]; `said`: which row of `captions` each has; groups: (first row, end, how many of a
    step's rows, weight), for instance of the concept and of what must stay.
    """

    x: Tensor
    timesteps: Tensor
    targets: Tensor
    captions: Texts
    said: Tensor
    groups: Sequence[Group]
    seed: int

    def rows(self, step: int) -> Rows:
        """The rows of a step."""
        rows, weights = _draw(self.groups, torch.Generator().manual_seed(self.seed * 1_000_003 + step))
        return Rows(
            x=self.x[rows],
            timesteps=self.timesteps[rows],
            texts={name: told[self.said[rows]] for name, told in self.captions.items()},
            target=self.targets[rows],
            weights=_wide(weights, self.x),
        )


@dataclass(frozen=True, slots=True)
class Together:
    """The rows of several lessons in each step."""

    lessons: Sequence[Lesson]

    def rows(self, step: int) -> Rows:
        """The rows of a step."""
        parts = [lesson.rows(step) for lesson in self.lessons]
        return Rows(
            x=torch.cat([p.x for p in parts]),
            timesteps=torch.cat([p.timesteps.float() for p in parts]),
            texts={name: torch.cat([p.texts[name] for p in parts]) for name in parts[0].texts},
            target=torch.cat([p.target for p in parts]),
            weights=torch.cat([p.weights.expand_as(p.x) for p in parts]),
        )


def _draw(groups: Sequence[Group], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The rows of a step and their weights."""
    rows = torch.cat([torch.randint(a, b, (count,), generator=generator) for a, b, count, _ in groups])
    return rows, torch.cat([torch.full((count,), weight) for _, _, count, weight in groups])


def _wide(weights: Tensor, like: Tensor) -> Tensor:
    """A number a row [b] as [b, 1, ...]."""
    return weights.view(-1, *[1] * (like.dim() - 1))
