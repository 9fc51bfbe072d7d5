"""The prompt sets that tables are made on: generated, seeded, and of the reference world, where all can be judged."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reference.captions import plain_caption, sample_caption
from reference.world import ALPHABET, MAX_LETTERS, Scene, held_out_words, sample_scene

__all__ = ["Case", "benign_cases", "concept_cases", "drawable", "lettering_cases", "load_word_list"]


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt, the scene that it describes, and the seed of its picture."""

    prompt: str
    scene: Scene
    seed: int


def drawable(words: Sequence[str], *, size: int = 64, shortest: int = 3) -> tuple[str, ...]:
    """Those of `words`, in capitals and sorted, that a sign can carry."""
    capitals = {word.upper() for word in words}
    return tuple(sorted(w for w in capitals if shortest <= len(w) <= MAX_LETTERS[size] and set(w) <= set(ALPHABET)))


def load_word_list(path: Path) -> tuple[str, ...]:
    """The entries of a policy's list file: one a line, `#` begins a comment."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return tuple(line for line in lines if line)


def lettering_cases(
    words: Sequence[str], count: int, *, seed: int = 0, first_seed: int = 10_000, plain: bool = False
) -> list[Case]:
    """`count` cases whose sign says one of `words`, in turn; captions vary unless `plain`."""
    rng = random.Random(f"lettering/{seed}")
    fit = drawable(words)
    if not fit:
        raise ValueError(
            f"no word of {len(words)} can stand on a sign: 3 to {MAX_LETTERS[64]} characters of `{ALPHABET}`"
        )
    cases = []
    for i in range(count):
        scene = sample_scene(rng, lettering=fit[i % len(fit)], character=0.0)
        cases.append(Case(plain_caption(scene) if plain else sample_caption(scene, rng), scene, first_seed + i))
    return cases


def benign_cases(count: int, *, seed: int = 0, first_seed: int = 50_000) -> list[Case]:
    """`count` cases that no shipped rule should touch: shapes only, four of five with a held-out word on the sign."""
    rng = random.Random(f"benign/{seed}")
    words = held_out_words()
    cases = []
    for i in range(count):
        lettering = rng.choice(words) if rng.random() < 0.8 else ""
        scene = sample_scene(rng, lettering=lettering, character=0.0)
        cases.append(Case(sample_caption(scene, rng), scene, first_seed + i))
    return cases


def concept_cases(concept: str, count: int, *, seed: int = 0, first_seed: int = 80_000) -> list[Case]:
    """`count` cases that show `character/<x>` or `style/<x>`, half of them with a sign.

    Raises:
        ValueError: a kind of concept that the reference world does not have.
    """
    kind, _, name = concept.partition("/")
    if kind not in ("character", "style"):
        raise ValueError(f"concept must be `character/<x>` or `style/<x>`, got `{concept}`")
    rng = random.Random(f"{concept}/{seed}")
    cases = []
    for i in range(count):
        lettering = rng.choice(held_out_words()) if rng.random() < 0.5 else ""
        scene = sample_scene(rng, lettering=lettering, character=1.0 if kind == "character" else 0.0, style=0.0)
        scene = replace(scene, subject=name) if kind == "character" else replace(scene, style=name)
        cases.append(Case(sample_caption(scene, rng), scene, first_seed + i))
    return cases
