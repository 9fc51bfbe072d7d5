# ruff: noqa: E501  the rules of a table are read and compared as whole lines
"""Spells a word as it sounds: `stoopid` may be `stupid`, `phuck` may be `fuck`.

A respelling is a guess like others: it knows no list, and a list's entry must match a whole one. Each rule is a way in
which people write a sound that has a usual spelling; the table is our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations, islice, pairwise

__all__ = ["respellings"]

# (how it is written, where, how it is usually spelled)
_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"oo", ("u", "o")), (r"ew", ("u", "oo")), (r"(?<=[^aeiou])u(?=[sz]e?r)", ("o",)), (r"u(?=[^aeiou]*$)", ("oo",)),
    (r"ee", ("i", "e", "ea")), (r"ea", ("ee",)), (r"ie(?=.)", ("i", "ee")), (r"(?<=.)y(?=.)", ("i",)), (r"ey$|ie$|i$|ee$", ("y",)),
    (r"ai|ay(?=.)", ("a",)), (r"oa|ow|oh", ("o",)), (r"aw|au", ("o", "a")), (r"ah|uh$|a$", ("er", "ar")), (r"[ou]r$|ar$|ur$|re$", ("er",)),
    (r"er$", ("or", "ar")), (r"ph", ("f",)), (r"f", ("ph",)), (r"kw", ("qu",)), (r"ck|kk", ("k", "c")), (r"k", ("ck", "c", "ch")),
    (r"c(?=[aou]|$)", ("k", "ck")), (r"x", ("cks", "cs", "ks")), (r"zz|z", ("s", "ss")), (r"ss|s(?=[aeiouy])", ("c", "s")), (r"c(?=[eiy])", ("s",)),
    (r"sch|sh(?=[^aeiou])", ("sh", "s")), (r"tch", ("ch",)), (r"ch", ("tch",)), (r"dj|j|dg", ("di", "g", "dg")), (r"dji|dj|ji", ("dio",)),
    (r"gh", ("g", "f")), (r"wh", ("w",)), (r"w", ("wh",)), (r"v", ("f",)), (r"th", ("t",)), (r"tt", ("t",)), (r"([bdfglmnprst])\1", (r"\1",)),
    (r"(?<=[aeiou])([bdfglmnprst])(?=[aeiouy])", (r"\1\1",)), (r"d$", ("ed",)), (r"(?<=[^aeiou])d$", ("id",)), (r"e(?=[dst]?$)", ("",)),
)  # fmt: skip
_COMPILED = tuple((re.compile(pattern), usual) for pattern, usual in _RULES)
_MOST_AT_ONCE = 3  # sounds of a word that are respelled together
_MOST = 160  # respellings of a word


def respellings(word: str) -> Iterator[str]:
    """The spellings, at most `_MOST`, that sound like `word`, which is folded and of letters; fewest changes first."""
    places = [
        (*found.span(), found.expand(spelled))
        for pattern, usual in _COMPILED
        for found in pattern.finditer(word)
        for spelled in usual
        if found.expand(spelled) != found.group()
    ]
    places.sort()
    return islice(_applied(word, places), _MOST)


def _applied(word: str, places: list[tuple[int, int, str]]) -> Iterator[str]:
    for n in range(1, _MOST_AT_ONCE + 1):
        for chosen in combinations(places, n):
            if all(a[1] <= b[0] for a, b in pairwise(chosen)):
                said, last = "", 0
                for start, end, spelled in chosen:
                    said += word[last:start] + spelled
                    last = end
                yield said + word[last:]
