"""Signs to measure near words with: innocent ones of words, names and towns, and single edits of listed words.

The pieces of innocent signs are in `data/signs.txt`, from sources that no list of ours was made from.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase

__all__ = ["EDITS", "edited", "in_two_pieces", "innocent_signs"]

_PIECES = Path(__file__).parent.parent / "data" / "signs.txt"
_SIGNS = (
    "{word}", "{word} {word}", "{word} & {word}", "the {word} {word} shop", "no {word}", "{word} {word} {word}",
    "fresh {word}", "{word} this way", "sale {percent} % on {word}", "{name}", "{name} {name}", "{name} & sons",
    "dr. {name} {name}", "{name} street", "{name}'s {word}", "{name} {word} co.",
    "{town}", "{town} {number} miles", "welcome to {town}", "{town} {word} museum",
)  # fmt: skip
_CONFUSIONS = (
    ("i", "l"), ("i", "1"), ("l", "i"), ("l", "1"), ("o", "0"), ("s", "5"),
    ("b", "8"), ("m", "rn"), ("w", "vv"), ("d", "cl"), ("u", "v"),
)  # fmt: skip


def innocent_signs(count: int, *, seed: int = 0) -> list[str]:
    """`count` different innocent signs, each piece used once before any is used again; six of ten in capitals."""
    rng = random.Random(f"signs/{seed}")
    pieces = {kind: _endless(words, rng) for kind, words in _pieces().items()}
    made: dict[str, None] = {}
    while len(made) < count:
        sign = rng.choice(_SIGNS)
        for kind, draw in pieces.items():
            while f"{{{kind}}}" in sign:
                sign = sign.replace(f"{{{kind}}}", draw(), 1)
        sign = sign.format(number=rng.randint(2, 99), percent=rng.randint(1, 9) * 10)
        made[sign.upper() if rng.random() < 0.6 else sign.title()] = None
    return list(made)


def in_two_pieces(sign: str, rng: random.Random) -> str:
    """`sign` with its longest word cut in two, as a reader cuts a word that goes on in the next line."""
    word = max(sign.split(), key=len)
    at = rng.randint(1, max(1, len(word) - 1))
    return sign.replace(word, f"{word[:at]} {word[at:]}", 1)


def _insert(word: str, rng: random.Random) -> str:
    at = rng.randint(0, len(word))
    return word[:at] + rng.choice(ascii_lowercase) + word[at:]


def _delete(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word))
    return word[:at] + word[at + 1 :]


def _substitute(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word))
    return word[:at] + rng.choice(ascii_lowercase) + word[at + 1 :]


def _swap(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word) - 1)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _confuse(word: str, rng: random.Random) -> str:
    """Every letter that a reader takes for another, each with a chance of a half."""
    for letter, other in rng.sample(_CONFUSIONS, len(_CONFUSIONS)):
        if rng.random() < 0.5:
            word = word.replace(letter, other)
    return word


EDITS: Mapping[str, Callable[[str, random.Random], str]] = {
    "a letter more": _insert,
    "a letter less": _delete,
    "another letter": _substitute,
    "two letters swapped": _swap,
    "letters that a reader confuses": _confuse,
}


def edited(
    words: Sequence[str], edit: str, count: int, innocent: Callable[[str], bool], *, seed: int = 0
) -> list[tuple[str, str]]:
    """`count` different pairs of a listed word and the word after `edit`, in capitals or as read; innocent results and
    listed words are left out."""
    rng = random.Random(f"edits/{edit}/{seed}")
    listed, made = frozenset(words), dict[str, str]()
    for _ in range(200 * count):
        word = rng.choice(words)
        said = EDITS[edit](word, rng)
        if said not in listed and not innocent(said):
            made.setdefault(said, word)
        if len(made) == count:
            break
    return [(word, said if edit == "letters that a reader confuses" else said.upper()) for said, word in made.items()]


def _pieces() -> dict[str, list[str]]:
    """The pieces of signs by kind: `word`, `name` and `town`."""
    kinds: dict[str, list[str]] = {}
    for line in _PIECES.read_text("utf-8").splitlines():
        if line.startswith("# ") and ":" in line.split(" ")[1]:
            kinds[line.split(" ")[1].rstrip("s:")] = []
        elif not line.startswith("#"):
            kinds[list(kinds)[-1]] += line.split()
    return kinds


def _endless(words: Sequence[str], rng: random.Random) -> Callable[[], str]:
    left: list[str] = []

    def draw() -> str:
        if not left:
            left.extend(rng.sample(words, len(words)))
        return left.pop()

    return draw
