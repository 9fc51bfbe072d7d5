"""The resolved request that HTTP, the closed loop and the command line share.

HTTP parses a body into a strict model, and this model into an `Order`. An order has no optional fields that a request
may leave open, and it knows nothing of HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from service.image_files import Format

__all__ = ["MAX_GUIDANCE", "Limits", "Order", "Progress"]

MAX_GUIDANCE = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the settings and the loaded model allow; the model's own defaults fill what a request leaves open."""

    models: tuple[str, ...]
    sizes: tuple[str, ...]  # as `WIDTHxHEIGHT`, in pixels
    default_size: str
    default_steps: int
    default_guidance: float | None  # None: the pipeline has none
    max_n: int
    max_steps: int
    max_prompt: int
    min_steps: int = 1
    max_guidance: float = MAX_GUIDANCE
    negative: bool = True  # whether the pipeline takes a negative prompt
    negative_above: float | None = None  # a negative prompt is heard only at a guidance scale above this


@dataclass(frozen=True, slots=True)
class Order:
    """One request for `n` pictures, checked against the limits, with every default filled in and the seed drawn.

    The k-th picture uses `seed + k`. `negative_prompt` is empty when there is none. `guidance` is None for a pipeline
    without a guidance scale.
    """

    prompt: str
    negative_prompt: str
    model: str
    n: int
    width: int
    height: int
    steps: int
    guidance: float | None
    seed: int
    output_format: Format = "png"
    quality: int = 100  # of `jpeg` and `webp`, 0 to 100

    @property
    def size(self) -> str:
        """The size as callers write it: `WIDTHxHEIGHT`."""
        return f"{self.width}x{self.height}"


class Progress(Protocol):
    """Is told how an order gets on, from any thread."""

    def queued(self, pictures: int) -> None:
        """The order's pictures wait for the engine."""

    def step(self, picture: int, step: int, steps: int) -> None:
        """Step `step` of `steps` of a picture is done; pictures count from 0, steps from 1."""
