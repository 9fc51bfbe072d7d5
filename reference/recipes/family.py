"""What the training loop needs to know about a family of pipelines, as functions in a value.

Every model is trained by flow matching on the same latents: x = (1 - t) z + t noise, velocity = noise - z, t in
[0, 1]. A family says how its denoiser is built and called, and how an ordinary pipeline is assembled from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from reference.recipes.shapes import ModelShape, TextShape
from reference.recipes.texts import Texts

__all__ = ["LATENT_CHANNELS", "Conditions", "RecipeFamily"]

LATENT_CHANNELS = 8
Conditions = Mapping[str, Tensor]  # what a denoiser reads of a batch's captions, rows first


@dataclass(frozen=True, slots=True)
class RecipeFamily:
    """How one family's denoiser is built, called and shipped.

    Attributes:
        build: a denoiser with untrained weights, for latents of a side.
        read: what the denoiser is given of captions.
        velocity: (denoiser, latents [b, 8, h, w], time [b], conditions, guidance [b] or None) to velocity.
        middle: the module whose output the guide asks, and how that output becomes image tokens [b, n, d].
        width: of those tokens.
        pipeline: an ordinary pipeline over (autoencoder, texts, denoiser).
        encoders: where such a pipeline keeps each encoder that the family reads, by the name it has in `Texts`.
        defaults: how the model wants to be called besides size, steps and guidance.
        guided: whether guidance is embedded, so that the denoiser has to learn what guidance does.
    """

    build: Callable[[ModelShape, TextShape, int], Any]
    read: Callable[[Texts, Sequence[str]], Conditions]
    velocity: Callable[[Any, Tensor, Tensor, Conditions, Tensor | None], Tensor]
    middle: Callable[[Any], nn.Module]
    tokens: Callable[[Any], Tensor]
    width: Callable[[ModelShape], int]
    pipeline: Callable[[Any, Texts, Any], Any]
    encoders: Mapping[str, str]
    defaults: Mapping[str, Any]
    guided: bool = False
