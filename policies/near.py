"""Words near to an entry: one edit away from it, or spelled with letters that look like its own.

`looks` gives the spelling in which a token and an entry are compared: what an OCR engine takes for another letter is
one letter there. One edit is an insertion, a deletion, a substitution or a swap of two neighbours (Damerau, 1964; the
optimal string alignment). An index of deletions (as SymSpell's, Garbe, 2012) holds every entry without one of its
letters, so the cost of a search grows with the token's length only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from policies.spelling import LEET

__all__ = ["Near", "NearWord", "looks"]

_ENTRY_LEAST = 4  # letters of an entry: shorter ones have too many innocent neighbours
_TOKEN_LEAST = 3
_SHORT = 4  # entries of so many letters are near only by the edits that `_counts_when_short` names

# Confusions of OCR engines. D with O and C with G are not here: without them half as many words look like another
# word, and each is still one edit.
_CONFUSED = str.maketrans({**LEET, "q": "o", "v": "u"})
_MERGED = (("rn", "m"), ("vv", "w"), ("cl", "d"))
_VOWELS = "aeiouy"
_ALIKE = (_VOWELS, "ck", "sz")  # letters that replace each other in a word of four letters and leave it readable


class NearWord(NamedTuple):
    """An entry that is near; `edits` is 0 when the token looks like it, letter for letter."""

    edits: int
    word: str


class Near:
    """The entries of `lists`, and what is never near: the entries of `innocent`.

    It is immutable once built.
    """

    def __init__(self, lists: Mapping[str, Iterable[str]], innocent: Mapping[str, Iterable[str]] | None = None) -> None:
        self._lists: defaultdict[str, list[str]] = defaultdict(list)
        self._index: defaultdict[str, set[str]] = defaultdict(set)
        self._innocent: defaultdict[str, set[str]] = defaultdict(set)
        for name in sorted(lists):
            for word in lists[name]:
                if len(word) >= _ENTRY_LEAST and " " not in word:
                    self._lists[word].append(name)
                    for key in {k for look in looks(word) for k in _deletions(look)}:
                        self._index[key].add(word)
        for name, words in (innocent or {}).items():
            for look in {look for word in words for look in looks(word)}:
                self._innocent[look].add(name)

    def __bool__(self) -> bool:
        return bool(self._index)

    def find(self, token: str) -> dict[str, NearWord]:
        """For each list with an entry near to `token`, folded, the nearest one; of two the first in the alphabet."""
        found: dict[str, NearWord] = {}
        if len(token) < _TOKEN_LEAST:
            return found
        seen = looks(token)
        near = {w for look in seen for key in _deletions(look) for w in self._index.get(key, ())}
        for hit in sorted(h for word in near if (h := _compared(seen, word)) is not None):
            for name in self._lists[hit.word]:
                found.setdefault(name, hit)
        return found

    def innocent(self, token: str) -> frozenset[str]:
        """The innocent lists with an entry that looks like `token`, folded."""
        return frozenset(name for look in looks(token) for name in self._innocent.get(look, ()))


def looks(word: str) -> tuple[str, ...]:
    """`word`, folded, with one letter for all that look alike: letter for letter, and with pairs such as rn as one."""
    merged = word
    for pair, one in _MERGED:
        merged = merged.replace(pair, one)
    return tuple(dict.fromkeys((word.translate(_CONFUSED), merged.translate(_CONFUSED))))


def _deletions(word: str) -> set[str]:
    return {word} | {word[:i] + word[i + 1 :] for i in range(len(word))}


def _compared(seen: Iterable[str], word: str) -> NearWord | None:
    """How near the token with the looks `seen` is to `word`; None when it takes more than one edit."""
    pairs = [_differing(a, b) for a in seen for b in looks(word)]
    if any(a == b for a, b in pairs):
        return NearWord(0, word)
    short = len(word) <= _SHORT
    near = any(_one_edit(a, b) and not (short and not _counts_when_short(a, b)) for a, b in pairs)
    return NearWord(1, word) if near else None


def _differing(a: str, b: str) -> tuple[str, str]:
    """`a` and `b` without the letters that both begin with, and of the rest without those that both end with."""
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    a, b = a[start:], b[start:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return a, b


def _one_edit(a: str, b: str) -> bool:
    """Whether one edit makes `b` of `a`, given what differs."""
    return max(len(a), len(b)) == 1 or (len(a) == 2 and a == b[::-1])


def _counts_when_short(a: str, b: str) -> bool:
    """Whether the edit from the piece `b` of an entry to `a` counts for a short one.

    A letter more counts, a swap, a vowel less, and a letter replaced by one like it. Most innocent words that are near
    to a short entry have another consonant (`bill` and `kill`).
    """
    if len(a) == 2 or not b:
        return True
    return b in _VOWELS if not a else any(a in letters and b in letters for letters in _ALIKE)
