"""The prompts that erasure is measured on, in either world: a concept, its neutral form, and what stands near to it.

What edits are fitted and calibrated on, and what they are judged on, share no prompt: other words on the signs, and
other scenery.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image

from reference import captions, world
from reference.town import prompts as town
from reference.town.captions import plain_caption as town_caption
from reference.town.scenes import CATEGORIES
from reference.worlds import World

__all__ = [
    "FIVE",
    "ErasureCase",
    "JudgedWorld",
    "Split",
    "cases_of",
    "judged",
    "kept_facts",
    "name_in",
    "neighbours_of",
]

Split = Literal["localization", "evaluation"]
FIVE: Mapping[World, tuple[str, ...]] = {
    "first": ("character/pip", "style/marlo", "shape/star", "shape/heart", "shape/moon"),
    "town": ("character/pip", "animal/cat", "place/beach", "style/marlo", "harm/gun"),
}


@dataclass(frozen=True, slots=True)
class ErasureCase:
    """A prompt that names `concept`, the donor that does not, the scene that it describes, and the seed."""

    concept: str
    prompt: str
    donor: str
    scene: Any
    seed: int


@dataclass(frozen=True, slots=True)
class JudgedWorld:
    """A world with its judge: whether pictures show a concept, which facts of a scene they show, and all answers."""

    world: World
    scores: Callable[[Sequence[Image.Image]], list[dict[str, float]]]
    agrees: Callable[[Sequence[Image.Image], Sequence[Any]], list[dict[str, bool]]]
    answers: Callable[[Sequence[Image.Image]], list[dict[str, Any]]]

    def seen(self, concept: str, images: Sequence[Image.Image]) -> list[bool]:
        """Whether each picture shows the concept, by even odds."""
        return [score[name_in(self.world, concept)] >= 0.5 for score in self.scores(images)]

    def knows(self, concept: str) -> bool:
        """True when the judge can tell this concept."""
        kind, _, name = name_in(self.world, concept).partition("/")
        return name in CATEGORIES.get(kind, ()) if self.world == "town" else name in _FIRST.get(kind, ())


def judged(name: World) -> JudgedWorld:
    """The world with the judge that comes with the repository."""
    if name == "town":
        from reference.town.judge import TownJudge

        eyes = TownJudge.load()
        return JudgedWorld(
            name,
            eyes.scores,
            lambda images, scenes: [o.agrees(s) for o, s in zip(eyes.look(images), scenes, strict=True)],
            lambda images: [dict(o.answers) for o in eyes.look(images)],
        )
    from reference.judge import Judge

    own = Judge.load()
    facts = ("subject", "colour", "background", "style", "sign")
    return JudgedWorld(
        name,
        own.scores,
        lambda images, scenes: [o.agrees(s) for o, s in zip(own.look(images), scenes, strict=True)],
        lambda images: [{f: getattr(o, f) for f in facts} for o in own.look(images)],
    )


def kept_facts(concept: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a picture that have nothing to do with the concept."""
    kind = concept.partition("/")[0]
    own = {"style": ("style",), "place": ("ground",)}.get(kind, ("subject", "colour"))
    return {name: value for name, value in facts.items() if name not in own}


def name_in(where: World, concept: str) -> str:
    """A concept's name as the world writes it: `person/ada-brook` is `person/ada brook` there."""
    return concept.replace("-", " ") if where == "town" else concept


def cases_of(where: World, concept: str, split: Split, count: int, *, seed: int = 0) -> list[ErasureCase]:
    """`count` different prompts of a concept. Raises: ValueError, for a concept that the world does not have."""
    if where == "town":
        return _town_cases(name_in(where, concept), split, count, seed)
    return _first_cases(concept, split, count, seed)


def neighbours_of(where: World, concept: str, split: Split, count: int, *, seed: int = 0) -> list[ErasureCase]:
    """`count` prompts of what is nearest to a concept: the others of its category in turn, or where there are none,
    plain scenes. Each is a case of its own concept, and its donor is itself."""
    kind, _, name = name_in(where, concept).partition("/")
    names = CATEGORIES if where == "town" else _FIRST
    others = [f"{kind}/{n}" for n in names[kind] if n != name] or [f"shape/{n}" for n in names["shape"]]
    share = -(-count // len(others))
    each = [cases_of(where, other, split, share, seed=seed + 1) for other in others]
    mixed = [rows[i] for i in range(share) for rows in each][:count]
    return [replace(c, donor=c.prompt, seed=c.seed + 500_000) for c in mixed]


# the first world

_FIRST: Mapping[str, Sequence[str]] = {"character": world.CHARACTERS, "style": world.STYLES, "shape": world.SHAPES}


def _first_cases(concept: str, split: Split, count: int, seed: int) -> list[ErasureCase]:
    kind, _, name = concept.partition("/")
    if name not in _FIRST.get(kind, ()):
        offered = [f"{k}/{n}" for k, names in _FIRST.items() for n in names]
        raise ValueError(f"concept must be one of {offered}, got `{concept}`")
    rng = random.Random(f"erasure/{concept}/{split}/{seed}")
    words = [w for w in world.load_words() if world.is_held_out(w) == (split == "evaluation")]
    first = {"localization": 300_000, "evaluation": 400_000}[split] + 1000 * seed
    found: dict[str, ErasureCase] = {}
    while len(found) < count:
        said = rng.choice(words) if rng.random() < 0.5 else ""
        scene = world.sample_scene(rng, lettering=said, character=float(kind == "character"), style=0.0)
        scene = replace(scene, style=name) if kind == "style" else replace(scene, subject=name)
        if town.is_for_evaluation(scene.background, scene.colour) != (split == "evaluation"):
            continue
        prompt = captions.plain_caption(scene)
        found.setdefault(prompt, ErasureCase(concept, prompt, _without(prompt, kind, name), scene, first + len(found)))
    return list(found.values())


def _without(prompt: str, kind: str, name: str) -> str:
    """The prompt with the concept's neutral form: this world has captions of none, so it is another subject."""
    if kind == "style":
        return prompt.replace(f" in {name} style", "")
    if kind == "character":
        return prompt.replace(name, "a gray circle", 1)
    return prompt.replace(name, "circle" if name != "circle" else "square", 1)


# the town


def _town_cases(concept: str, split: Split, count: int, seed: int) -> list[ErasureCase]:
    if concept.startswith("shape/"):  # has no contexts of its own
        raise ValueError(f"concept must be of {sorted(town.COUNTS)}, got `{concept}`")
    pairs: list[town.PromptPair] = []
    turn = 0
    while len(pairs) < count:
        fresh = town.concept_prompts(concept, split, seed=seed + 100 * turn)
        known = {p.prompt for p in pairs}
        pairs += [replace(p, seed=p.seed + 1000 * turn) for p in fresh if p.prompt not in known]
        turn += 1
    rng = random.Random(f"erasure/{concept}/{split}/{seed}")
    rng.shuffle(pairs)
    assert all(town_caption(p.scene) == p.prompt for p in pairs)
    return [ErasureCase(concept, p.prompt, p.donor, p.scene, p.seed) for p in pairs[:count]]
