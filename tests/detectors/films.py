"""Painted films, in which a sign is shown for some frames, and how often that is in a key frame.

    python -m tests.detectors.films [--films 100] [--out FILE]

measures it beside as many frames in even steps. No reader is asked: it counts the frames that are chosen. Seeds are
others than those of the tests.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detectors.images import key_frames
from reference.town.drawing.paint import paint
from reference.town.scenes import sample_scene

__all__ = ["even_steps", "film", "main"]

_MOST = 8
# frames, frames that show the sign, pixels by which the ground moves, shots
_CASES = [(n, k, moves, 1) for n in (24, 81) for k in (1, 2, 4, 8) for moves in (0, 2, 5)]
_CASES += [(72, k, 2, shots) for shots in (4, 12, 24) for k in (1, 2)]
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


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "bench" / "results" / "films.json")
    asked = parser.parse_args(arguments)
    rows = []
    for count, shown, moves, shots in _CASES:
        found = by_steps = 0
        for seed in range(1000, 1000 + asked.films):
            frames, where = film(seed, shown=shown, moves=moves, count=count, shots=shots)
            found += bool(where & set(key_frames(frames, _MOST)))
            by_steps += bool(where & even_steps(count, _MOST))
        row = {"frames": count, "shown": shown, "moves": moves, "shots": shots, "films": asked.films}
        rows.append(row | {"in a key frame": found, "in an even step": by_steps})
    body = {"key frames": _MOST, "pixels": 64, "rows": rows}
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    asked.out.write_text(f'{{\n "key frames": {_MOST},\n "pixels": 64,\n "rows": [\n  {lines}\n ]\n}}\n', "utf-8")
    return body


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
