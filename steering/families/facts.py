"""What a family's description says of one pipeline: its fewest steps, its negative prompts, the size of its pictures.

The values are fields of `Family`. They are read here for the scheduler and the configuration that a pipeline has.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from steering.families.description import Family, Inputs

__all__ = [
    "NegativePrompts",
    "fewest_steps",
    "native_size",
    "negative_prompts",
    "picture_tokens",
]


@dataclass(frozen=True, slots=True)
class NegativePrompts:
    """Whether a negative prompt can have an effect, and the guidance scale above which it has one; None: at any."""

    possible: bool
    above: float | None = None


def fewest_steps(family: Family, pipe: Any) -> int:
    """The fewest denoising steps that a pipeline can run with its present scheduler."""
    return 1 if type(pipe.scheduler).__name__ in family.one_step_schedulers else family.fewest_steps


def negative_prompts(family: Family, pipe: Any, denoiser: nn.Module, defaults: Mapping[str, Any]) -> NegativePrompts:
    """Whether negative prompts have an effect on a pipeline. defaults: arguments that each of its calls is given."""
    call = inspect.signature(type(pipe).__call__).parameters
    if "negative_prompt" not in call:
        return NegativePrompts(False)
    if family.negative_scale != "guidance_scale":  # requests cannot set it, so the model's defaults decide
        scale = defaults.get(family.negative_scale, call[family.negative_scale].default)
        return NegativePrompts(float(scale or 0) > family.guided_above)
    distilled = family.distilled is not None and getattr(denoiser.config, family.distilled, None) is not None
    return NegativePrompts(not distilled, family.guided_above)


def native_size(pipe: Any, denoiser: nn.Module) -> tuple[int, int] | None:
    """Rows and columns, in pixels, of the pictures that a denoiser was made for; None when nothing says so."""
    side = getattr(pipe, "default_sample_size", None) or getattr(denoiser.config, "sample_size", None)
    if side is None:
        return None
    rows, columns = (side, side) if isinstance(side, int) else side
    scale = int(getattr(pipe, "vae_scale_factor", 8)) if getattr(pipe, "vae", None) is not None else 1
    return int(rows) * scale, int(columns) * scale


def picture_tokens(inputs: Inputs, denoiser: nn.Module, latents: Any, encoding: Mapping[str, Any]) -> int:
    """How many tokens of a sequence are the picture's: [b, n, c] has n, [b, c, (frames,) h, w] one for each patch.
    encoding: arguments of the call's encoding method."""
    if isinstance(latents, list | tuple):  # a picture each
        latents = latents[0][None]
    if latents.dim() < 4:
        return int(latents.shape[1]) - (int(encoding[inputs.room]) if inputs.room else 0)
    if inputs.oblong is not None and latents.shape[-1] != latents.shape[-2]:
        return int(getattr(denoiser, inputs.oblong))
    sides = getattr(denoiser.config, inputs.patch)
    sizes = latents.shape[2:] if inputs.axes is None else [latents.shape[axis] for axis in inputs.axes]
    each = list(sides) if isinstance(sides, list | tuple) else [sides]
    if len(each) != len(sizes):  # one side, or the possible ones; frames are not joined
        each = [1] * (len(sizes) - 2) + [each[0], each[0]]
    count = math.prod(int(size) // int(side) for size, side in zip(sizes, each, strict=True))
    return -(-count // inputs.multiple) * inputs.multiple
