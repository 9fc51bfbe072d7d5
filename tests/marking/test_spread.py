"""Our own watermark: found after what happens to pictures, by its key alone, and by no other.

| mutation | turns red |
|---|---|
| `_TILE` shifts are not searched (`shifts[0, 0]` in the place of the maximum) | found after a crop |
| the scale 0.5 is left out | found at half its size |
| `_STRENGTHS` ends at 1.5 | found in every picture (the dotted ones need more) |
| the phases do not depend on the key | another key finds nothing |
| no strength of 0 | a marked picture is left as it is |
"""

from __future__ import annotations

import io
import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from marking import BUILT_IN, NotMarked, load_watermark
from marking.spread import FALSE_ALARMS, Spread
from palimpsest_base.plugins import BadPlugin
from reference.town import paint, sample_scene

Pixels = NDArray[np.uint8]


def scenes(count: int, size: int) -> list[Pixels]:
    rng = random.Random(5)
    return [np.asarray(paint(sample_scene(rng), size)) for _ in range(count)]


def resized(pixels: Pixels, scale: float) -> Pixels:
    h, w = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((round(w * scale), round(h * scale))))


def as_jpeg(pixels: Pixels) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=70)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("size", [64, 128])
def test_the_mark_is_found_in_every_picture_after_what_happens_to_it_and_by_no_other_key(size: int) -> None:
    own, other, off = Spread(b"our secret"), Spread(b"another one"), np.random.default_rng(0)
    for pixels in scenes(16 if size == 64 else 6, size):
        before = pixels.copy()
        marked = own.embed(pixels)
        top, left = off.integers(0, size // 10, 2)
        side = round(0.9 * size)
        cropped = marked[top : top + side, left : left + side]
        changed = {
            "jpeg": as_jpeg(marked),
            "crop": cropped,
            **{f"{s:.2f}": resized(marked, s) for s in (0.5, 2 / 3, 0.75, 1, 2)},
        }
        assert [name for name, each in changed.items() if not own.find(each)] == []
        assert not own.find(pixels)
        assert not other.find(marked)
        assert np.array_equal(pixels, before), "the given pixels are not modified"
        assert np.array_equal(own.embed(marked), marked), "a marked picture is left as it is"
        error = np.square(marked.astype(float) - pixels).mean()
        assert 10 * math.log10(255**2 / error) > 22


def test_the_score_of_an_unmarked_picture_stays_within_its_bound() -> None:
    # the bound is on one shift; that of all shifts is found wanting if the score is not normed as it says
    noise = np.random.default_rng(1).integers(0, 256, (40, 96, 96, 3), dtype=np.uint8)
    scores = [Spread(str(k).encode())._score(each, 1.0) for k, each in enumerate(noise)]
    assert max(scores) < math.sqrt(math.log(64 * 64 * len(scores) / 0.01))
    assert min(scores) > 1.5, "some shift of thousands always fits a little"
    assert FALSE_ALARMS == 1e-4


def test_what_cannot_carry_the_mark_is_refused() -> None:
    with pytest.raises(NotMarked, match="at least 64 pixels to be marked, got 64x40"):
        Spread(b"key").embed(np.zeros((40, 64, 3), np.uint8))
    tiny = np.zeros((9, 300, 3), np.uint8)
    assert not Spread(b"key").find(tiny)


def test_a_flat_picture_is_marked_and_so_is_noise() -> None:
    mark = Spread(b"key")
    assert mark.find(mark.embed(np.full((64, 64, 3), 255, np.uint8)))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert mark.find(mark.embed(noise))


def test_a_watermark_is_loaded_by_name() -> None:
    assert load_watermark("spread", b"key").name == BUILT_IN
    with pytest.raises(BadPlugin, match="must be `spread` or the name of a plug-in that `plugins` allows, got `sprad`"):
        load_watermark("sprad", b"key")
