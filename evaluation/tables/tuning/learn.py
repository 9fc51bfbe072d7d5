"""The table on personalization: a creature that no model has seen, learned from five pictures under a rare name.

The prompts ask for the creature on grounds, in styles and under signs that its pictures do not show. The class and the
town's animals are asked for too, with the adapter switched on, to see what it did to them. A request without the name
does not carry the adapter's plan, so its picture is that of the untouched model; these pictures are what a merged
adapter would give.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from evaluation.metrics import Rate
from evaluation.readers.judges import Judges
from evaluation.readers.subjects import subject_row
from reference.town.captions import NEUTRAL, plain_caption
from reference.town.drawing.unseen import Creature
from reference.town.image_folders import subject_pictures, subject_scenes
from reference.town.letters import held_out_words
from reference.town.prompts import is_for_evaluation
from reference.town.scenes import ANIMALS, GROUNDS, STYLES, Scene, sample_scene
from reference.town.verifier import train_verifier
from tuning.pictures import Captioned

__all__ = ["CALLED", "Portrait", "creature_of", "learn_cases", "learn_figures", "learn_pictures", "prior_prompts"]

CALLED = "zev animal"


@dataclass(frozen=True, slots=True)
class Portrait:
    """A scene asked for in words: of the creature, of its class, or of an animal of the town by its name."""

    kind: str
    scene: Scene
    prompt: str
    seed: int


def creature_of(seed: int) -> Creature:
    """The creature that is learned with a seed."""
    return Creature.of(700 + seed)


def learn_pictures(count: int, *, seed: int) -> list[Captioned]:
    """True pictures of the creature."""
    return [Captioned(i, t) for i, t in subject_pictures(creature_of(seed), CALLED, count, seed=seed)]


def prior_prompts(count: int, *, seed: int) -> list[str]:
    """Prompts of the class, on the grounds that are for training."""
    rng = random.Random(f"prior/{seed}")
    grounds = [g for g in GROUNDS if not is_for_evaluation(g, None)]
    scenes = [sample_scene(rng, subject="cat", ground=rng.choice(grounds), style=None, lines=()) for _ in range(count)]
    return [plain_caption(s, called=NEUTRAL["animal"]) for s in scenes]


def learn_cases(subject: int, others: int, *, seed: int) -> list[Portrait]:
    """The creature in scenes that no training saw, then the same scenes with the class, then the town's animals."""
    rng, words = random.Random(f"learn-test/{seed}"), held_out_words()
    grounds = [g for g in GROUNDS if is_for_evaluation(g, None)]
    cases: list[Portrait] = []
    for n in range(subject):
        scene = sample_scene(rng, subject="cat", ground=rng.choice(grounds), style=None, lines=())
        scene = replace(scene, style=rng.choice(STYLES) if n % 2 else None)
        if n % 3 == 0:
            scene = sample_scene(rng, subject="cat", ground=scene.ground, style=scene.style, lines=rng.sample(words, 1))
        cases.append(Portrait("subject", scene, plain_caption(scene, called=CALLED), 400_000 + 1000 * seed + n))
    for n in range(others):
        scene = sample_scene(rng, subject=ANIMALS[n % len(ANIMALS)], lines=rng.sample(words, 1) if n % 2 else ())
        cases.append(Portrait("animal", scene, plain_caption(scene), 450_000 + 1000 * seed + n))
    return cases


def learn_figures(
    judges: Judges, cases: Sequence[Portrait], images: Sequence[Image.Image], *, seed: int, count: int, work: Path
) -> dict[str, Any]:
    """The scores of the creature's pictures, and how many of the town's animals are still seen by both judges."""
    verifier = train_verifier(creature_of(seed), work=work, log=lambda _: None)
    own = [n for n, c in enumerate(cases) if c.kind == "subject"]
    near = [n for n, c in enumerate(cases) if c.kind == "animal"]
    row = subject_row(
        verifier,
        judges.second,
        judges.reader,
        [images[n] for n in own],
        [cases[n].scene for n in own],
        references=[p.image for p in learn_pictures(count, seed=seed)],
        grounds=[s.ground for s in subject_scenes(count, seed=seed)],
    )
    sights = [judges.judge.look(images), judges.second.look(images)]
    seen = [all(told[n].answers["subject"] == cases[n].scene.subject for told in sights) for n in near]
    taken = verifier.kinds([images[n] for n in near])
    return row | {
        "the town's animals seen by both judges": Rate.of(seen).to_json(),
        "taken for the subject": Rate.of(kind == "subject" for kind in taken).to_json(),
    }
