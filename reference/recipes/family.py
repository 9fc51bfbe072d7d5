"""What the training loop needs to know about a family of pipelines, as functions in a value.

Every model is trained by flow matching on the same latents: x = (1 - t) z + t noise, velocity = noise - z, t in
[0, 1]. A family says how its denoiser is built and called, and how an ordinary pipeline is assembled from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reference.recipes.shapes import ModelShape, SharedRecipe, TextShape

__all__ = ["LATENT_CHANNELS", "Conditions", "OwnParts", "RecipeFamily"]

LATENT_CHANNELS = 8
Conditions = Mapping[str, Tensor]  # what a denoiser reads of a batch's captions, rows first


@dataclass(frozen=True, slots=True)
class OwnParts:
    """Autoencoder and text encoder of a family whose pipelines cannot use those that the other models share.

    Attributes:
        autoencoder: untrained.
        texts: untrained text encoder of a shape, as `read` takes it.
        teach: the text encoder, trained and frozen; resumes from a folder.
        zoom: pixels of its pictures for each pixel of the recipe's, along a side.
    """

    autoencoder: Callable[[], Any]
    texts: Callable[[ModelShape], Any]
    teach: Callable[[ModelShape, SharedRecipe, Path, str], Any]
    zoom: int


def _middle_block(denoiser: Any) -> nn.Module:
    blocks: nn.ModuleList = denoiser.transformer_blocks
    return blocks[len(blocks) // 2 - 1]


def _as_it_is(out: Tensor) -> Tensor:
    return out


@dataclass(frozen=True, slots=True)
class RecipeFamily:
    """How one family's denoiser is built, called and shipped.

    Attributes:
        build: a denoiser with untrained weights, for latents of a side.
        read: what the denoiser is given of captions.
        velocity: (denoiser, latents [b, c, h, w], time [b], conditions, guidance [b] or None) to velocity.
        pipeline: an ordinary pipeline over (autoencoder, texts, denoiser).
        encoders: where such a pipeline keeps each encoder that the family reads, by the name it has in `Texts`.
        defaults: how the model wants to be called besides size, steps and guidance.
        middle: the module whose output the guide asks; by default the block half way through `transformer_blocks`.
        tokens: how that output becomes tokens [b, n, d] as wide as the shape says.
        guided: whether guidance is embedded, so that the denoiser has to learn what guidance does.
        text_first: whether the text's tokens stand before the picture's in `middle`.
        own: the parts that it shares with no other family.
    """

    build: Callable[[ModelShape, TextShape, int], Any]
    read: Callable[[Any, Sequence[str]], Conditions]  # the texts are `Texts`, or the family's own
    velocity: Callable[[Any, Tensor, Tensor, Conditions, Tensor | None], Tensor]
    pipeline: Callable[[Any, Any, Any], Any]
    encoders: Mapping[str, str]
    defaults: Mapping[str, Any]
    middle: Callable[[Any], nn.Module] = _middle_block
    tokens: Callable[[Any], Tensor] = _as_it_is
    guided: bool = False
    text_first: bool = False
    own: OwnParts | None = None

    @property
    def zoom(self) -> int:
        """Pixels of the model's pictures for each pixel of the recipe's, along a side."""
        return self.own.zoom if self.own else 1
