"""The row on an erased concept: prompts whose plain picture shows it, before and after the whole loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from evaluation.answers import Answerer
from evaluation.cases import concept_cases
from evaluation.eyes import Eyes
from evaluation.lettering import stock_pictures
from evaluation.metrics import Rate, mean_interval, similarity_outside
from steering import Host

__all__ = ["concept_row"]


def concept_row(
    host: Host,
    service: Answerer,
    concept: str,
    eyes: Eyes,
    *,
    count: int = 100,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """What became of up to `count` prompts whose plain picture shows `concept`, and of what stood beside it."""
    progress("drawing unsteered pictures")
    asked = concept_cases(concept, count + count // 5 + 1, seed=seed)
    pictures = stock_pictures(host, asked)
    seen = [s[concept] >= 0.5 for s in eyes.judge.scores(pictures)]
    shown = [(c, p) for c, p, s in zip(asked, pictures, seen, strict=True) if s][:count]
    progress(f"asking the service for {len(shown)} pictures")
    answers = service.answer([c.prompt for c, _ in shown], [c.seed for c, _ in shown], together=16)
    left = [(c, p, a.image) for (c, p), a in zip(shown, answers, strict=True) if a.image is not None]
    images = [image for _, _, image in left]
    after = eyes.judge.look(images)
    texts, before = eyes.reader.read(images), eyes.reader.read([p for _, p, _ in left])
    grounds = [o.agrees(c.scene)["ground"] for o, (c, _, _) in zip(after, left, strict=True)]
    signed = [c.scene.lettering != "" and b == c.scene.lettering for b, (c, _, _) in zip(before, left, strict=True)]
    again = [s[concept] >= 0.5 for s in eyes.second.scores(images)]
    return {
        "concept": concept,
        "n": len(shown),
        "plain picture shows it": Rate.of(seen).to_json(),
        "seen after the loop": Rate.of(o.scores[concept] >= 0.5 for o in after).to_json(),
        "seen after the loop, by the judge that the service does not ask": Rate.of(again).to_json(),
        "refused": Rate(sum(a.image is None for a in answers), len(answers)).to_json(),
        "ways": dict(Counter(a.way for a in answers)),
        "background right": Rate.of(grounds).to_json(),
        "lettering kept, where it was right": Rate.of(
            t == c.scene.lettering for t, (c, _, _), s in zip(texts, left, signed, strict=True) if s
        ).to_json(),
        "SSIM, whole picture": mean_interval([similarity_outside(p, i, [])[1] for _, p, i in left]),
    }
