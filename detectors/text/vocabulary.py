"""The known words: never taken apart, joined or reversed, and accepted as neighbours of a glued word.

`class`, `assassin` and `Scunthorpe` hold a listed word and are words themselves, so no guess is made about them. Words
of the shipped lists are known as neighbours only (`stupididiot`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from policies import SHIPPED
from policies.everyday import load_everyday
from policies.spelling import fold, leet

__all__ = ["ABUSE", "Vocabulary", "load_vocabulary"]

# the shipped English lists of single words
ABUSE = ("toxic.en.txt", "profanity.en.txt", "sexual.en.txt", "hate.en.txt", "threat.en.txt", "self-harm.en.txt")
_DATA = Path(__file__).parent.parent / "data"
_ENDINGS = ("", "s", "es", "d", "ed", "r", "er", "rs", "ers", "ing", "ly", "'s", "’s", "y", "ness")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`words`, folded; `pieces`, known and listed words in the spelling of disguises; `by_length`, the
    same, listed ones first; `longest`, the longest one's length."""

    words: frozenset[str]
    pieces: frozenset[str]
    by_length: dict[int, tuple[str, ...]]
    longest: int

    def knows(self, word: str) -> bool:
        """Whether `word`, folded, is an innocent word or an everyday form of one."""
        return word in self.words or any(
            word.endswith(end) and word[: len(word) - len(end)] in self.words for end in _ENDINGS[1:]
        )

    def fitting(self, pattern: str, most: int) -> list[str]:
        """At most `most` of the listed and known words of which `pattern` shows two letters or more, and hides the
        others behind `*`; listed ones first."""
        if sum(c != "*" for c in pattern) < 2:
            return []
        fits = re.compile("".join("." if c == "*" else re.escape(c) for c in pattern))
        return [w for w in self.by_length.get(len(pattern), ()) if fits.fullmatch(w)][:most]


@cache
def load_vocabulary() -> Vocabulary:
    """The words that come with the package, loaded once."""
    spoken = frozenset(_words("small_words.txt"))
    innocent = spoken | load_everyday()
    entries = [fold(line) for name in ABUSE for line in _lines(SHIPPED / "lists" / name)]
    listed = {word for entry in entries for word in entry.split()}
    innocent -= {entry for entry in entries if " " not in entry}
    pieces = frozenset(leet(w) for w in innocent | listed if len(w) > 2 or (w in spoken and w not in ("i", "u")))
    by_length: dict[int, tuple[str, ...]] = {}
    for word in dict.fromkeys(leet(w) for w in (*sorted(listed), *sorted(innocent - listed))):
        by_length[len(word)] = (*by_length.get(len(word), ()), word)
    return Vocabulary(innocent, pieces, by_length, max(map(len, pieces)))


def _words(name: str) -> list[str]:
    return [w for line in _lines(_DATA / name) for w in fold(line).split()]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
