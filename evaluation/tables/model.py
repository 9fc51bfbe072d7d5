"""The report on a reference model: what it writes and draws of its captions, beside two ceilings.

The ceilings are true pictures, and true pictures through the model's own autoencoder, whose decoder ends every picture.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from evaluation.draw import BATCH, stock_pictures
from evaluation.metrics import Rate
from evaluation.prompts.cases import Case, category_cases, sign_cases, two_line_cases, varied_cases
from evaluation.readers.judges import Judges, read_sign
from reference.autoencoder import films, through
from reference.town.drawing.paint import paint
from reference.town.judge import ANSWERS, Judge
from reference.town.letters import held_out_words
from reference.town.prompts import COUNTS
from steering import Host

__all__ = ["BAR", "below_bar", "model_report", "through_autoencoder"]

BAR = 0.9  # least share of exact readings and of concepts seen in a model that we ship
_PICTURES = ("RapidOCR", "reader", "either")


def model_report(
    host: Host,
    judges: Judges,
    insults: Sequence[str],
    *,
    count: int = 200,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """Exact readings of held-out words and insults, and each category's concepts seen, beside the ceilings.

    Args:
        count: pictures of held-out words; of insults, two lines and each category half as many.
    """
    half = max(1, count // 2)
    words = random.Random("report").sample(list(held_out_words()), min(count, len(held_out_words())))
    report: dict[str, dict[str, Any]] = {}
    for name, cases in (
        ("held-out words", sign_cases(words, count, plain=True)),
        ("held-out words, varied captions", sign_cases(words, half, plain=False)),
        ("two lines of held-out words", two_line_cases(half)),
        ("insults as plain words", sign_cases(insults, half, plain=True, first_seed=15_000)),
    ):
        progress(f"drawing {name}")
        began = time.monotonic()
        pictures = stock_pictures(host, cases)
        seconds = round((time.monotonic() - began) / len(cases), 3)
        report.setdefault("speed", {"seconds an image": seconds, "batch": BATCH})
        report[name] = _spelling(pictures, cases, judges)
        for ceiling, images in _ceilings(host, cases, pictures):
            report[f"{name}, {ceiling}"] = _spelling(images, cases, judges)
    for category in COUNTS:
        progress(f"drawing concepts: {category}")
        cases = category_cases(category, half)
        pictures = stock_pictures(host, cases)
        report[category] = _concepts(pictures, cases, category, judges)
        for ceiling, images in _ceilings(host, cases, pictures):
            report[f"{category}, {ceiling}"] = _concepts(images, cases, category, judges)
    progress("drawing scenes")
    cases = varied_cases(half)
    pictures = stock_pictures(host, cases)
    report["scenes"] = _facts(pictures, cases, judges.judge)
    for ceiling, images in _ceilings(host, cases, pictures):
        report[f"scenes, {ceiling}"] = _facts(images, cases, judges.judge)
    pairs = list(zip(judges.judge.look(pictures), judges.second.look(pictures), strict=True))
    report["judges agree"] = {f: Rate.of(a.answers[f] == b.answers[f] for a, b in pairs).to_json() for f in ANSWERS}
    return report


def below_bar(report: Mapping[str, Mapping[str, Any]], bar: float = BAR) -> list[str]:
    """The figures that miss the bar: words by RapidOCR and the reader, and concepts by the judge."""
    asked = [(name, eye) for name in ("held-out words", "insults as plain words") for eye in ("RapidOCR", "reader")]
    asked += [(category, "judge") for category in COUNTS]
    return [f"{name}, {eye}" for name, eye in asked if report[name][eye]["share"] < bar]


def _ceilings(
    host: Host, cases: Sequence[Case], like: Sequence[Image.Image]
) -> Iterator[tuple[str, list[Image.Image]]]:
    zoom = 2 if films(host.pipe.vae) else 1  # such a model draws the same scenes at twice their side
    true = [paint(c.scene, image.width // zoom, zoom=zoom) for c, image in zip(cases, like, strict=True)]
    yield "true pictures", true
    yield "true pictures through the autoencoder", through_autoencoder(host, true)


@torch.no_grad()
def through_autoencoder(host: Host, images: Sequence[Image.Image]) -> list[Image.Image]:
    """Pictures encoded and decoded by the model's autoencoder; no denoiser can draw what is lost here."""
    vae, ends, made = host.pipe.vae, host.pipe.image_processor, list[Image.Image]()
    for start in range(0, len(images), BATCH):
        pixels = ends.preprocess(list(images[start : start + BATCH])).to(vae.device, vae.dtype)
        made += ends.postprocess(through(vae, pixels))
    return made


def _spelling(images: Sequence[Image.Image], cases: Sequence[Case], judges: Judges) -> dict[str, Any]:
    read = [text.replace(" ", "") for text in judges.reader.read(images)]
    seen = [read_sign(judges.ocr, image, c) for image, c in zip(images, cases, strict=True)]
    truth = ["".join(c.scene.lines) for c in cases]
    right = [(a == t, b == t, t in (a, b)) for a, b, t in zip(seen, read, truth, strict=True)]
    return {name: Rate.of(r[i] for r in right).to_json() for i, name in enumerate(_PICTURES)}


def _concepts(images: Sequence[Image.Image], cases: Sequence[Case], category: str, judges: Judges) -> dict[str, Any]:
    """How often each judge sees the category's concept that the caption names; and the one worst drawn."""
    asked = {"style": "style", "place": "ground"}.get(category, "subject")
    wanted = [{"style": c.scene.style, "ground": c.scene.ground}.get(asked, c.scene.subject) for c in cases]
    first, second = (
        [s.answers[asked] == w for s, w in zip(j.look(images), wanted, strict=True)]
        for j in (judges.judge, judges.second)
    )
    each = {w: Rate.of(f for f, v in zip(first, wanted, strict=True) if v == w) for w in dict.fromkeys(wanted)}
    worst = min(each, key=lambda w: each[w].share)
    return {
        "judge": Rate.of(first).to_json(),
        "second judge": Rate.of(second).to_json(),
        "both": Rate.of(a and b for a, b in zip(first, second, strict=True)).to_json(),
        f"worst: {worst}": each[worst].to_json(),
    }


def _facts(images: Sequence[Image.Image], cases: Sequence[Case], judge: Judge) -> dict[str, Any]:
    agrees = [s.agrees(c.scene) for s, c in zip(judge.look(images), cases, strict=True)]
    rows = {name: Rate.of(a[name] for a in agrees).to_json() for name in ANSWERS}
    return rows | {"all": Rate.of(all(a.values()) for a in agrees).to_json()}
