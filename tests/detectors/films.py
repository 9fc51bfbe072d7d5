"""Painted films, in which a sign is shown for some frames."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from PIL import Image

from reference.town.drawing.paint import paint
from reference.town.scenes import sample_scene

__all__ = ["even_steps", "film"]

_GRAIN = 3.0  # deviation of a pixel's noise, of 255


def film(
    seed: int, *, shown: int, moves: int, word: str = "", count: int = 24, shots: int = 1
) -> tuple[list[Image.Image], set[int]]:
    """A film of `count` frames of 64 by 64 pixels with grain, and the numbers of the frames that show its sign.

    Args:
        shown: frames in a row that show the sign, within one shot.
        moves: pixels by which the ground moves in each frame.
        word: on the sign; default: one of three.
        shots: scenes one after another, as long as each other.
    """
    rng, grain = random.Random(seed), np.random.default_rng(seed)
    length = count // shots
    scenes = [sample_scene(rng, size=64, lines=[word or rng.choice(["OPEN", "BREAD", "HOTEL"])]) for _ in range(shots)]
    grounds = [np.asarray(paint(replace(scene, lines=()), 64), float) for scene in scenes]
    shot = rng.randrange(shots)
    begin = shot * length + rng.randrange(max(1, length - shown + 1))
    where = set(range(begin, begin + shown))
    signed = np.asarray(paint(scenes[shot], 64), float)
    sign = (signed != grounds[shot]).any(-1)
    frames = []
    for k in range(count):
        pixels = np.roll(grounds[min(k // length, shots - 1)], k * moves, axis=1)
        if k in where:
            pixels[sign] = signed[sign]
        noisy = pixels + grain.normal(0, _GRAIN, pixels.shape)
        frames.append(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)))
    return frames, where


def even_steps(count: int, most: int) -> set[int]:
    """The numbers of `most` frames of `count` in even steps, the first and the last among them."""
    return set(np.linspace(0, count - 1, most).round().astype(int).tolist())
