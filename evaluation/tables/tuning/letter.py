"""The table on lettering: LoRA at the located sites, at others, and on all attention, trained on signs of two lines.

Half of the pictures to learn from have two lines, the others are ordinary, so that the rest of the model is held. The
judges and the reader are those of the other tables; test words are held out, and no scene is one that was trained on.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image

from evaluation.readers.judges import Judges
from evaluation.tables.tuning.cells import Asked, Outcomes
from reference.town.captions import sample_caption
from reference.town.drawing.paint import paint
from reference.town.judge import truth
from reference.town.letters import held_out_words
from reference.town.scenes import sample_scene
from tuning.pictures import Captioned

__all__ = ["letter_outcomes", "letter_pictures", "sign_cases"]


def letter_pictures(count: int, *, seed: int) -> list[Captioned]:
    """Pictures of the town to learn from; at least half of them have signs of two lines."""
    rng = random.Random(f"letter/{seed}")
    found: list[Captioned] = []
    while len(found) < count:
        scene = sample_scene(rng)
        if len(scene.lines) == 2 or len(found) % 2:
            found.append(Captioned(paint(scene, 64), sample_caption(scene, rng).text))
    return found


def sign_cases(two: int, one: int, *, seed: int) -> list[Asked]:
    """Held-out signs of two lines, then of one, under captions of all forms."""
    rng, words = random.Random(f"letter-test/{seed}"), held_out_words()
    lines = [rng.sample(words, 2) for _ in range(two)] + [rng.sample(words, 1) for _ in range(one)]
    scenes = [sample_scene(rng, lines=said) for said in lines]
    return [Asked("sign", s, sample_caption(s, rng).text, 300_000 + 1000 * seed + n) for n, s in enumerate(scenes)]


def letter_outcomes(judges: Judges, cases: Sequence[Asked], images: Sequence[Image.Image]) -> Outcomes:
    """Which signs are read exactly, and which facts beside the lettering are right."""
    said = judges.reader.read(images)
    exact = [read == case.scene.lettering for read, case in zip(said, cases, strict=True)]
    told: dict[str, list[bool]] = {
        f"{name} read exactly": [e for e, c in zip(exact, cases, strict=True) if len(c.scene.lines) == lines]
        for lines, name in ((2, "two lines"), (1, "one line"))
    }
    sights = [
        {f: v for f, v in sight.agrees(case.scene).items() if truth(case.scene)[f]}
        for sight, case in zip(judges.second.look(images), cases, strict=True)
    ]
    told |= {fact: [s[fact] for s in sights if fact in s] for fact in ("subject", "colour", "ground", "style", "sign")}
    return {**told, "all facts": [v for s in sights for v in s.values()]}
