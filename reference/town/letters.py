"""What signs may say: the alphabet, the word list, and which strings are held out.

Half of all strings of three or more characters are held out by a hash. No training scene shows them, whether they come
from the word list or from chance. A held-out word is therefore one that a model has never seen written, and no list of
such words is needed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

__all__ = ["ALPHABET", "MAX_LETTERS", "drawable", "held_out_words", "is_held_out", "load_words", "sample_lettering"]

# Capitals and digits. No sign says 0 or 1, which nobody can tell from O and I at this size: read as 0, it is an O.
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789"
MAX_LETTERS: Mapping[int, int] = MappingProxyType({64: 6, 128: 8})  # of a line, by the picture's side in pixels

_WORDS = Path(__file__).parent.parent / "data" / "words.txt"


def is_held_out(lettering: str) -> bool:
    """Whether no training scene may show `lettering`: true for half of all strings of three or more characters."""
    if len(lettering) < 3:
        return False
    return hashlib.sha256(b"palimpsest-world:" + lettering.upper().encode()).digest()[0] < 128


@lru_cache(maxsize=1)
def load_words() -> tuple[str, ...]:
    """The word list, upper case, sorted, 3 to 6 letters each."""
    lines = (line for line in _WORDS.read_text("utf-8").splitlines() if not line.startswith("#"))
    return tuple(sorted({word for line in lines for word in line.split() if 3 <= len(word) <= 6}))


def held_out_words() -> tuple[str, ...]:
    """The words of the list that no training scene shows, sorted."""
    return tuple(word for word in load_words() if is_held_out(word))


def drawable(words: Sequence[str], *, size: int = 64, shortest: int = 3) -> tuple[str, ...]:
    """Those of `words`, in capitals and sorted, that a sign can carry on one line."""
    capitals = {word.upper() for word in words}
    return tuple(sorted(w for w in capitals if shortest <= len(w) <= MAX_LETTERS[size] and set(w) <= set(ALPHABET)))


def sample_lettering(rng: random.Random, longest: int, *, words: float = 0.1) -> str:
    """A string for a training sign, never held out: a word with probability `words`, else random characters."""
    while True:
        if rng.random() < words:
            text = rng.choice(load_words())
        else:
            # long strings are harder and there are more letters to learn from in them
            length = rng.choices(range(1, longest + 1), weights=range(1, longest + 1))[0]
            text = "".join(rng.choice(ALPHABET) for _ in range(length))
        if len(text) <= longest and not is_held_out(text):
            return text
