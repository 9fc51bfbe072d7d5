"""Finds the pieces of a text that are like a phrase: misspellings, inflections, the phrase with its letters apart.

Used for repairs only: the picture has shown that the text asks for the thing, and the question is in which words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from rapidfuzz.distance import OSA

__all__ = ["Piece", "pieces_like"]

_TOKEN = re.compile(r"\S+")
_LEAST = 3  # letters of a word that may be found inside another, or with a letter wrong


class Piece(NamedTuple):
    """Characters `start` to `end` (exclusive) of a text, and the phrase that they are like."""

    start: int
    end: int
    phrase: str


def pieces_like(text: str, phrases: Iterable[str]) -> list[Piece]:
    """The pieces of `text` that are like one of `phrases`, by place and without overlap; longer phrases come first.

    A piece is like a phrase when each of its words is: equal without marks, one edit away (two from eight letters on;
    neighbours that change places are one), or a longer word that holds it. A word of one token may also stand in up to
    five, letter by letter.
    """
    tokens = [(m.start(), m.end(), _letters(m.group())) for m in _TOKEN.finditer(text)]
    found: list[Piece] = []
    for phrase in sorted(phrases, key=len, reverse=True):
        words = [_letters(word) for word in phrase.split()]
        if not any(len(word) >= _LEAST for word in words):
            continue
        spread = 5 if len(words) == 1 else 1
        for first in range(len(tokens)):
            for count in range(len(words), len(words) + spread):
                window = tokens[first : first + count]
                if len(window) < count or not _alike([t[2] for t in window], words):
                    continue
                start, end = _trimmed(text, window[0][0], window[-1][1])
                if all(end <= other.start or other.end <= start for other in found):
                    found.append(Piece(start, end, phrase))
                break
    return sorted(found)


def _letters(token: str) -> str:
    return "".join(c for c in token.casefold() if c.isalnum())


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The bounds without the marks around the words: quotes and commas stay where they are."""
    while start < end and not text[start].isalnum():
        start += 1
    while end > start and not text[end - 1].isalnum():
        end -= 1
    return start, end


def _alike(tokens: list[str], words: list[str]) -> bool:
    if len(tokens) == len(words):
        return all(_alike_word(token, word) for token, word in zip(tokens, words, strict=True))
    return all(0 < len(token) < _LEAST for token in tokens) and "".join(tokens) == words[0]


def _alike_word(token: str, word: str) -> bool:
    if len(word) < _LEAST:
        return token == word
    return word in token or OSA.distance(token, word, score_cutoff=2) <= (1 if len(word) < 8 else 2)
