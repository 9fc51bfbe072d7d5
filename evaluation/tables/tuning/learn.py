"""The table on personalization: a creature that no model has seen, learned from five pictures under a rare name.

The prompts ask for the creature on grounds, in styles and under signs that its pictures do not show. The class and the
town's animals are asked for too, with the adapter switched on, to see what it did to them. A request without the name
does not carry the adapter's plan, so its picture is that of the untouched model; these pictures are what a merged
adapter would give.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from evaluation.readers.judges import Judges
from evaluation.readers.subjects import FACTS, facts_right, identity_scores
from evaluation.tables.tuning.cells import Asked, Outcomes
from reference.town.captions import NEUTRAL, plain_caption
from reference.town.drawing.paint import paint
from reference.town.drawing.unseen import Creature
from reference.town.image_folders import subject_pictures, subject_scenes
from reference.town.letters import held_out_words
from reference.town.prompts import is_for_evaluation
from reference.town.scenes import ANIMALS, GROUNDS, STYLES, sample_scene
from reference.town.verifier import train_verifier
from tuning.pictures import Captioned

__all__ = [
    "CALLED",
    "creature_of",
    "learn_cases",
    "learn_outcomes",
    "learn_pictures",
    "prior_prompts",
    "true_portraits",
    "with_class",
]

CALLED = "zev animal"


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


def learn_cases(subject: int, others: int, *, seed: int) -> list[Asked]:
    """The creature in scenes that no training saw, then the same scenes with the class, then the town's animals."""
    rng, words = random.Random(f"learn-test/{seed}"), held_out_words()
    grounds = [g for g in GROUNDS if is_for_evaluation(g, None)]
    cases: list[Asked] = []
    for n in range(subject):
        scene = sample_scene(rng, subject="cat", ground=rng.choice(grounds), style=None, lines=())
        scene = replace(scene, style=rng.choice(STYLES) if n % 2 else None)
        if n % 3 == 0:
            scene = sample_scene(rng, subject="cat", ground=scene.ground, style=scene.style, lines=rng.sample(words, 1))
        cases.append(Asked("subject", scene, plain_caption(scene, called=CALLED), 400_000 + 1000 * seed + n))
    for n in range(others):
        scene = sample_scene(rng, subject=ANIMALS[n % len(ANIMALS)], lines=rng.sample(words, 1) if n % 2 else ())
        cases.append(Asked("animal", scene, plain_caption(scene), 450_000 + 1000 * seed + n))
    return cases


def with_class(cases: Sequence[Asked]) -> list[Asked]:
    """The same cases with the class in the name's stead: what an untuned model is asked."""
    return [
        replace(c, prompt=plain_caption(c.scene, called=NEUTRAL["animal"])) if c.kind == "subject" else c for c in cases
    ]


def learn_outcomes(
    judges: Judges, cases: Sequence[Asked], images: Sequence[Image.Image], *, seed: int, count: int, work: Path
) -> Outcomes:
    """Identity and other facts of the creature's pictures, and which of the town's animals are still seen."""
    verifier = train_verifier(creature_of(seed), work=work, log=lambda _: None)
    own = [n for n, c in enumerate(cases) if c.kind == "subject"]
    near = [n for n, c in enumerate(cases) if c.kind == "animal"]
    pictures, scenes = [images[n] for n in own], [cases[n].scene for n in own]
    facts = facts_right(judges.second, judges.reader, pictures, scenes)
    grounds = [s.ground for s in subject_scenes(count, seed=seed)]
    sights = list(zip(judges.judge.look(images), judges.second.look(images), strict=True))
    return {
        "identity score": identity_scores(verifier, pictures, [p.image for p in learn_pictures(count, seed=seed)]),
        "accepted by the verifier": [kind == "subject" for kind in verifier.kinds(pictures)],
        "prompt alignment": [float(sum(f.values()) / len(f)) for f in facts],
        **{f"{name} right": [f[name] for f in facts if name in f] for name in FACTS},
        "background repasted": [
            sights[n][1].answers["ground"] in grounds and sights[n][1].answers["ground"] != cases[n].scene.ground
            for n in own
        ],
        "the town's animals seen by both judges": [
            all(s.answers["subject"] == cases[n].scene.subject for s in sights[n]) for n in near
        ],
        "the town's animals taken for the creature": [
            kind == "subject" for kind in verifier.kinds([images[n] for n in near])
        ],
    }


def true_portraits(cases: Sequence[Asked], *, seed: int) -> list[Image.Image]:
    """What the creature's pictures would be if they were true, and ordinary pictures of the other cases."""
    drawn = {"subject": creature_of(seed).draw}
    return [paint(c.scene, 64, drawing=drawn.get(c.kind)) for c in cases]
