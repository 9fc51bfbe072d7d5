"""Words near to an entry: one edit away from it, or spelled with letters that look like its own.

A token and an entry are compared as they look and as they sound. What an OCR engine takes for another letter is one
letter in `looks`, what readers of English speak alike is one in `sounds`. One edit is an insertion, a deletion, a
substitution or a swap of two neighbours (Damerau, 1964; the optimal string alignment). An index of deletions (as
SymSpell's, Garbe, 2012) holds every entry without one of its letters, so the cost of a search grows with the token's
length only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from policies.spelling import LEET

__all__ = ["Near", "NearWord", "looks", "sounds"]

_ENTRY_LEAST = 4  # letters of an entry: shorter ones have too many innocent neighbours
_TOKEN_LEAST = 3
_SHORT = 4  # entries of so many letters are near by sight only, and by edits that keep their sound

# Confusions of OCR engines. D with O and C with G are not here: without them half as many words look like another
# word, and each is still one edit.
_CONFUSED = str.maketrans({**LEET, "q": "o", "v": "u"})
_PAIRS = (("rn", "m"), ("vv", "w"), ("cl", "d"))
_MERGED = (("rn", "m"), ("uu", "w"), ("ci", "d"))  # the same, after `_CONFUSED`
_SIGNS = str.maketrans({sign: letter for sign, letter in LEET.items() if not sign.isalpha()})
_SPOKEN = (("ph", "f"), ("ck", "k"), ("oo", "u"))
_HEARD = str.maketrans("czy", "ksi")
_VOWELS = "aeiouy"
_SAME_SOUND = ("ck", "sz")


class NearWord(NamedTuple):
    """An entry that is near: 0 or 1 `edits` away as the token looks, or, if it is `heard`, as it sounds."""

    edits: int
    word: str
    heard: bool = False

    def __str__(self) -> str:
        if self.heard:
            return f"which sounds like `{self.word}`"
        return f"one letter away from `{self.word}`" if self.edits else f"which looks like `{self.word}`"


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
                    for key in {k for spelling in _spellings(word) for k in _deletions(spelling)}:
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
        if token in self._lists:  # a word of one list is no misspelling of another's
            return {name: NearWord(0, token) for name in self._lists[token]}
        seen = _spellings(token)
        near = {w for spelling in {*seen} for key in _deletions(spelling) for w in self._index.get(key, ())}
        for hit in sorted(h for word in near if (h := _compared(token, seen, word)) is not None):
            for name in self._lists[hit.word]:
                found.setdefault(name, hit)
        return found

    def innocent(self, token: str) -> frozenset[str]:
        """The innocent lists with an entry that looks like `token`, folded."""
        return frozenset(name for look in looks(token) for name in self._innocent.get(look, ()))


def looks(word: str) -> tuple[str, str]:
    """`word`, folded, with one letter for all that look alike: letter for letter, and with pairs such as rn as one."""
    plain = word.translate(_CONFUSED)
    merged = _replaced(plain, _MERGED)
    return (plain, merged)


def sounds(word: str) -> str:
    """`word`, folded, with one letter for what sounds alike in English: `luzer` and `loozer` differ by an o only."""
    return _replaced(word.translate(_SIGNS), _SPOKEN).translate(_HEARD)


def _spellings(word: str) -> tuple[str, str, str]:
    return (*looks(word), sounds(word))


def _replaced(word: str, pairs: Iterable[tuple[str, str]]) -> str:
    for pair, one in pairs:
        word = word.replace(pair, one)
    return word


def _deletions(word: str) -> set[str]:
    return {word} | {word[:i] + word[i + 1 :] for i in range(len(word))}


def _compared(token: str, seen: Sequence[str], word: str) -> NearWord | None:
    """How near a token with the spellings `seen` is to `word`; None when it takes more than one edit.

    A short entry takes an edit of the token itself, which must be letters: with look-alikes and an edit, half the word
    would be another. What sounds alike is written in letters, too.
    """
    *seen_alike, heard = (_differing(a, b) for a, b in zip(seen, _spellings(word), strict=True))
    if ("", "") in seen_alike:
        return NearWord(0, word)
    if len(word) <= _SHORT:
        own = [_differing(a, b) for a, b in ((token, word), (_replaced(token, _PAIRS), _replaced(word, _PAIRS)))]
        near = token.isalpha() and any(_one_edit(a, b) and _keeps_sound(a, b) for a, b in own)
        return NearWord(1, word) if near else None
    if any(_one_edit(a, b) for a, b in seen_alike):
        return NearWord(1, word)
    sounds_so = token.isalpha() and _one_edit(*heard) and _keeps_sound(*heard)
    return NearWord(1, word, heard=True) if sounds_so else None


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
    return max(len(a), len(b)) <= 1 or (len(a) == 2 and a == b[::-1])


def _keeps_sound(a: str, b: str) -> bool:
    """Whether the edit from the piece `b` of an entry to `a` leaves its consonants, or their sound, in some order.

    Most innocent words that are near to a short entry have another consonant (`bill` and `kill`).
    """
    return len(a) == 2 or not b or b in _VOWELS or any(a in sound and b in sound for sound in _SAME_SOUND if a)
