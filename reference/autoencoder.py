"""Trains the autoencoder (64 px pictures to 16 x 16 latents of 8 channels and back), then its decoder alone.

Pipelines of the PixArt family scale latents and do not shift them. After training, the mean and deviation of each
channel are therefore folded into the 1 x 1 convolutions between encoder, latents and decoder. Latents then have mean 0
and deviation 1, and `scaling_factor` is 1.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from reference.loop import Schedule, fit

__all__ = ["build_autoencoder", "encode", "normalise_latents", "sharpen_decoder", "train_autoencoder"]

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
    images: Tensor, schedule: Schedule, *, folder: Path, batch: int = 32, device: str = "cpu"
) -> AutoencoderKL:
    """A trained, normalised autoencoder, on the CPU.

    Args:
        images: uint8 [n, h, w, 3].
        device: where it is trained.
    """
    vae = build_autoencoder(images.shape[1]).to(device, memory_format=torch.channels_last)

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, len(images), (batch,), generator=generator)
        x = to_pixels(images[rows].to(device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device, torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            y = vae.decode(posterior.sample()).sample.float()
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
    vae: AutoencoderKL,
    images: Tensor,
    latents: Tensor,
    schedule: Schedule,
    *,
    folder: Path,
    batch: int = 32,
    device: str = "cpu",
) -> AutoencoderKL:
    """The autoencoder with its decoder trained on, in place, on the CPU; latents stay what they are.

    A denoiser's latents are never quite those of a picture, so here they have noise on them, up to 0.3 of their own
    deviation. Denoisers that were trained on these latents need no training again.

    Args:
        images: uint8 [n, h, w, 3].
        latents: [n, 8, h/4, w/4] of these pictures.
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
            y = vae.decode(z.contiguous(memory_format=torch.channels_last)).sample.float()
        return (y - x).abs().mean() + (y - x).square().mean()

    fit({"decoder": part}, loss, schedule, folder=folder, name="decoder")
    return vae.eval().cpu()


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor, *, batch: int = 100) -> Tensor:
    """The latents' means [n, 8, h/4, w/4] of uint8 images [n, h, w, 3], on the CPU."""
    parts = []
    for start in range(0, len(images), batch):
        x = to_pixels(images[start : start + batch].to(vae.device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(vae.device.type, torch.bfloat16):
            parts.append(vae.encode(x).latent_dist.mean.float().cpu())
    return torch.cat(parts)


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, images: Tensor) -> None:
    """Gives latents mean 0 and deviation 1 per channel over `images`, in place, without changing any reconstruction."""
    z = encode(vae, images)
    mean, std = z.mean((0, 2, 3)), z.std((0, 2, 3))
    scale = torch.cat([1 / std, torch.ones_like(std)])
    shift = torch.cat([-mean / std, -2 * std.log()])  # second half: the log of the posterior's variance
    vae.quant_conv.weight.mul_(scale[:, None, None, None])
    vae.quant_conv.bias.mul_(scale).add_(shift)
    w = vae.post_quant_conv.weight  # [8, 8, 1, 1]
    vae.post_quant_conv.bias.add_(torch.einsum("oi,i->o", w[:, :, 0, 0], mean))
    w.mul_(std[None, :, None, None])
