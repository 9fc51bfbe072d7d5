"""A checked generation request as plain values, shared by HTTP, the closed loop and the command line.

HTTP parses a body into a strict pydantic model, and that model into an `Order`. An `Order` has every default filled in
and does not depend on HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from policies import Rung
from service.image_files import Format

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["MAX_GUIDANCE", "Given", "Limits", "Lora", "Order", "Progress"]

MAX_GUIDANCE = 30.0


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter at a scale in (0, 2]. `digest`: sha256 of its file."""

    name: str
    scale: float
    digest: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a request and the defaults for omitted fields, from the settings and the loaded model."""

    models: tuple[str, ...]  # the model's own name, then its aliases
    sizes: tuple[str, ...]  # as `WIDTHxHEIGHT`, in pixels
    default_size: str
    default_steps: int
    default_guidance: float | None  # None: the pipeline has none
    max_n: int
    max_steps: int
    max_prompt: int
    min_steps: int = 1
    urls: bool = False  # whether pictures may be answered with as URLs
    nearest_size: bool = False  # draw the nearest size where the model does not have the one asked for
    max_guidance: float = MAX_GUIDANCE
    negative: bool = True  # whether the pipeline takes a negative prompt
    adapters: Mapping[str, Lora] = field(default_factory=dict)  # at their default scales
    max_pixels: int = 1 << 22  # of an uploaded picture
    negative_above: float | None = None  # a negative prompt is heard only at a guidance scale above this


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """The caller's own picture, to edit toward the prompt or to repair. `mask` [h, w] is true where an edit may change
    it; None: the caller did not say. `file`: as it was uploaded, for the credentials in it.
    """

    kind: Literal["edit", "repair"]
    image: Image
    mask: np.ndarray | None = None
    file: bytes = b""
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """One request for `n` pictures, checked against the limits, with every default filled in and the seed drawn.

    The k-th picture uses `seed + k`. `negative_prompt` is empty when there is none. `guidance` is None for a pipeline
    without a guidance scale. `width` and `height` are what the model draws; a given picture keeps its own size.
    `person` is the keyed hash of what the caller calls the person for whom it asks; empty: it did not say.
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
    lora: Lora | None = None
    quality: int = 100  # of `jpeg` and `webp`, 0 to 100
    given: Given | None = None
    asked_size: str | None = None  # the size that was asked for, where another one is drawn
    person: str = ""

    @property
    def size(self) -> str:
        """The size of the pictures as in requests: `WIDTHxHEIGHT`."""
        width, height = (self.width, self.height) if self.given is None else self.given.image.size
        return f"{width}x{height}"


class Progress(Protocol):
    """Receives the progress of an order, from any thread."""

    def queued(self, pictures: int) -> None:
        """The order's pictures are in the engine's queue."""

    def step(self, picture: int, step: int, steps: int) -> None:
        """Step `step` of `steps` of a picture is done. Pictures count from 0, steps from 1."""

    def rung(self, picture: int, rung: Rung, result: Literal["passed", "failed"]) -> None:
        """A repair of a picture was tried, and the picture judged again."""
