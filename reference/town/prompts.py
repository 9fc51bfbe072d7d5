"""Prompt sets that ask for a concept in many contexts, with a neutral form; localization and evaluation are apart.

The sets have the shape of LocK (Zarei et al., *Localizing Knowledge in Diffusion Transformers*, 2025, arXiv
2505.18832): a concept stands in many contexts, some to localize with and others to evaluate with, and each prompt has a
neutral form that names no concept. A context is a background, a style and a sign. A hash of background and style
decides which side it belongs to, and the held-out rule decides its words. A context to evaluate with therefore shares
neither scenery nor lettering with any context to localize with.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from reference.town.captions import NEUTRAL, plain_caption
from reference.town.letters import held_out_words, is_held_out, load_words
from reference.town.scenes import CATEGORIES, GROUNDS, STYLES, Scene, category_of, sample_scene

__all__ = [
    "COUNTS",
    "PromptPair",
    "Split",
    "concept_prompts",
    "contexts",
    "different_prompts",
    "is_for_evaluation",
]

Split = Literal["localization", "evaluation"]

# contexts of each category, as many as the paper has: to localize with, to evaluate with
COUNTS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "style": (20, 30),
        "place": (10, 20),
        "character": (20, 30),
        "animal": (20, 30),
        "person": (20, 25),
        "harm": (10, 20),
    }
)


@dataclass(frozen=True, slots=True)
class PromptPair:
    """A prompt, and the one that it is contrasted with.

    Attributes:
        concept: what the prompt asks for and the donor does not: `animal/cat`, or `lettering`.
        prompt, donor: they differ in the concept and in nothing else.
        scene: what the prompt describes; its subject, place and style can be judged, its layout is free.
        split: what the pair may be used for.
        seed: of the picture.
    """

    concept: str
    prompt: str
    donor: str
    scene: Scene
    split: Split
    seed: int

    def to_json(self) -> dict[str, str | int]:
        """The pair as `localize --prompts` reads it from a line."""
        return {
            "prompt": self.prompt,
            "donor": self.donor,
            "seed": self.seed,
            "concept": self.concept,
            "split": self.split,
        }


def is_for_evaluation(ground: str | None, style: str | None) -> bool:
    """Whether scenery is kept for evaluation: true for half of all pairs of a ground and a style."""
    return hashlib.sha256(f"palimpsest-context:{ground}/{style}".encode()).digest()[0] < 128


def contexts(category: str, split: Split, *, seed: int = 0) -> tuple[Scene, ...]:
    """The category's contexts, as scenes whose subject, ground or style the concept takes the place of.

    Raises:
        ValueError: a category without contexts.
    """
    if category not in COUNTS:
        raise ValueError(f"category must be one of {sorted(COUNTS)}, got `{category}`")
    rng = random.Random(f"contexts/{category}/{split}/{seed}")
    evaluation = split == "evaluation"
    words = held_out_words() if evaluation else [w for w in load_words() if not is_held_out(w)]
    found: dict[str, Scene] = {}
    while len(found) < COUNTS[category][evaluation]:
        scene = _context(rng, category, (rng.choice(words),) if rng.random() < 0.5 else ())
        if is_for_evaluation(*_scenery(scene, category)) == evaluation:
            found.setdefault(_frame(scene, category)[0], scene)
    return tuple(found.values())


def _context(rng: random.Random, category: str, lines: tuple[str, ...]) -> Scene:
    """A random context; harmless in all but the concept."""
    harmless = [n for c in ("shape", "animal", "character", "person") for n in CATEGORIES[c]]
    fixed = CATEGORIES[category][0]
    return sample_scene(
        rng,
        lines=lines,
        subject=rng.choice(harmless) if category in ("place", "style") else fixed,
        ground=fixed if category == "place" else rng.choice(GROUNDS),
        style=fixed if category == "style" else rng.choice((None, *STYLES)),
    )


def _scenery(scene: Scene, category: str) -> tuple[str | None, str | None]:
    """What of the context is not the concept: ground and style, or with the subject in the concept's stead."""
    ground = scene.subject if category == "place" else scene.ground
    return ground, (scene.subject if category == "style" else scene.style)


def _named(scene: Scene, concept: str) -> Scene:
    """The scene with the concept in it."""
    category, _, name = concept.partition("/")
    if category == "style":
        return replace(scene, style=name)
    return replace(scene, ground=name) if category == "place" else replace(scene, subject=name)


def _frame(scene: Scene, category: str) -> tuple[str, str]:
    """The context as a template with `{}`, and the neutral prompt."""
    caption = plain_caption(scene)
    first = CATEGORIES[category][0]
    if category == "style":
        return caption.replace(f" in {first} style", " in {} style"), caption.replace(f" in {first} style", "")
    words = {"place": f"on the {first}", "animal": f"a {first}", "harm": f"a {first}"}.get(category, first)
    return caption.replace(words, "{}", 1), caption.replace(words, NEUTRAL[category], 1)


def concept_prompts(concept: str, split: Split, *, seeds: int = 1, seed: int = 0) -> list[PromptPair]:
    """The concept in every context of its category, each context with `seeds` pictures.

    Raises:
        ValueError: a concept that the town does not have, or whose category has no contexts.
    """
    category, _, name = concept.partition("/")
    if category not in COUNTS or name not in CATEGORIES[category] or category_of(name) != category:
        offered = sorted(f"{c}/{n}" for c in COUNTS for n in CATEGORIES[c])
        raise ValueError(f"concept must be one of {offered}, got `{concept}`")
    first = 200_000 if split == "evaluation" else 100_000
    pairs = []
    for number, context in enumerate(contexts(category, split, seed=seed)):
        scene = _named(context, concept)
        neutral = _frame(context, category)[1]
        own = first + 10 * number
        pairs += [PromptPair(concept, plain_caption(scene), neutral, scene, split, own + s) for s in range(seeds)]
    return pairs


def different_prompts(concept: str, split: Split, count: int, *, seed: int = 0) -> list[PromptPair]:
    """`count` prompts of a concept in a random order, no two of them the same, in as many sets of contexts as it takes.

    Raises:
        ValueError: a concept that the town does not have, or whose category has no contexts.
    """
    found: dict[str, PromptPair] = {}
    turn = 0
    while len(found) < count:
        for pair in concept_prompts(concept, split, seed=seed + 100 * turn):
            found.setdefault(pair.prompt, replace(pair, seed=pair.seed + 1000 * turn))
        turn += 1
    pairs = list(found.values())
    random.Random(f"different/{concept}/{split}/{seed}").shuffle(pairs)
    return pairs[:count]
