"""The report on a reference model: how much of its captions it draws, beside the ceiling of true pictures."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from detectors.images import RapidOcr
from evaluation.cases import Case, lettering_cases
from evaluation.eyes import AnyCase, Eyes, Judges
from evaluation.lettering import stock_pictures
from evaluation.metrics import Rate
from reference.captions import sample_caption
from reference.paint import paint
from reference.world import held_out_words, sample_scene
from steering import Host

__all__ = ["model_report", "read_sign", "read_words"]

_FACTS = ("subject", "colour", "background", "style", "sign")


def read_sign(ocr: RapidOcr, image: Image.Image, *, top: bool) -> str:
    """What RapidOCR reads in the half of the picture where the sign stands, left to right, in the world's alphabet."""
    middle = image.height / 2
    found = [r for r in ocr.read(image) if ((r.box.top + r.box.bottom) / 2 < middle) == top]
    return _letters("".join(r.text for r in sorted(found, key=lambda r: r.box.left)))


def read_words(ocr: RapidOcr, image: Image.Image) -> str:
    """What RapidOCR reads in the longest piece of lettering of a picture, in the world's alphabet.

    The longest, because a ring beside a sign is read as an O.
    """
    return max((_letters(reading.text) for reading in ocr.read(image)), key=len, default="")


def _letters(text: str) -> str:
    return re.sub("[^A-Z0-9]", "", text.upper()).replace("0", "O").replace("1", "I")


def model_report(
    host: Host,
    eyes: Eyes,
    insults: Sequence[str],
    *,
    count: int = 200,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Exact readings of held-out words and insults, and facts seen by the judge, beside the ceilings."""
    ocr = RapidOcr()
    report: dict[str, Any] = {}
    for name, words, plain in (
        ("held-out words", _even(held_out_words(), count), True),
        ("held-out words, varied captions", _even(held_out_words(), count), False),
        ("insults as plain words", list(insults), True),
    ):
        progress(f"drawing {name}")
        cases = lettering_cases(words, count if name != "insults as plain words" else count // 2, plain=plain)
        report[name] = _spelling(stock_pictures(host, cases), cases, eyes, ocr)
        report[f"{name}, true pictures"] = _spelling([paint(c.scene) for c in cases], cases, eyes, ocr)
    progress("drawing scenes for the judge")
    rng = random.Random("scenes")
    scenes = [sample_scene(rng) for _ in range(count)]
    cases = [Case(sample_caption(s, rng), s, 30_000 + i) for i, s in enumerate(scenes)]
    pictures = stock_pictures(host, cases)
    report["scenes"] = _facts(pictures, cases, eyes.judge)
    report["scenes, true pictures"] = _facts([paint(s) for s in scenes], cases, eyes.judge)
    if eyes.second is not None:
        pairs = zip(eyes.judge.look(pictures), eyes.second.look(pictures), strict=True)
        same = [[getattr(a, f) == getattr(b, f) for f in _FACTS] for a, b in pairs]
        report["judges agree"] = {f: Rate.of(s[i] for s in same).to_json() for i, f in enumerate(_FACTS)}
    return report


def _even(words: Sequence[str], count: int) -> list[str]:
    """`count` of the words, the same each time."""
    return random.Random("report").sample(list(words), min(count, len(words)))


def _spelling(images: Sequence[Image.Image], cases: Sequence[AnyCase], eyes: Eyes, ocr: RapidOcr) -> dict[str, Any]:
    read = eyes.reader.read(images)
    seen = [read_sign(ocr, image, top=c.scene.place == "top") for image, c in zip(images, cases, strict=True)]
    truth = [c.scene.lettering for c in cases]
    return {
        "RapidOCR": Rate.of(a == b for a, b in zip(seen, truth, strict=True)).to_json(),
        "reader": Rate.of(a == b for a, b in zip(read, truth, strict=True)).to_json(),
        "either": Rate.of(b in (a, c) for a, b, c in zip(seen, truth, read, strict=True)).to_json(),
    }


def _facts(images: Sequence[Image.Image], cases: Sequence[AnyCase], judge: Judges) -> dict[str, Any]:
    agrees = [o.agrees(c.scene) for o, c in zip(judge.look(images), cases, strict=True)]
    rows = {name: Rate.of(a[name] for a in agrees).to_json() for name in _FACTS}
    rows["subject, colour and background"] = Rate.of(
        a["subject"] and a["colour"] and a["background"] for a in agrees
    ).to_json()
    return rows
