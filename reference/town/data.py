"""Renders sets of town scenes for training; deterministic from a seed."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor

from reference.town.drawing.paint import paint
from reference.town.scenes import Scene, sample_scene

__all__ = ["render_set"]


def render_set(count: int, *, seed: int, size: int = 64, workers: int = 1, zoom: int = 1) -> tuple[list[Scene], Tensor]:
    """`count` training scenes and their pictures, painted by `workers` processes.

    The pictures are uint8 [count, zoom * size, zoom * size, 3].
    """
    rng = random.Random(f"town/{seed}")
    scenes = [sample_scene(rng, size=size) for _ in range(count)]
    pictures = np.empty((count, zoom * size, zoom * size, 3), np.uint8)
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            painted = pool.map(_pixels, scenes, [size] * count, [zoom] * count, chunksize=256)
            for picture, pixels in zip(pictures, painted, strict=True):
                picture[:] = pixels
    else:
        for picture, scene in zip(pictures, scenes, strict=True):
            picture[:] = _pixels(scene, size, zoom)
    return scenes, torch.from_numpy(pictures)


def _pixels(scene: Scene, size: int, zoom: int) -> np.ndarray:
    return np.asarray(paint(scene, size, zoom=zoom))
