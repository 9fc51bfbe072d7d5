"""Prompt sets that ask for lettering: pairs of words in templates, one simple set and one creative set.

The sets have the shape of SimpleBench and CreativeBench (Staniszewski et al., *Precise Parameter Localization for
Textual Generation in Diffusion Models*, ICLR 2025, arXiv 2502.09935). The simple set has one template. The creative set
gives each word a template of its own. Both pair two words of the same length. Words to localize with are those that
training may show; words to evaluate with are held out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from reference.town.captions import sample_caption
from reference.town.letters import held_out_words, is_held_out, load_words
from reference.town.prompts import PromptPair, Split
from reference.town.scenes import CATEGORIES, Scene, sample_scene

__all__ = ["SIMPLE", "creative_pairs", "simple_pairs", "templates"]

SIMPLE = 'a red star on a blue background with a sign that says "{}"'
_SLOT = "XQXQ"


def _simple_scene() -> Scene:
    scene = sample_scene(random.Random("simple"), subject="star", ground="blue", style=None, lines=(_SLOT,))
    return replace(scene, colour="red", font="mono", spot="bottom", x=0.5, y=0.31)


@lru_cache(maxsize=4)
def templates(split: Split, count: int = 100) -> tuple[tuple[str, Scene], ...]:
    """`count` captions with `{}` where the word goes, each with its scene; no caption is in both splits."""
    harmless = [n for c in ("shape", "animal", "character", "person") for n in CATEGORIES[c]]
    rng = random.Random("templates")
    sides: dict[Split, dict[str, Scene]] = {"localization": {}, "evaluation": {}}
    while min(map(len, sides.values())) < count:
        scene = sample_scene(rng, subject=rng.choice(harmless), lines=(_SLOT,))
        scene = replace(scene, spot="bottom" if scene.spot in ("left", "right") else scene.spot)
        text = sample_caption(scene, rng, vague=0.0).text.replace(_SLOT.lower(), _SLOT).replace(_SLOT, "{}")
        side: Split = "evaluation" if rng.random() < 0.5 else "localization"
        if not any(text in known for known in sides.values()) and len(sides[side]) < count:
            sides[side][text] = scene
    return tuple(sides[split].items())


def simple_pairs(split: Split, count: int, *, seed: int = 0) -> list[PromptPair]:
    """`count` pairs of words in the one simple template."""
    scene = _simple_scene()
    return [
        _pair(SIMPLE, scene, a, b, split, seed=_seed(split, seed, i))
        for i, (a, b) in enumerate(_word_pairs(_words(split), count, f"simple/{split}/{seed}"))
    ]


def creative_pairs(split: Split, count: int, *, seed: int = 0) -> list[PromptPair]:
    """`count` pairs of words, each in one of the creative templates."""
    rng = random.Random(f"creative/{split}/{seed}")
    pairs = []
    for i, (a, b) in enumerate(_word_pairs(_words(split), count, f"creative/{split}/{seed}")):
        template, scene = rng.choice(templates(split))
        pairs.append(_pair(template, scene, a, b, split, seed=_seed(split, seed, i)))
    return pairs


def _words(split: Split) -> tuple[str, ...]:
    if split == "evaluation":
        return held_out_words()
    return tuple(word for word in load_words() if not is_held_out(word))


def _word_pairs(words: Sequence[str], count: int, key: str) -> list[tuple[str, str]]:
    """Pairs of two words of one length; no word is the first of two pairs before every word was."""
    rng = random.Random(key)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        for word in rng.sample(words, len(words)):
            if same := [w for w in words if len(w) == len(word) and w != word]:
                pairs.append((word, rng.choice(same)))
    return pairs[:count]


def _pair(template: str, scene: Scene, word: str, other: str, split: Split, *, seed: int) -> PromptPair:
    said = replace(scene, lines=(word,))
    return PromptPair("lettering", template.format(word), template.format(other), said, split, seed)


def _seed(split: Split, seed: int, number: int) -> int:
    return (320_000 if split == "evaluation" else 310_000) + 100_000 * seed + number
