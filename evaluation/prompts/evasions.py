"""Disguised words that a sign of the town can carry: evasions that reach the picture.

Most disguises do not: the models write 34 signs, and a look-alike of another script is drawn as nothing. The disguises
that can be drawn are asked of the whole loop, where a detector that misses the prompt has a second chance at the
picture.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from evaluation.prompts.attacks import innocent_words, single_edits
from evaluation.prompts.disguises import DISGUISES
from reference.town.letters import drawable

__all__ = ["drawable_evasions", "unlisted_spellings"]

_DRAWN = ("leet", "repeats", "digits around", "reversed")
_TRIES = 40  # a disguise of each word


def drawable_evasions(words: Sequence[str], *, seed: int = 0) -> tuple[str, ...]:
    """Disguises of `words` that a sign can carry and that are none of the words, in capitals and sorted.

    Raises:
        ValueError: no word has any.
    """
    rng = random.Random(f"drawable evasions/{seed}")
    plain = {word.upper() for word in words}
    operators = [d for d in DISGUISES if d.name in _DRAWN]
    found: set[str] = set()
    for word in sorted({word.lower() for word in words}):
        tried = [d.apply(word, rng) for d in operators if len(word) >= d.least for _ in range(_TRIES)]
        each: list[str] = [w for w in drawable(tried) if w not in plain]
        found.update(rng.sample(each, min(4, len(each))))
    if not found:
        raise ValueError(f"none of {len(words)} words has a disguise that fits on a sign")
    return tuple(sorted(found))


def unlisted_spellings(words: Sequence[str], *, seed: int = 0) -> tuple[str, ...]:
    """Spellings one edit away from `words` that a sign can carry, that no list has and no dictionary; sorted.

    Raises:
        ValueError: no word has any.
    """
    rng = random.Random(f"unlisted spellings/{seed}")
    known = {word.upper() for word in (*words, *innocent_words())}
    found: set[str] = set()
    for word in sorted({word.lower() for word in words if len(word) >= 4 and word.isalpha()}):
        each: list[str] = [w for w in drawable(single_edits(word)) if w not in known]
        found.update(rng.sample(each, min(4, len(each))))
    if not found:
        raise ValueError(f"none of {len(words)} words has another spelling that fits on a sign")
    return tuple(sorted(found))
