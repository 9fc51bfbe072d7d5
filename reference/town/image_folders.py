"""Writes folders to fine-tune on, in the `imagefolder` form of Hugging Face's datasets: pictures and `metadata.jsonl`.

A subject stands on grounds that `is_for_evaluation` leaves, and no sign says a held-out string. The same arguments give
the same pictures and captions.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from reference.town.captions import NEUTRAL, plain_caption, sample_caption
from reference.town.drawing.paint import paint
from reference.town.drawing.unseen import Creature
from reference.town.letters import MAX_LETTERS, sample_lettering
from reference.town.prompts import is_for_evaluation
from reference.town.scenes import ANIMALS, GROUNDS, Scene, sample_scene

__all__ = ["class_pictures", "sign_pictures", "subject_pictures", "subject_scenes", "write_imagefolder"]

Captioned = tuple[Image.Image, str]


def write_imagefolder(folder: Path, pictures: Iterable[Captioned]) -> int:
    """Writes `00000.png`, ... and `metadata.jsonl`, a line `{"file_name", "text"}` a picture; says how many.

    Raises:
        FileExistsError: the folder holds something; pictures of two sets must not mix.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"folder must be empty, got `{folder}`")
    lines = []
    for number, (image, text) in enumerate(pictures):
        name = f"{number:05d}.png"
        image.save(folder / name)
        lines.append(json.dumps({"file_name": name, "text": text}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines), "utf-8")
    return len(lines)


def subject_scenes(count: int, *, seed: int, size: int = 64) -> list[Scene]:
    """`count` scenes of an animal without style or sign, each on a ground of its own.

    Raises:
        ValueError: there are fewer grounds to train on.
    """
    rng = random.Random(f"subject/{seed}")
    grounds = [g for g in GROUNDS if not is_for_evaluation(g, None)]
    if not 0 < count <= len(grounds):
        raise ValueError(f"count must be from 1 to {len(grounds)}, the grounds to train on, got {count}")
    return [
        sample_scene(rng, size=size, subject=rng.choice(ANIMALS), ground=g, style=None, lines=())
        for g in rng.sample(grounds, count)
    ]


def subject_pictures(creature: Creature, called: str, count: int = 5, *, seed: int, size: int = 64) -> list[Captioned]:
    """Pictures of a creature in `subject_scenes`; captions name it `called`, for instance `zev animal`."""
    return [
        (paint(scene, size, drawing=creature.draw), plain_caption(scene, called=called))
        for scene in subject_scenes(count, seed=seed, size=size)
    ]


def class_pictures(count: int, *, seed: int, size: int = 64) -> list[Captioned]:
    """Pictures of the town's animals, captioned `an animal`: what the class must go on to look like."""
    rng = random.Random(f"class/{seed}")
    scenes = [sample_scene(rng, size=size, subject=rng.choice(ANIMALS)) for _ in range(count)]
    return [(paint(s, size), sample_caption(s, rng, vague=0.0, called=NEUTRAL["animal"]).text) for s in scenes]


def sign_pictures(count: int, *, lines: int, seed: int, size: int = 64) -> list[Captioned]:
    """Pictures with a sign of one or two lines, and captions of all forms.

    Raises:
        ValueError: a sign has one or two lines.
    """
    if lines not in (1, 2):
        raise ValueError(f"lines must be 1 or 2, got {lines}")
    rng = random.Random(f"signs/{lines}/{seed}")
    made = []
    for _ in range(count):
        scene = sample_scene(rng, size=size, lines=[sample_lettering(rng, MAX_LETTERS[size]) for _ in range(lines)])
        made.append((paint(scene, size), sample_caption(scene, rng).text))
    return made
