"""The prompt sets of the tables: scenes of the town, seeded, with words and contexts that no training saw."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policies import SHIPPED
from reference.town.captions import plain_caption, sample_caption
from reference.town.letters import ALPHABET, MAX_LETTERS, drawable, held_out_words
from reference.town.prompts import COUNTS, concept_prompts, different_prompts
from reference.town.scenes import CATEGORIES, STYLES, Scene, sample_scene

__all__ = [
    "SHIPPED_INSULTS",
    "Case",
    "benign_cases",
    "category_cases",
    "concept_cases",
    "lettering_cases",
    "load_word_list",
    "sign_cases",
    "two_line_cases",
    "varied_cases",
]

SHIPPED_INSULTS = SHIPPED / "lists" / "toxic.en.txt"


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt, the scene that it describes, and the seed of its picture."""

    prompt: str
    scene: Scene
    seed: int


def load_word_list(path: Path) -> tuple[str, ...]:
    """The entries of a policy's list file: one per line, `#` begins a comment."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return tuple(line for line in lines if line)


def sign_cases(words: Sequence[str], count: int, *, plain: bool, first_seed: int = 10_000) -> list[Case]:
    """`count` cases with one of `words`, in turn, on one line in any font; captions vary unless `plain`.

    Raises:
        ValueError: no word can stand on a sign.
    """
    fit = _fitting(words)
    rng = random.Random(f"town/signs/{plain}")
    scenes = [_harmless(rng, lines=(fit[i % len(fit)],)) for i in range(count)]
    return [_case(s, rng, first_seed + i, plain=plain) for i, s in enumerate(scenes)]


def two_line_cases(count: int, *, first_seed: int = 20_000) -> list[Case]:
    """`count` cases with two held-out words, one over the other."""
    rng = random.Random("town/two lines")
    scenes = [_harmless(rng, lines=tuple(rng.sample(held_out_words(), 2))) for _ in range(count)]
    return [_case(s, rng, first_seed + i, plain=True) for i, s in enumerate(scenes)]


def varied_cases(count: int, *, first_seed: int = 30_000) -> list[Case]:
    """`count` scenes of every kind in varied captions; nine in ten have a held-out word on a sign."""
    rng = random.Random("town/varied")
    words = held_out_words()
    scenes = [sample_scene(rng, lines=(rng.choice(words),) if rng.random() < 0.9 else ()) for _ in range(count)]
    return [_case(s, rng, first_seed + i, plain=False) for i, s in enumerate(scenes)]


def category_cases(category: str, count: int) -> list[Case]:
    """`count` cases that name a concept of the category, its concepts in turn, in contexts kept for evaluation.

    Raises:
        ValueError: a category without contexts.
    """
    if category not in COUNTS:
        raise ValueError(f"category must be one of {sorted(COUNTS)}, got `{category}`")
    names = CATEGORIES[category]
    each = [concept_prompts(f"{category}/{name}", "evaluation", seeds=10) for name in names]
    rng = random.Random(f"town/{category}")
    for pairs in each:
        rng.shuffle(pairs)
    most = len(names) * len(each[0])
    if count > most:
        raise ValueError(f"count must be at most {most} for `{category}`, got {count}")
    chosen = [each[i % len(names)][i // len(names)] for i in range(count)]
    return [Case(pair.prompt, pair.scene, pair.seed) for pair in chosen]


def lettering_cases(words: Sequence[str], count: int, *, seed: int = 0) -> list[Case]:
    """`count` cases whose sign says one of `words`, in turn, in varied captions of scenes that no other rule touches.

    Raises:
        ValueError: no word can stand on a sign.
    """
    fit = _fitting(words)
    rng = random.Random(f"town/lettering/{seed}")
    subjects = [n for c in ("shape", "animal", "person") for n in CATEGORIES[c]]
    scenes = [
        sample_scene(
            rng,
            lines=(fit[i % len(fit)],),
            subject=rng.choice(subjects),
            style=rng.choice(STYLES[1:]) if rng.random() < 0.3 else None,  # the first one is erased
        )
        for i in range(count)
    ]
    return [_case(s, rng, 10_000 + 100_000 * seed + i, plain=False) for i, s in enumerate(scenes)]


def benign_cases(count: int, *, seed: int = 0) -> list[Case]:
    """`count` cases that no shipped rule should touch: shapes and animals, four of five with a held-out word."""
    rng = random.Random(f"town/benign/{seed}")
    words, subjects = held_out_words(), [*CATEGORIES["shape"], *CATEGORIES["animal"]]
    scenes = [
        sample_scene(
            rng, lines=(rng.choice(words),) if rng.random() < 0.8 else (), subject=rng.choice(subjects), style=None
        )
        for _ in range(count)
    ]
    return [_case(s, rng, 50_000 + 100_000 * seed + i, plain=False) for i, s in enumerate(scenes)]


def concept_cases(concept: str, count: int, *, seed: int = 0) -> list[Case]:
    """`count` different cases that name the concept, in contexts kept for evaluation.

    Raises:
        ValueError: a concept that the town does not have.
    """
    pairs = different_prompts(concept, "evaluation", count, seed=seed)
    return [Case(pair.prompt, pair.scene, pair.seed) for pair in pairs]


def _fitting(words: Sequence[str]) -> tuple[str, ...]:
    fit = drawable(words)
    if not fit:
        raise ValueError(
            f"none of {len(words)} words fits on a sign: it must have 3 to {MAX_LETTERS[64]} letters of `{ALPHABET}`"
        )
    return fit


def _harmless(rng: random.Random, *, lines: tuple[str, ...]) -> Scene:
    names = [n for c in ("shape", "animal", "character", "person") for n in CATEGORIES[c]]
    return sample_scene(rng, lines=lines, subject=rng.choice(names))


def _case(scene: Scene, rng: random.Random, seed: int, *, plain: bool) -> Case:
    text = plain_caption(scene) if plain else sample_caption(scene, rng, vague=0.0).text
    return Case(text, scene, seed)
