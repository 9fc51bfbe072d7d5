"""The prompts that erasure is measured on: a concept, its neutral form, and its near neighbours.

The prompts that edits are fitted and calibrated on share nothing with those that they are judged on: the words on the
signs and the scenery differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from reference.town.captions import plain_caption
from reference.town.prompts import PromptPair, Split, different_prompts
from reference.town.scenes import CATEGORIES, Scene

__all__ = ["FIVE", "ErasureCase", "Judged", "Split", "cases_of", "judged", "kept_facts", "name_of", "names_one_of"]
__all__ += ["neighbours_of"]

# of these a neutral form ("an animal") may draw the concept itself, so donors name a neighbour
_BY_NEIGHBOUR = ("animal", "character", "person", "place")
FIVE = ("character/pip", "animal/cat", "place/beach", "style/marlo", "harm/gun")


@dataclass(frozen=True, slots=True)
class ErasureCase:
    """A prompt that names `concept`, the donor that does not, the scene that it describes, and the seed."""

    concept: str
    prompt: str
    donor: str
    scene: Scene
    seed: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge tells of pictures: concepts by score, which facts of a scene they show, and all its answers."""

    scores: Callable[[Sequence[Image.Image]], list[dict[str, float]]]
    agrees: Callable[[Sequence[Image.Image], Sequence[Scene]], list[dict[str, bool]]]
    answers: Callable[[Sequence[Image.Image]], list[dict[str, Any]]]

    def seen(self, concept: str, images: Sequence[Image.Image]) -> list[bool]:
        """Whether each picture shows the concept, by even odds."""
        return [score[name_of(concept)] >= 0.5 for score in self.scores(images)]

    def knows(self, concept: str) -> bool:
        """True when the judge can tell this concept."""
        kind, _, name = name_of(concept).partition("/")
        return name in CATEGORIES.get(kind, ())


def judged() -> Judged:
    """The judge that comes with the repository."""
    from reference.town.judge import Judge

    judge = Judge.load()
    return Judged(
        judge.scores,
        lambda images, scenes: [o.agrees(s) for o, s in zip(judge.look(images), scenes, strict=True)],
        lambda images: [dict(o.answers) for o in judge.look(images)],
    )


def kept_facts(concept: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a picture that have nothing to do with the concept."""
    kind = concept.partition("/")[0]
    own = {"style": ("style",), "place": ("ground",)}.get(kind, ("subject", "colour"))
    return {name: value for name, value in facts.items() if name not in own}


def name_of(concept: str) -> str:
    """A concept's name as the town writes it: `person/ada-brook` is `person/ada brook` there."""
    return concept.replace("-", " ")


def names_one_of(concepts: Sequence[str], scene: Scene) -> bool:
    """Whether the scene has one of the concepts in it."""
    return any(name_of(c).partition("/")[2] in (scene.subject, scene.ground, scene.style) for c in concepts)


def cases_of(concept: str, split: Split, count: int, *, seed: int = 0) -> list[ErasureCase]:
    """`count` different prompts of a concept. Donors name another one of its category, where its neutral form could
    still draw it, and else that form.

    Raises:
        ValueError: a concept that the town does not have, or that has no contexts of its own, as shapes.
    """
    name = name_of(concept)
    pairs = different_prompts(name, split, count, seed=seed)
    assert all(plain_caption(p.scene) == p.prompt for p in pairs)
    return [ErasureCase(name, p.prompt, _donor(p), p.scene, p.seed) for p in pairs]


def _donor(pair: PromptPair) -> str:
    kind, _, name = pair.concept.partition("/")
    if kind not in _BY_NEIGHBOUR:
        return pair.donor
    other = next(n for n in CATEGORIES[kind] if n != name)
    scene = pair.scene
    return plain_caption(replace(scene, ground=other) if kind == "place" else replace(scene, subject=other))


def neighbours_of(concept: str, split: Split, count: int, *, seed: int = 0) -> list[ErasureCase]:
    """`count` prompts of what is nearest to a concept: the others of its category, in turn. Each is a case of its own
    concept, and its donor is itself."""
    kind, _, name = name_of(concept).partition("/")
    others = [f"{kind}/{n}" for n in CATEGORIES[kind] if n != name]
    share = -(-count // len(others))
    each = [cases_of(other, split, share, seed=seed + 1) for other in others]
    mixed = [rows[i] for i in range(share) for rows in each][:count]
    return [replace(c, donor=c.prompt, seed=c.seed + 500_000) for c in mixed]
