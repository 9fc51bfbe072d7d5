"""Finds the entries of all word lists of a snapshot in a view, with one pass of an Aho-Corasick automaton.

Each entry is stored in three spellings (`spelling`), and a view is compared in its own spelling only. A hit counts if
words end on both sides of it and the entry is long enough for the view. In a view with collapsed runs the text must
also have at least the entry's letters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import ahocorasick

from policies.everyday import load_everyday
from policies.near import Near
from policies.spelling import collapse, fold, is_boundary, leet
from policies.types import Spelling, View

__all__ = ["Match", "Matcher"]

_GLUED_LEAST = 7  # letters of a phrase that is also found without its blanks


@dataclass(frozen=True, slots=True)
class Match:
    """`word` of `lists`, found in `view` at `start` to `end` of the original text."""

    word: str
    lists: tuple[str, ...]
    view: str
    start: int
    end: int

    @property
    def plain(self) -> bool:
        return self.view == "folded"


@dataclass(frozen=True, slots=True)
class _Filed:
    """An entry in one spelling; `runs` are the lengths of its own runs when that spelling is `repeats`."""

    form: Spelling
    word: str
    lists: tuple[str, ...]
    letters: int
    runs: tuple[int, ...] = ()


class Matcher:
    """All lists of a snapshot as one automaton. It is immutable once built and safe to share between threads.

    `near` finds words near to the entries of some of the lists.
    """

    def __init__(self, lists: Mapping[str, Iterable[str]], near: Near | None = None) -> None:
        self.near = near or Near({})
        names: defaultdict[str, list[str]] = defaultdict(list)
        for name in sorted(lists):
            for word in dict.fromkeys(fold(w) for w in lists[name]):
                names[word].append(name)
        keys: defaultdict[str, list[_Filed]] = defaultdict(list)
        for word, of in names.items():
            for key, filed in _spellings(word, tuple(of)):
                keys[key].append(filed)
        self._automaton = ahocorasick.Automaton()
        for key, entries in keys.items():
            self._automaton.add_word(key, (len(key), tuple(entries)))
        self._empty = not keys
        if keys:
            self._automaton.make_automaton()

    def find(self, view: View) -> Iterator[Match]:
        """The matches in `view`, ordered by their end; the same word once for each place."""
        if self._empty or not view.text:
            return
        text = view.text
        for last, (length, entries) in self._automaton.iter(text):
            start, end = last + 1 - length, last + 1
            if view.whole and (start or end != len(text)):
                continue
            if not _ends_well(text, start, end):
                continue
            for filed in entries:
                if filed.form == view.form and filed.letters >= view.least and _enough(filed, view, start):
                    yield Match(filed.word, filed.lists, view.name, *view.origin(start, end))


def _glued(phrase: str) -> str:
    """A phrase as it stands in a hashtag, or letter by letter: without blanks and apostrophes (`you're dumb`).

    The phrase itself if it is short, or if that makes an everyday word of it: `the rapist`.
    """
    glued = phrase.replace(" ", "").replace("'", "").replace("\u2019", "")
    return phrase if len(glued) < _GLUED_LEAST or glued in load_everyday() else glued


def _spellings(word: str, lists: tuple[str, ...]) -> Iterator[tuple[str, _Filed]]:
    letters = sum(not c.isspace() for c in word)
    if not letters:
        return
    for written in dict.fromkeys((word, _glued(word))):
        yield written, _Filed("plain", word, lists, letters)
        yield leet(written), _Filed("leet", word, lists, letters)
    for spelling in dict.fromkeys((word, leet(word))):
        folded, runs = collapse(spelling)
        yield folded, _Filed("repeats", word, lists, letters, runs)


def _ends_well(text: str, start: int, end: int) -> bool:
    before = text[start - 1] if start else ""
    after = text[end] if end < len(text) else ""
    return is_boundary(text[start], before) and is_boundary(text[end - 1], after)


def _enough(filed: _Filed, view: View, start: int) -> bool:
    """Whether the text has at least the entry's letters in every run, and more in some run.

    A run of two for one letter counts for entries of five letters or more, a run of three always: `coop` is not `cop`.
    """
    if filed.form != "repeats":
        return True
    runs = view.runs[start : start + len(filed.runs)]
    if any(have < need for have, need in zip(runs, filed.runs, strict=True)):
        return False
    excess = [have for have, need in zip(runs, filed.runs, strict=True) if have > need]
    return bool(excess) and (max(excess) >= 3 or filed.letters >= 5)
