"""How well lettering in pictures is read, by the size of picture and letters and by how it stands, and what that costs.

Pictures are drawn here, with words and colours by chance: held-out words of the town's list in the fonts that come
with the package. Pictures without text say how much is read where nothing stands. Costs are processor time, as a ratio
to one pass of the same engine over the same picture as it stands.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detectors.images import RapidOcr
from evaluation.metrics import Rate
from reference.town.drawing.paint import paint
from reference.town.letters import held_out_words
from reference.town.scenes import sample_scene

__all__ = ["HEIGHTS", "STANDS", "drawn", "reading_rows"]

FONTS = sorted((Path(__file__).parents[2] / "reference" / "fonts").glob("*.ttf"))
# side of the picture: heights of letters, in pixels
HEIGHTS = {64: (12,), 256: (16, 48), 512: (16, 100), 1024: (10, 16, 24, 150), 1536: (16, 24, 40, 200)}
# how lettering stands: turned counter-clockwise by degrees, mirrored, light on dark
STANDS: dict[str, tuple[int, bool, bool]] = {
    "upright": (0, False, False),
    "light on dark": (0, False, True),
    "turned by 45": (45, False, False),
    "turned by 90": (90, False, False),
    "turned by 135": (135, False, False),
    "turned by 180": (180, False, False),
    "turned by 270": (270, False, False),
    "mirrored": (0, True, False),
    "mirrored, turned by 180": (180, True, False),
}
_TURNED_AT = ((64, 12), (512, 40))  # where each way to stand is tried


def reading_rows(
    *, count: int = 50, seed: int = 0, progress: Callable[[str], None] = print
) -> dict[str, dict[str, Any]]:
    """The table: recall by size, recall by how lettering stands, readings where there is no text, and costs."""
    ocr, rows = RapidOcr(), dict[str, dict[str, Any]]()
    for side, heights in HEIGHTS.items():
        rows[f"upright on {side} px"] = {
            f"letters of {height} px": _recall(ocr, side, height, "upright", count, seed) for height in heights
        }
        progress(f"{side} px done")
    for side, height in _TURNED_AT:
        rows[f"letters of {height} px on {side} px"] = {
            stand: _recall(ocr, side, height, stand, count, seed + 1) for stand in STANDS
        }
    progress("ways to stand done")
    for kind, images in _without_text(count, seed):
        rows[f"no text: {kind}"] = {
            "something of two letters or more is read": Rate.of(
                any(len(r.text.strip()) > 1 for r in ocr.read(image)) for image in images
            ).to_json(),
            "the same in one pass": Rate.of(
                any(len(t.strip()) > 1 for t in _one_pass(ocr, image)) for image in images
            ).to_json(),
        }
    progress("pictures without text done")
    rows["processor time, ratio to one pass"] = {
        f"{side} px, {what}": _cost(ocr, images)
        for side in HEIGHTS
        for what, images in _to_time(side, random.Random(f"cost/{seed}/{side}"))
    }
    return rows


def drawn(word: str, side: int, height: int, stand: str, rng: random.Random) -> Image.Image | None:
    """A picture with `word` somewhere on a shaded, grainy ground; None if it has no room there."""
    angle, mirrored, inverted = STANDS[stand]
    font = ImageFont.truetype(str(rng.choice(FONTS)), height)
    left, top, right, bottom = font.getbbox(word)
    mask = Image.new("L", (round(right - left) + 4, round(bottom - top) + 4))
    ImageDraw.Draw(mask).text((2 - left, 2 - top), word, font=font, fill=255)
    if mirrored:
        mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mask = mask.rotate(angle, expand=True, resample=Image.Resampling.BICUBIC)
    if max(mask.size) > side:
        return None
    ground, ink = [rng.randrange(130, 256) for _ in "rgb"], [rng.randrange(0, 70) for _ in "rgb"]
    image = Image.fromarray(_ground(ink if inverted else ground, side, rng))
    place = (rng.randint(0, side - mask.width), rng.randint(0, side - mask.height))
    image.paste(tuple(ground if inverted else ink), place, mask)
    return image


def _ground(colour: Sequence[int], side: int, rng: random.Random) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A ground of `colour` that is shaded from side to side, with grain on every second one."""
    grain = np.random.default_rng(rng.randrange(2**32))
    shade = np.linspace(-1, 1, side)
    ground = np.asarray(colour, float) + rng.uniform(-25, 25) * shade[:, None, None]
    ground = (
        ground + rng.uniform(-25, 25) * shade[None, :, None] + rng.choice((0, 6)) * grain.normal(size=(side, side, 1))
    )
    return np.clip(ground, 0, 255).astype(np.uint8)


def _recall(ocr: RapidOcr, side: int, height: int, stand: str, count: int, seed: int) -> dict[str, Any]:
    """How often the very word is among what is read."""
    rng = random.Random(f"reading/{side}/{height}/{stand}/{seed}")
    read: list[bool] = []
    while len(read) < count:
        word = rng.choice(held_out_words())
        if (image := drawn(word, side, height, stand, rng)) is not None:
            read.append(any(_capitals(r.text) == word for r in ocr.read(image)))
    return Rate.of(read).to_json()


def _capitals(text: str) -> str:
    return "".join(text.upper().split())


def _without_text(count: int, seed: int) -> Iterator[tuple[str, list[Image.Image]]]:
    rng = random.Random(f"no-text/{seed}")
    noise = np.random.default_rng(seed)
    yield "town scenes, 64 px", [paint(sample_scene(rng, lines=[]), 64) for _ in range(4 * count)]
    large = [paint(sample_scene(rng, lines=[]), 64).resize((1024, 1024)) for _ in range(max(1, count // 10))]
    yield "town scenes, brought to 1024 px", large
    yield "noise, 256 px", [Image.fromarray(noise.integers(0, 256, (256, 256, 3), np.uint8)) for _ in range(count)]
    yield "stripes and checks, 256 px", [_texture(rng) for _ in range(count)]


def _texture(rng: random.Random) -> Image.Image:
    wide, high = rng.randrange(3, 40), rng.randrange(3, 40)
    ys, xs = np.mgrid[:256, :256]
    on = ((xs // wide + (ys // high) * rng.randrange(2)) % 2).astype(bool)
    colours = np.array([[rng.randrange(256) for _ in "rgb"] for _ in "ab"], np.uint8)
    return Image.fromarray(colours[on.astype(int)])


def _to_time(side: int, rng: random.Random) -> Iterator[tuple[str, list[Image.Image]]]:
    height = max(12, side // 12)
    words = [w for w in held_out_words() if len(w) == 5]
    yield "no text", [Image.fromarray(_ground([140, 150, 160], side, rng)) for _ in range(3)]
    for stand in ("upright", "turned by 180"):
        pictures = [drawn(rng.choice(words), side, height, stand, rng) for _ in range(3)]
        yield f"a word, {stand}", [p for p in pictures if p is not None]


def _cost(ocr: RapidOcr, images: Sequence[Image.Image]) -> dict[str, Any]:
    """The middle ratio of a reading's processor time to one pass's, taken in turns, and the milliseconds of a pass."""
    pairs = []
    for image in (*images, *images):
        once = _seconds(lambda image=image: _one_pass(ocr, image))  # type: ignore[misc]
        pairs.append((once, _seconds(lambda image=image: ocr.read(image))))  # type: ignore[misc]
    ratios = sorted(read / once for once, read in pairs)
    passes = statistics.median(once for once, _ in pairs)
    return {"ratio": round(statistics.median(ratios), 2), "from": round(ratios[0], 2), "to": round(ratios[-1], 2),
            "ms of one pass": round(1000 * passes)}  # fmt: skip


def _one_pass(ocr: RapidOcr, image: Image.Image) -> Sequence[str]:
    """What the library reads in the picture as it stands."""
    pixels = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
    return ocr.library(pixels, use_cls=False, text_score=0.3).txts or ()


def _seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
