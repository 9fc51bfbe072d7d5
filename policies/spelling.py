"""The spellings in which list entries and views are compared.

`fold` gives the plain form. `LEET` maps signs that replace each other in disguises (i, l, 1, !, |) to one letter.
`collapse` makes one letter of a run. Detectors build views with the same functions that fold the entries of a list.
"""

from __future__ import annotations

import unicodedata

__all__ = ["LEET", "collapse", "fold", "is_boundary", "leet"]

# l maps to i, because 1, ! and | replace both, and because a capital I looks like a small l
LEET = {
    **dict(zip("0134567892", "oieasgtbgz", strict=True)),
    "l": "i",
    "!": "i",
    "|": "i",
    "@": "a",
    "$": "s",
    "+": "t",
    "€": "e",
    "£": "i",
    "¥": "y",
    "¢": "c",
}


def fold(text: str) -> str:
    """`text` in NFKC, case folded, with every run of white space as one blank: the spelling of list entries."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def leet(folded: str) -> str:
    """`folded` with each sign replaced by the letter that it stands for."""
    return "".join(LEET.get(c, c) for c in folded)


def collapse(text: str) -> tuple[str, tuple[int, ...]]:
    """`text` with each run of one letter as one, and how long each run was; digits, signs and blanks are kept."""
    out: list[str] = []
    runs: list[int] = []
    for c in text:
        if out and out[-1] == c and c.isalpha():
            runs[-1] += 1
        else:
            out.append(c)
            runs.append(1)
    return "".join(out), tuple(runs)


def is_boundary(inside: str, outside: str) -> bool:
    """Whether a word may end between the characters `inside` it and `outside` it (empty at the text's end).

    In scripts that are written without blanks a word may end anywhere.
    """
    return not outside.isalnum() or _unspaced(inside) or _unspaced(outside)


def _unspaced(c: str) -> bool:
    """Whether `c` is of Thai to Khmer, kana, ideographs or Hangul (which adds endings without a blank)."""
    return "\u0e00" <= c <= "\u17ff" or "\u3040" <= c <= "\u9fff" or "\uac00" <= c <= "\ud7af" or c >= "\U00020000"
