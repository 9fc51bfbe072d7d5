"""Pictures as a pipeline's denoiser sees clean ones, and maps over pictures as maps over its input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from steering.errors import BadPlan, NotSupported

__all__ = ["fitted_to", "latent_maps", "latents_of"]

_ROWS = 64  # pictures encoded at once


@torch.no_grad()
def latents_of(pipe: Any, images: Sequence[Image.Image], shape: Sequence[int], size: tuple[int, int]) -> Tensor:
    """The pictures as the denoiser sees clean ones, [n, *shape] float32, cropped to `size` (width, height).

    By the pipeline's own autoencoder, scaled and packed as the pipeline does; pixels where there is none.

    Raises: BadPlan, when they come out in another shape than the denoiser's input; NotSupported, for an autoencoder of
    films or one that scales in a way of its own.
    """
    parts = []
    for start in range(0, len(images), _ROWS):
        fitted = [np.asarray(fitted_to(i, size), np.float32) / 127.5 - 1 for i in images[start : start + _ROWS]]
        parts.append(_encoded(pipe, torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2)))
    latents = torch.cat(parts)
    if tuple(latents.shape[1:]) != tuple(shape):
        raise BadPlan(
            f"pictures of {size[0]}x{size[1]} must become latents {list(shape)} of `{type(pipe).__name__}`, got"
            f" {list(latents.shape[1:])}"
        )
    return latents


def fitted_to(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture in RGB, scaled and cropped to `size` (width, height)."""
    return ImageOps.fit(image.convert("RGB"), size, Image.Resampling.LANCZOS)


def latent_maps(pipe: Any, maps: Sequence[Tensor], shape: Sequence[int], *, widest: bool = False) -> Tensor:
    """Maps [h, w] over pictures as maps over the denoiser's input, [n, *shape], packed as its latents are.

    Each place has the mean of its pixels, or with `widest` the largest.
    """
    stacked = torch.stack(list(maps))[:, None]
    pool = F.adaptive_max_pool2d if widest else F.adaptive_avg_pool2d
    if len(shape) == 3:
        return pool(stacked, (shape[1], shape[2])).expand(-1, shape[0], -1, -1)
    factor = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    small = pool(stacked, (stacked.shape[2] // factor, stacked.shape[3] // factor))
    small = small.expand(-1, shape[1] // 4, -1, -1)
    packed: Tensor = pipe._pack_latents(small, *small.shape)
    if widest:  # a packed place holds four: all are drawn anew, or none
        packed = packed.amax(-1, keepdim=True).expand_as(packed)
    return packed


def _encoded(pipe: Any, pixels: Tensor) -> Tensor:
    vae = getattr(pipe, "vae", None)
    if vae is None:
        return pixels
    if getattr(vae.config, "scaling_factor", None) is None:
        raise NotSupported(
            f"`{type(vae).__name__}` scales latents in a way of its own, so pictures cannot be taken back to them"
        )
    encoded = vae.encode(pixels.to(vae.device, vae.dtype))
    z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latent
    z = (z - (getattr(vae.config, "shift_factor", None) or 0.0)) * vae.config.scaling_factor
    if hasattr(pipe, "_pack_latents"):
        z = pipe._pack_latents(z, *z.shape)
    return z.float().cpu()
