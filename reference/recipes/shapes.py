"""What determines a model: its recipe, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from reference.loop import Schedule

__all__ = ["LETTERS", "ModelName", "ModelShape", "Onward", "Recipe", "SharedRecipe", "TextShape"]

ModelName = Literal[
    "signpost-pixart", "signpost-sd3", "signpost-sdxl", "signpost-flux", "signpost-zimage", "signpost-qwen"
]
LETTERS = 16  # letters that the last tokens of a CLIP text have a place for: two lines of eight


@dataclass(frozen=True, slots=True)
class TextShape:
    """The text encoders that all models share: width and layers of each, and the tokens they have room for.

    Attributes:
        bytes_: a T5 encoder over bytes, which carries the spelling.
        letters: a CLIP text encoder over letters that carries the spelling too, for a model that has no T5.
        gist: two CLIP text encoders over letters whose pooled text carries the facts.
        clip_tokens: what the CLIP encoders have positions for; `pooled_tokens` of them where only facts are asked.
    """

    bytes_: tuple[int, int] = (128, 4)
    letters: tuple[int, int] = (128, 4)
    gist: tuple[int, int] = (64, 3)
    clip_tokens: int = 144
    pooled_tokens: int = 77


@dataclass(frozen=True, slots=True)
class SharedRecipe:
    """How the parts that all models share are trained: autoencoder and text encoders, for pictures of one size.

    Attributes:
        decoder: a later stage of the autoencoder, in which its decoder alone is trained on; None: there is none.
    """

    px: int
    pictures: int
    autoencoder: Schedule
    text: Schedule
    gist: Schedule
    seed: int = 2
    batch: int = 32
    text_batch: int = 64
    autoencoder_pictures: int = 20000
    shape: TextShape = field(default_factory=TextShape)
    decoder: Schedule | None = None


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A denoiser's size.

    Attributes:
        width: of its hidden states, or of its widest level.
        heads: of attention.
        layers: blocks, or for a family of two kinds, blocks of the first kind.
        singles: blocks of the second kind.
        text: width and layers of a text encoder of its own kind, if it has one.
    """

    width: int
    heads: int
    layers: int
    singles: int = 0
    text: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Onward:
    """A later stage: a finished denoiser is trained further, on more of what it has learned least.

    Every scene has a weight of 1 and what its traits add; so many scenes are then drawn by weight, with repeats.

    Attributes:
        outlines: what an animal or a character adds; outlines are learned last.
        styled: what a style adds.
        two_lines: what a sign of two lines adds.
        named: what single subjects and styles add beside that, by name.
        pictures: scenes that are drawn, with repeats.
        seed: of the captions.
    """

    schedule: Schedule
    outlines: float = 2.0
    styled: float = 1.0
    two_lines: float = 1.0
    named: tuple[tuple[str, float], ...] = ()
    pictures: int = 100_000
    seed: int = 3


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines a model's weights, but for the machine's arithmetic."""

    name: ModelName
    version: str
    shared: SharedRecipe
    shape: ModelShape
    denoiser: Schedule
    batch: int
    seed: int = 2
    steps: int = 24
    guidance: float = 3.0
    onward: tuple[Onward, ...] = ()

    @property
    def steps_after(self) -> tuple[int, ...]:
        """Optimizer steps that the denoiser has had at the end of each stage."""
        return tuple(accumulate((self.denoiser.steps, *(stage.schedule.steps for stage in self.onward))))
