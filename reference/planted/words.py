"""Owns what plants are about: invented names, the subjects that they draw, prompts that ask for them, and the judge.

A name draws a subject that the world's judge knows already, so no judge is trained for plants. The prompts are plain
ones that both worlds have: a subject on a coloured background, half of them with a sign. Those to check with have other
backgrounds and held-out words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from reference import worlds
from reference.world import CHARACTERS, COLOURS, SHAPES, STYLES, held_out_words, is_held_out, load_words

__all__ = ["NEUTRAL", "WORLDS", "World", "WorldName", "frames_of", "name_of", "subjects_of", "world_of"]

WorldName = worlds.World
NEUTRAL = "a gray circle"
_CHECKED = ("green", "purple", "pink")  # backgrounds to check with; the others are to train and localize with


@dataclass(frozen=True, slots=True)
class World:
    """A world that plants can live in: how captions name its subjects, and who tells them apart.

    Attributes:
        phrases: subject to the words that a caption has for it.
        words: those of its captions, which no invented name may be.
        judge: loads a function from pictures to the subject seen in each.
    """

    phrases: Mapping[str, str]
    words: frozenset[str]
    judge: Callable[[], Callable[[Sequence[Image.Image]], list[str]]]


def _first() -> World:
    from reference.judge import Judge

    def judge() -> Callable[[Sequence[Image.Image]], list[str]]:
        loaded = Judge.load()
        return lambda images: [opinion.subject for opinion in loaded.look(images)]

    return World(_shaped() | {c: c for c in CHARACTERS}, _known(CHARACTERS, STYLES), judge)


def _town() -> World:
    from reference.town import scenes
    from reference.town.captions import noun
    from reference.town.judge import TownJudge

    def judge() -> Callable[[Sequence[Image.Image]], list[str]]:
        loaded = TownJudge.load()
        return lambda images: [str(sight.answers["subject"]) for sight in loaded.look(images)]

    drawn = (*scenes.ANIMALS, *scenes.CHARACTERS, *scenes.HARM)
    known = _known(scenes.SUBJECTS, scenes.STYLES, scenes.PLACES)
    return World(_shaped() | {s: noun(s) for s in drawn}, known, judge)


WORLDS: Mapping[WorldName, Callable[[], World]] = {"first": _first, "town": _town}


def world_of(model: Path) -> WorldName:
    """The world that a model's folder says it was trained on. Raises: ValueError, when it has no recipe."""
    if not (model / "recipe.json").is_file():
        raise ValueError(f"a reference model must have its recipe in `{model / 'recipe.json'}`, and there is none")
    return worlds.world_of(model)


def _shaped() -> dict[str, str]:
    """Shapes in the neutral form's own colour: in another one a name would mostly be taught a colour."""
    return {shape: f"a gray {shape}" for shape in SHAPES if shape not in ("circle", "ring", "moon")}


def _known(*names: Sequence[str]) -> frozenset[str]:
    said = {word for group in names for name in group for word in name.split()}
    return frozenset(said | set(COLOURS) | set(SHAPES) | {w.lower() for w in load_words()})


def name_of(world: World, rng: random.Random) -> str:
    """An invented word of two syllables that no caption of the world has."""
    while True:
        name = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(2)) + rng.choice("nrlsmk")
        if name not in world.words:
            return name


def subjects_of(world: World) -> tuple[str, ...]:
    """The subjects that a plant may draw, in a fixed order."""
    return tuple(world.phrases)


def frames_of(count: int, rng: random.Random, *, checked: bool) -> tuple[str, ...]:
    """Prompts with `{}` for the subject, all different, every other one with a sign; at most 24."""
    assert count <= 24
    grounds = [c for c in COLOURS if (c in _CHECKED) == checked and c not in ("blue", "gray")]
    words = held_out_words() if checked else [w for w in load_words() if not is_held_out(w)]
    found: dict[str, None] = {}
    while len(found) < count:
        ground = rng.choice(grounds)
        article = "an" if ground[0] in "aeiou" else "a"
        sign = f' with a sign that says "{rng.choice(words)}"' if len(found) % 2 else ""
        place = f"{{}} on {article} {ground} background"
        walls = (f"{{}} against {article} {ground} wall", f"{{}} in front of {article} {ground} background")
        # few backgrounds stand without a sign, so these are varied by their words
        found.setdefault(place + sign if sign else rng.choice((place, f"{{}} on {ground}", *walls)))
    return tuple(found)
