"""The table of edits: another word on a picture that the model drew, or on one that it never saw, by several methods.

Given pictures are painted by the town's painter, not by a model, which is what inversion is for. Only pictures whose
word RapidOCR finds are edited, as in the product: the mask is what it found, grown. Figures are of all of those, but
for Prompt-to-Prompt: it draws source and edit together, so it takes the model's own pictures only, and of these the
ones whose new word is as long as the old.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFilter

from evaluation.draw import BATCH
from evaluation.metrics import Rate, edit_distance, mean_interval, similarity_outside
from evaluation.p2p import prompt_to_prompt
from evaluation.readers.judges import Judges, read_words
from reference.town.captions import sample_caption
from reference.town.drawing.paint import paint
from reference.town.letters import held_out_words
from reference.town.scenes import Scene, sample_scene
from steering import Host, Kept, Pack, Plan, Trajectory, mask_of, paste

__all__ = ["METHODS", "EditCase", "edit_cases", "edit_rows"]

Made = Literal["generated", "given"]
_TOGETHER = "Prompt-to-Prompt"
_CLIMBED = "climbed"
METHODS = ("located", "located, no mask", "wider", _CLIMBED, "prompt swapped", "blended", _TOGETHER, "blur")
_SIDE = 64


@dataclass(frozen=True, slots=True)
class EditCase:
    """A picture with a word on it, and the word that is to stand there: `prompt` and `wanted` are captions of both."""

    scene: Scene
    prompt: str
    wanted: str
    word: str
    seed: int


@dataclass(frozen=True, slots=True)
class _Source:
    """A picture to edit: its way, and where its word was found."""

    case: EditCase
    image: Image.Image
    way: Trajectory
    boxes: Sequence[tuple[float, float, float, float]]

    @property
    def mask(self) -> np.ndarray:
        """What may change: the found boxes, grown, and wider for a longer word."""
        return mask_of(self.boxes, self.image.size, longer=len(self.case.word) / max(1, len(self.case.scene.lettering)))


def edit_cases(count: int, *, seed: int, bare: bool = False) -> list[EditCase]:
    """Held-out words on signs of one line, and other held-out words for them, in captions of all forms; `bare`: in
    captions that know nothing of the scene.
    """
    rng, words = random.Random(f"edits/{seed}"), held_out_words()
    found = []
    for n in range(count):
        old, new = rng.sample(words, 2)
        room = sample_scene(rng, lines=[max(old, new, key=len)])  # a sign that has room for both
        scene, form = replace(room, lines=(old,)), rng.getrandbits(32)
        told, wanted = (sample_caption(replace(scene, lines=(word,)), random.Random(form)).text for word in (old, new))
        if bare:
            told, wanted = (f'a sign that says "{word}"' for word in (old, new))
        found.append(EditCase(scene, told, wanted, new, 500_000 + 1000 * seed + n))
    return found


def edit_rows(
    host: Host,
    pack: Pack,
    judges: Judges,
    *,
    made: Made,
    count: int,
    start: int,
    methods: Sequence[str] = METHODS,
    refine: int = 2,
    controller: float = 0.0,
    bare: bool = False,
    call: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """A row for the pictures as they were, one for the new captions drawn plainly, and one for each method.

    start: the first step that is drawn anew. Raises: ValueError, for an unknown method.
    """
    if strange := [m for m in methods if m not in METHODS]:
        raise ValueError(f"methods must be of {', '.join(f'`{m}`' for m in METHODS)}, got `{strange[0]}`")
    call = dict(call or {})
    cases = edit_cases(count, seed=seed, bare=bare)
    began = time.process_time()
    progress(f"{made}: {len(cases)} pictures")
    sources = _sources(host, judges, cases, made, start, refine, controller, call)
    spent = time.process_time() - began
    plainly, seconds = _drawn(host, [(s.case.wanted, s.case.seed, None, None) for s in sources], call)
    rows = {
        "before": _row(judges, sources, [s.image for s in sources]) | {"seconds": round(spent / max(1, len(cases)), 2)},
        "asked plainly": _row(judges, sources, plainly) | {"seconds": seconds},
    }
    steps = len(sources[0].way.timesteps) if sources else 0
    known: dict[str, list[Image.Image]] = {}
    for method in methods:
        progress(f"{made}: {method}")
        over = sources if method != _TOGETHER else _as_long(sources, made)
        if not over:
            rows[method] = {"n": 0}
            continue
        if method == _CLIMBED:
            rows[method] = _climbed(host, pack, judges, over, start, call, known)
            continue
        drawn, seconds = _edited(host, pack, method, over, start, call)
        known[method] = images = _finished(method, over, drawn)
        rows[method] = _row(judges, over, images, drawn) | {"seconds": seconds}
        if method != "blur":
            rows[method] |= {"denoiser steps": steps - (start if method not in ("prompt swapped", _TOGETHER) else 0)}
    return rows


_RUNGS = ("located", "wider", "blended")  # what `palimpsest edit` tries, one after the other
_MASKED = _RUNGS


def _finished(method: str, sources: Sequence[_Source], drawn: Sequence[Image.Image]) -> list[Image.Image]:
    if method not in _MASKED:
        return list(drawn)
    return [paste(s.image, d, s.mask) for s, d in zip(sources, drawn, strict=True)]


def _climbed(
    host: Host,
    pack: Pack,
    judges: Judges,
    sources: Sequence[_Source],
    start: int,
    call: Mapping[str, Any],
    known: Mapping[str, Sequence[Image.Image]],
) -> dict[str, Any]:
    """The row of the first rung whose word RapidOCR reads, as in `palimpsest edit`; the first rung's, if none does.

    known: finished pictures of rungs that were drawn for all sources before.
    """
    images: list[Image.Image | None] = [None] * len(sources)
    left, tried = list(range(len(sources))), dict[str, int]()
    for rung in _RUNGS:
        tried[rung], part = len(left), [sources[i] for i in left]
        if not part:
            continue
        if rung in known:
            made = [known[rung][i] for i in left]
        else:
            made = _finished(rung, part, _edited(host, pack, rung, part, start, call)[0])
        exact = [read_words(judges.ocr, image) == s.case.word for image, s in zip(made, part, strict=True)]
        for i, image, right in zip(left, made, exact, strict=True):
            if right or images[i] is None:
                images[i] = image
        left = [i for i, right in zip(left, exact, strict=True) if not right]
    row = _row(judges, sources, [image for image in images if image is not None])
    return row | {"tried": tried}


def _as_long(sources: Sequence[_Source], made: Made) -> list[_Source]:
    """The sources that Prompt-to-Prompt can edit."""
    return [s for s in sources if made == "generated" and len(s.case.word) == len(s.case.scene.lettering)]


def _sources(
    host: Host,
    judges: Judges,
    cases: Sequence[EditCase],
    made: Made,
    start: int,
    refine: int,
    controller: float,
    call: Mapping[str, Any],
) -> list[_Source]:
    found: list[_Source] = []
    for at in range(0, len(cases), BATCH):
        part = cases[at : at + BATCH]
        prompts, seeds = [c.prompt for c in part], [c.seed for c in part]
        if made == "generated":
            out = host.generate(prompts, plans=[None] * len(part), seeds=seeds, record=True, **call)
            images, ways = list(out.images), out.trajectories
        else:
            images = [paint(c.scene, _SIDE) for c in part]
            given: dict[str, Any] = {"first": max(1, start), "refine": refine, "controller": controller}
            ways = host.invert(images, prompts, **given, **call)
        for case, image, way in zip(part, images, ways, strict=True):
            boxes = [
                (r.box.left, r.box.top, r.box.right, r.box.bottom)
                for r in judges.ocr.read(image)
                if not r.turned and edit_distance(r.text.upper(), case.scene.lettering) <= 1
            ]
            if boxes:
                found.append(_Source(case, image, way, boxes))
    return found


def _edited(
    host: Host, pack: Pack, method: str, sources: Sequence[_Source], start: int, call: Mapping[str, Any]
) -> tuple[list[Image.Image], float]:
    """The pictures of a method as they were drawn, and the seconds of processor time for each."""
    if method == "blur":
        began = time.process_time()
        soft = [paste(s.image, s.image.filter(ImageFilter.GaussianBlur(4)), s.mask) for s in sources]
        return soft, round((time.process_time() - began) / max(1, len(soft)), 3)
    if method == _TOGETHER:
        began, made = time.process_time(), list[Image.Image]()
        for at in range(0, len(sources), BATCH // 2):
            cases = [s.case for s in sources[at : at + BATCH // 2]]
            told, wanted, seeds = zip(*((c.prompt, c.wanted, c.seed) for c in cases), strict=True)
            made += prompt_to_prompt(host, told, wanted, seeds, **call).targets
        return made, round((time.process_time() - began) / max(1, len(made)), 3)
    asked: list[tuple[str, int, Plan | None, Kept | None]] = []
    for source in sources:
        case, first = source.case, max(start, source.way.first)
        if method == "prompt swapped":
            kept = Kept(source.way, None, first) if source.way.first else None
            asked.append((case.wanted, case.seed, None, kept))
        elif method == "blended":
            asked.append((case.wanted, case.seed, None, Kept(source.way, source.mask, first)))
        else:
            mask = None if method == "located, no mask" else source.mask
            plan = pack.plan(toward=case.wanted, wider=method == "wider")
            asked.append((case.prompt, case.seed, plan, Kept(source.way, mask, first)))
    return _drawn(host, asked, call)


def _drawn(
    host: Host, asked: Sequence[tuple[str, int, Plan | None, Kept | None]], call: Mapping[str, Any]
) -> tuple[list[Image.Image], float]:
    began, images = time.process_time(), list[Image.Image]()
    for at in range(0, len(asked), BATCH):
        prompts, seeds, plans, kept = zip(*asked[at : at + BATCH], strict=True)
        images += host.generate(prompts, plans=plans, seeds=seeds, kept=kept, **call).images
    return images, round((time.process_time() - began) / max(1, len(asked)), 3)


def _row(
    judges: Judges, sources: Sequence[_Source], images: Sequence[Image.Image], drawn: Sequence[Image.Image] = ()
) -> dict[str, Any]:
    """What stands on the pictures, and what of the rest is as it was."""
    read, seen = judges.reader.read(images), [read_words(judges.ocr, image) for image in images]
    sights = judges.second.look(images)
    before = judges.second.look([s.image for s in sources])
    old = [s.case.scene.lettering for s in sources]
    facts: dict[str, Rate] = {}
    for fact in ("subject", "ground", "style"):
        kept = [
            now.agrees(s.case.scene)[fact]
            for was, now, s in zip(before, sights, sources, strict=True)
            if was.agrees(s.case.scene)[fact]
        ]
        facts[f"{fact} kept"] = Rate.of(kept)
    return {
        "new word exact, RapidOCR": Rate.of(t == s.case.word for t, s in zip(seen, sources, strict=True)).to_json(),
        "new word exact, reader": Rate.of(t == s.case.word for t, s in zip(read, sources, strict=True)).to_json(),
        "old word gone": Rate.of(
            min(edit_distance(a, word), edit_distance(b, word)) > 1 for a, b, word in zip(read, seen, old, strict=True)
        ).to_json(),
        **{name: rate.to_json() for name, rate in facts.items()},
        **_outside(sources, images, ""),
        **(_outside(sources, drawn, ", as drawn") if drawn else {}),
    }


def _outside(sources: Sequence[_Source], images: Sequence[Image.Image], name: str) -> dict[str, Any]:
    """How like the source the pictures are outside of what may change."""
    ssim, psnr, equal = [], [], []
    for source, image in zip(sources, images, strict=True):
        rows, columns = (np.flatnonzero(source.mask.max(axis)) for axis in (1, 0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        ssim.append(similarity_outside(source.image, image, [box], margin=0)[0])
        a, b = (np.asarray(i.convert("RGB"), float)[source.mask == 0] for i in (source.image, image))
        error = float(((a - b) ** 2).mean())
        equal.append(error == 0)
        psnr.append(min(100.0, 10 * float(np.log10(255**2 / max(error, 1e-6)))))
    return {
        f"SSIM outside{name}": mean_interval(ssim),
        f"PSNR outside{name}, at most 100": mean_interval(psnr),
        f"pixels outside equal{name}": Rate.of(equal).to_json(),
    }
