"""Owns the comparison with the stock pipeline: the same prompt and seed at the same row of the same batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from palimpsest_base import torchvision

torchvision.install()  # before anything imports torch, so nothing here does at the top

__all__ = ["Stock", "pixels"]


def pixels(image: Any) -> str:
    """A digest of a picture's decoded pixels."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


class Stock:
    """The diffusers pipeline of a folder as it comes, with nothing of ours attached; pictures are made once. `mark` is
    done to the pixels [h, w, 3] of which there is a digest.
    """

    def __init__(self, model: Path, mark: Callable[[Any], Any] | None = None) -> None:
        import torch
        from diffusers import DiffusionPipeline

        torch.set_num_threads(1)
        self.pipe = DiffusionPipeline.from_pretrained(model)
        self.pipe.set_progress_bar_config(disable=True)
        self._defaults = json.loads((model / "defaults.json").read_text())
        self._mark = mark
        self._made: dict[tuple[Any, ...], str] = {}

    def pictures(self, prompts: list[str], seeds: list[int], *, steps: int | None = None) -> list[Any]:
        """One picture a prompt, in one batch."""
        import torch

        defaults = self._defaults
        made: list[Any] = self.pipe(
            prompts,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            height=defaults["height"],
            width=defaults["width"],
            num_inference_steps=steps or defaults["num_inference_steps"],
            guidance_scale=defaults["guidance_scale"],
            **defaults["call"],
        ).images
        return made

    def digest(self, prompt: str, seed: int, shape: Mapping[str, Any]) -> str:
        """The pixels of a prompt and seed at its row of a batch; its neighbours are fillers."""
        batch, row = int(shape["batch"]), int(shape["row"])
        key = (prompt, seed, batch, row)
        if key not in self._made:
            prompts, seeds = ["a filler"] * batch, [0] * batch
            prompts[row], seeds[row] = prompt, seed
            picture = self.pictures(prompts, seeds)[row].convert("RGB")
            if self._mark is not None:
                picture = Image.fromarray(self._mark(np.asarray(picture)))
            self._made[key] = pixels(picture)
        return self._made[key]
