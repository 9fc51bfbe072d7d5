"""How often the built-in watermark is found after what happens to pictures, how often where none is, and what it costs.

Pictures are drawn scenes of the town; above 128 px they have no signs, because its letters have no larger size. Each
picture is marked with a key of its own. A false alarm is a mark that a key finds in a picture without one, or in one
that another key marked.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from evaluation.metrics import Rate, mean_interval
from marking import NotMarked, load_watermark
from reference.town import paint, sample_scene

__all__ = ["CHANGES", "changed", "watermark_rows"]

Pixels = NDArray[np.uint8]
_LARGEST_SIGN = 128  # pixels of a picture's side
_KEYS = {64: 64, 128: 16}  # that also look at an unmarked picture of this size, where a look is cheap

# in this order: cropped, scaled, saved as JPEG of this quality
CHANGES: dict[str, tuple[bool, float, int | None]] = {
    "nothing": (False, 1.0, None),
    "JPEG 70": (False, 1.0, 70),
    "half size": (False, 0.5, None),
    "10 % crop": (True, 1.0, None),
    "10 % crop, JPEG 70": (True, 1.0, 70),
    "half size, JPEG 70": (False, 0.5, 70),
    "10 % crop, half size, JPEG 70": (True, 0.5, 70),
    "JPEG 50": (False, 1.0, 50),
    "3/4 of the size": (False, 0.75, None),
    "twice the size": (False, 2.0, None),
}


def watermark_rows(
    *,
    each: int = 300,
    sizes: Sequence[int] = (64, 128, 256, 512),
    seed: int = 0,
    progress: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """One row for each size of pictures, in pixels. `each`: how many pictures of a size."""
    rows = {}
    for size in sizes:
        rows[f"{size} px"] = _row(size, each, seed)
        progress(f"{size} px done")
    return rows


def _row(size: int, each: int, seed: int) -> dict[str, Any]:
    rng = random.Random(f"watermark/{size}/{seed}")
    found: dict[str, list[bool]] = {name: [] for name in CHANGES}
    alarms: list[bool] = []
    noise, likeness = list[float](), list[float]()
    embedding = finding = 0.0
    refused = 0
    for _ in range(each):
        scene = sample_scene(rng) if size <= _LARGEST_SIGN else sample_scene(rng, lines=())
        pixels = np.asarray(paint(scene, size))
        own, other = (load_watermark("spread", rng.randbytes(16)) for _ in "ab")
        began = time.process_time()
        try:
            marked = own.embed(pixels)
        except NotMarked:
            refused += 1
            continue
        embedding += time.process_time() - began
        began = time.process_time()
        alarms.append(own.find(pixels))
        finding += time.process_time() - began
        alarms.append(other.find(marked))
        alarms += [load_watermark("spread", rng.randbytes(16)).find(pixels) for _ in range(_KEYS.get(size, 0))]
        for name in CHANGES:
            found[name].append(own.find(changed(marked, name, rng)))
        noise.append(float(peak_signal_noise_ratio(pixels, marked)))
        likeness.append(float(structural_similarity(pixels, marked, channel_axis=2)))
    return {
        "refused": Rate(refused, each).to_json(),
        **{f"found after: {name}": Rate.of(each).to_json() for name, each in found.items()},
        "false alarms": Rate.of(alarms).to_json(),
        "PSNR, dB": mean_interval(noise) | {"median": round(float(np.median(noise)), 2), "least": round(min(noise), 2)},
        "SSIM": mean_interval(likeness) | {"median": round(float(np.median(likeness)), 4)},
        "processor seconds": {"embed": round(embedding / each, 4), "find nothing": round(finding / each, 4)},
    }


def changed(marked: Pixels, name: str, rng: random.Random) -> Pixels:
    """Pixels after one of `CHANGES`. A crop keeps 90 % of each side, wherever it is."""
    crop, scale, quality = CHANGES[name]
    if crop:
        h, w = marked.shape[:2]
        height, width = round(0.9 * h), round(0.9 * w)
        top, left = rng.randint(0, h - height), rng.randint(0, w - width)
        marked = marked[top : top + height, left : left + width]
    image = Image.fromarray(marked)
    if scale != 1.0:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    if quality is not None:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        image = Image.open(file)
    return np.asarray(image)
