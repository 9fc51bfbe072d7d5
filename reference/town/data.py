"""Renders sets of town scenes for training; deterministic from a seed."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from reference.town.paint import paint
from reference.town.scenes import TownScene, sample_scene

__all__ = ["render_set"]


def render_set(count: int, *, seed: int, size: int = 64) -> tuple[list[TownScene], Tensor]:
    """`count` training scenes and their pictures, uint8 [count, size, size, 3]."""
    rng = random.Random(f"town/{seed}")
    scenes = [sample_scene(rng, size=size) for _ in range(count)]
    pictures = np.empty((count, size, size, 3), np.uint8)
    for picture, scene in zip(pictures, scenes, strict=True):
        picture[:] = np.asarray(paint(scene, size))
    return scenes, torch.from_numpy(pictures)
