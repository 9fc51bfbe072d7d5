"""Training pictures: read from a folder in Hugging Face's `imagefolder` form, and turned into a model's latents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from tuning.errors import BadLesson

__all__ = ["Box", "Captioned", "fitted_to", "latent_maps", "latents_of", "read_imagefolder", "text_map"]

Box = tuple[float, float, float, float]

_ROWS = 64  # pictures encoded at once
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture and what it is said to show."""

    image: Image.Image
    caption: str


def read_imagefolder(folder: Path, *, caption: str | None = None) -> tuple[list[Captioned], str]:
    """The pictures of a folder with their captions, and a digest of both.

    Captions are lines of `metadata.jsonl` (`file_name`, and `text` or `caption`), or all are `caption`.

    Raises: BadLesson, naming the line or the file.
    """
    if not folder.is_dir():
        raise BadLesson(f"training pictures must be a folder, got `{folder}`")
    told = _captions(folder) if caption is None else {}
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _ENDINGS)
    if not files:
        raise BadLesson(f"`{folder}` must hold pictures ({', '.join(_ENDINGS)}), got none")
    names = [p.relative_to(folder).as_posix() for p in files]
    lacking = [n for n in names if caption is None and n not in told]
    absent = sorted(set(told) - set(names))
    if lacking or absent:
        what = (
            f"`{lacking[0]}` has no caption" if lacking else f"`metadata.jsonl` names `{absent[0]}`, which is no file"
        )
        raise BadLesson(f"{what} ({len(lacking) + len(absent)} such) in `{folder}`")
    digest = hashlib.sha256()
    found = []
    for file, name in zip(files, names, strict=True):
        text = told[name] if caption is None else caption
        digest.update(f"{name}\0{text}\0".encode() + file.read_bytes())
        found.append(Captioned(_opened(file), text))
    return found, digest.hexdigest()


def _captions(folder: Path) -> dict[str, str]:
    file = folder / "metadata.jsonl"
    if not file.is_file():
        raise BadLesson(f"`{folder}` must hold `metadata.jsonl` with a caption of each picture, or give one for all")
    told: dict[str, str] = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["file_name"], row.get("text", row.get("caption"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadLesson(f"line {number} of `{file}` must be an object with `file_name` and `text`") from error
        if not isinstance(name, str) or not isinstance(text, str) or not text.strip():
            raise BadLesson(f"line {number} of `{file}` must have strings `file_name` and `text`, got `{line[:80]}`")
        told[name] = text
    return told


def _opened(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise BadLesson(f"`{file}` cannot be read as a picture: {error}") from error


@torch.no_grad()
def latents_of(pipe: Any, images: Sequence[Image.Image], shape: Sequence[int], size: tuple[int, int]) -> Tensor:
    """The pictures as the denoiser sees clean ones, [n, *shape] float32, cropped to `size` (width, height).

    By the pipeline's own autoencoder, scaled and packed as the pipeline does; pixels where there is none.

    Raises: BadLesson, when they come out in another shape than the denoiser's input.
    """
    parts = []
    for start in range(0, len(images), _ROWS):
        fitted = [np.asarray(fitted_to(i, size), np.float32) / 127.5 - 1 for i in images[start : start + _ROWS]]
        parts.append(_encoded(pipe, torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2)))
    latents = torch.cat(parts)
    if tuple(latents.shape[1:]) != tuple(shape):
        raise BadLesson(
            f"pictures of {size[0]}x{size[1]} must become latents {list(shape)} of `{type(pipe).__name__}`, got"
            f" {list(latents.shape[1:])}"
        )
    return latents


def fitted_to(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture scaled and cropped to `size` (width, height)."""
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def text_map(image: Image.Image, boxes: Sequence[Box]) -> Tensor:
    """1 in the boxes of a picture, 0 elsewhere, [h, w]."""
    shown = torch.zeros(image.height, image.width)
    for left, top, right, bottom in boxes:
        shown[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = 1
    return shown


def latent_maps(pipe: Any, maps: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Maps [h, w] over pictures as maps over the denoiser's input, [n, *shape]: means, packed as its latents are."""
    stacked = torch.stack(list(maps))[:, None]
    if len(shape) == 3:
        small = F.interpolate(stacked, tuple(shape[1:]), mode="area")
        return small.expand(-1, shape[0], -1, -1)
    factor = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    small = F.avg_pool2d(stacked, factor).expand(-1, shape[1] // 4, -1, -1)
    packed: Tensor = pipe._pack_latents(small, *small.shape)
    return packed


def _encoded(pipe: Any, pixels: Tensor) -> Tensor:
    vae = getattr(pipe, "vae", None)
    if vae is None:
        return pixels
    encoded = vae.encode(pixels.to(vae.device, vae.dtype))
    z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latent
    z = (z - (getattr(vae.config, "shift_factor", None) or 0.0)) * vae.config.scaling_factor
    if hasattr(pipe, "_pack_latents"):
        z = pipe._pack_latents(z, *z.shape)
    return z.float().cpu()
