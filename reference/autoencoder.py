"""Trains the autoencoder (64 px pictures to 16 x 16 latents of 8 channels and back), then its decoder alone.

Pipelines of the PixArt family scale latents and do not shift them. After training, the mean and deviation of each
channel are therefore folded into the 1 x 1 convolutions between encoder, latents and decoder. Latents then have mean 0
and deviation 1, and `scaling_factor` is 1. An autoencoder of films (`latents_mean` and `latents_std` in its
configuration) is given single pictures as films of one frame; its pipelines scale and shift latents, so mean and
deviation are written into that configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from reference.loop import Schedule, fit

__all__ = [
    "build_autoencoder",
    "encode",
    "films",
    "normalise_latents",
    "sharpen_decoder",
    "through",
    "train_autoencoder",
]

_NOISE = 0.3  # deviation that latents are off by at most while the decoder is trained on, where their own is 1


def build_autoencoder(size: int = 64) -> AutoencoderKL:
    """A small AutoencoderKL with untrained weights, four pixels per latent."""
    return AutoencoderKL(
        latent_channels=8,
        block_out_channels=(32, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=size,
        scaling_factor=1.0,
    )


def to_pixels(images: Tensor) -> Tensor:
    """uint8 [b, h, w, 3] as float [b, 3, h, w] in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def train_autoencoder(
    images: Tensor,
    schedule: Schedule,
    *,
    folder: Path,
    batch: int = 32,
    device: str = "cpu",
    build: Callable[[], Any] | None = None,
) -> Any:
    """A trained, normalised autoencoder, on the CPU.

    Args:
        images: uint8 [n, h, w, 3].
        device: where it is trained.
        build: the untrained autoencoder; default: `build_autoencoder` for pictures of this size.
    """
    made = build() if build else build_autoencoder(images.shape[1])
    vae = made.to(device, memory_format=torch.channels_last)

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, len(images), (batch,), generator=generator)
        x = to_pixels(images[rows].to(device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            posterior = _posterior(vae, x)
            y = _pixels(vae, posterior.sample()).float()
        # ink on paper is a few pixels that decide everything: the absolute error keeps its edges sharp
        return (
            (y - x).abs().mean()
            + (y - x).square().mean()
            + 1e-3 * posterior.kl().float().mean() / posterior.mean[0].numel()
        )

    fit({"vae": vae}, loss, schedule, folder=folder, name="autoencoder")
    vae.eval().cpu()
    normalise_latents(vae, images[:2000])
    return vae


def sharpen_decoder(
    vae: Any,
    images: Tensor,
    latents: Tensor,
    schedule: Schedule,
    *,
    folder: Path,
    batch: int = 32,
    device: str = "cpu",
) -> Any:
    """The autoencoder with its decoder trained on, in place, on the CPU; latents stay what they are.

    A denoiser's latents are never quite those of a picture, so here they have noise on them, up to 0.3 of their own
    deviation. Denoisers that were trained on these latents need no training again.

    Args:
        images: uint8 [n, h, w, 3].
        latents: of these pictures, as `encode` makes them.
    """
    vae.to(device, memory_format=torch.channels_last).train()
    part = torch.nn.ModuleDict({"decoder": vae.decoder, "quant": vae.post_quant_conv})

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, len(images), (batch,), generator=generator)
        x = to_pixels(images[rows].to(device))
        z = latents[rows].float()
        far = _NOISE * torch.rand(batch, 1, 1, 1, generator=generator)
        z = (z + far * torch.randn(z.shape, generator=generator)).to(device)
        with torch.autocast(device, torch.bfloat16):
            y = _pixels(vae, _raw(vae, z).contiguous(memory_format=torch.channels_last)).float()
        return (y - x).abs().mean() + (y - x).square().mean()

    fit({"decoder": part}, loss, schedule, folder=folder, name="decoder")
    return vae.eval().cpu()


@torch.no_grad()
def encode(vae: Any, images: Tensor, *, batch: int = 100) -> Tensor:
    """The latents' means of uint8 images [n, h, w, 3] as a denoiser is shown them, on the CPU.

    [n, 8, h/4, w/4] by default, [n, z, h/16, w/16] by an autoencoder of films.
    """
    parts = []
    for start in range(0, len(images), batch):
        x = to_pixels(images[start : start + batch].to(vae.device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(vae.device.type, torch.bfloat16):
            mean = _posterior(vae, x).mean.float().cpu()
            parts.append((mean[:, :, 0] - _of(vae, "mean")) / _of(vae, "std") if films(vae) else mean)
    return torch.cat(parts)


@torch.no_grad()
def normalise_latents(vae: Any, images: Tensor) -> None:
    """Gives latents mean 0 and deviation 1 per channel over `images`, in place, without changing any reconstruction."""
    z = encode(vae, images)
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
    if films(vae):
        vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
        return
    scale = torch.cat([1 / std, torch.ones_like(std)])
    shift = torch.cat([-mean / std, -2 * std.log()])  # second half: the log of the posterior's variance
    vae.quant_conv.weight.mul_(scale[:, None, None, None])
    vae.quant_conv.bias.mul_(scale).add_(shift)
    w = vae.post_quant_conv.weight  # [8, 8, 1, 1]
    vae.post_quant_conv.bias.add_(torch.einsum("oi,i->o", w[:, :, 0, 0], mean))
    w.mul_(std[None, :, None, None])


@torch.no_grad()
def through(vae: Any, x: Tensor) -> Tensor:
    """Pictures [b, 3, h, w] in [-1, 1], encoded and decoded."""
    z = _posterior(vae, x).mode()
    made: Tensor = vae.decode(z).sample
    return made[:, :, 0] if films(vae) else made


def films(vae: Any) -> bool:
    """Whether an autoencoder is one of films, whose latents stand for 16 x 16 pixels."""
    return "temperal_downsample" in vae.config


def _of(vae: Any, name: str) -> Tensor:
    """The configuration's mean or deviation of each latent channel, [z, 1, 1]."""
    return torch.tensor(vae.config[f"latents_{name}"])[:, None, None]


def _posterior(vae: Any, x: Tensor) -> Any:
    """The distribution of the latents of pictures [b, 3, h, w]."""
    return vae.encode(x.unsqueeze(2) if films(vae) else x).latent_dist


def _raw(vae: Any, z: Tensor) -> Tensor:
    """Latents as the decoder takes them, of latents as `encode` makes them."""
    return z * _of(vae, "std").to(z) + _of(vae, "mean").to(z) if films(vae) else z


def _pixels(vae: Any, z: Tensor) -> Tensor:
    """Pictures [b, 3, h, w] of raw latents; those of films without the limit on them, which has no gradient."""
    if not films(vae):
        pixels: Tensor = vae.decode(z).sample
        return pixels
    frames = z if z.ndim == 5 else z.unsqueeze(2)
    told = vae.decoder(vae.post_quant_conv(frames), first_chunk=True)[:, :, 0]
    side = vae.config.patch_size  # of the patches that its last layer makes, columns before rows
    return torch.nn.functional.pixel_shuffle(told.unflatten(1, (3, side, side)).transpose(2, 3).flatten(1, 3), side)
