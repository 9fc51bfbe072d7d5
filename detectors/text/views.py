"""The views of a text: ways to read it, from the plainest to the most suspicious, each mapped back to the original.

The order matters: if two views show the same word, the first one gives the reason. A view that would show nothing new
is left out, so an honest text has one view, sometimes two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from detectors.text.chars import (
    Chars,
    casefold,
    clean,
    flip,
    from_text,
    resolve_bidi,
    second_readings,
    skeleton,
    strange_script,
)
from detectors.text.guesses import guess, looks_split
from detectors.text.vocabulary import load_vocabulary
from policies.spelling import LEET, collapse
from policies.spelling import leet as to_leet
from policies.types import Spelling, View

__all__ = ["make_views", "views_of"]

_SEPARATOR = r"(?:(?:[^\w@$!€£¥¢\"“”«»„「」『』]|_){1,4}(?:(?:and|then|followed by) )?)"
_LONE = r"[^\W_]|[@$!|€£¥¢]"
SPELLED = re.compile(rf"(?<![^\W_])(?:{_LONE})(?:{_SEPARATOR}(?:{_LONE})){{2,}}(?![^\W_])")
_LINKS = re.compile(r"\b(?:and|then|followed by)\b")
_TOKEN = re.compile(r"[^\s\"'“”‘’«»„()\[\]{},.;:?…/\\–—_*-]+")
_LEET_SIGNS = frozenset(LEET) - {"l"}
_RUN = re.compile(r"([^\W\d_])\1", re.IGNORECASE)
_CODE = re.compile(r"[A-Z]{1,2}\d{2,}")  # `SH17` names a road, a bus or a paper size
_LEET_LEAST = 4  # three signs spell too many words by chance
_JOINED_LEAST = 3
_SCRIPT_LEAST = 4
_PHRASE_LEAST = 5
_SQUASHED_LEAST = 4
_SQUASHED_MOST = 32
_WORD = re.compile(r"[^\W_](?:[^\W_]|[@$!|€£¥¢])*[^\W_!|]|[@$€£¥¢][\w@$!|€£¥¢]*[^\W_!|]")
_ODD_LEAST = 3
_ODD_DIGITS_LEAST = 5  # `ps5` is a name, not a word with a disguised letter


def make_views(text: str, start: int = 0, *, piece: bool = False) -> tuple[View, ...]:
    """The views of `text`, offsets counted from `start`.

    `piece` says that the text is all of one lettering: then it is read without its blanks and line breaks too.
    """
    return views_of(from_text(text, start), piece=piece)


def views_of(chars: Chars, *, piece: bool = False) -> tuple[View, ...]:
    """The views of `chars`; see `make_views`."""
    turned = resolve_bidi(chars)
    shown = clean(chars)
    views = _upright(shown, "", piece)
    if turned is not None:
        views += _upright(clean(turned), "bidi-", piece)
    flipped = flip(shown, least=1 if piece else 2)
    if flipped is not None:
        views += _upright(flipped, "flipped-", piece)
    return tuple(views)


def _upright(shown: Chars, prefix: str, piece: bool) -> list[View]:
    """The views of a text that is read from its first character to its last."""
    folded = casefold(shown)
    known = load_vocabulary().words
    views = [_view(prefix + "folded", folded)]
    seen_cased = skeleton(shown)
    seen = casefold(seen_cased)
    if seen.text != folded.text:
        views.append(_view(prefix + "skeleton", seen))
    seconds = second_readings(shown.text)
    others = [casefold(skeleton(shown, second=letters)) for letters in seconds]
    views += _either(prefix + "skeleton-second", [o for o in others if o.text != seen.text])
    strange = [strange_script(shown, second=letters) for letters in ((), *seconds)]
    views += _either(prefix + "script", [casefold(s) for s in strange if s is not None])
    joined = _join(seen_cased)
    if joined is not None:
        joined = skeleton(joined)  # letters that stood alone may have passed for honest ones
        views.append(_view(prefix + "joined", casefold(joined), least=_JOINED_LEAST))
        bare = _join(seen_cased, article=True)
        if bare is not None:
            views.append(_view(prefix + "joined-article", casefold(skeleton(bare)), least=_JOINED_LEAST))
    plainest = seen_cased if joined is None else joined
    leet = _leet(plainest)
    if leet is not None:
        views.append(_view(prefix + "leet", leet, form="leet", least=_LEET_LEAST))
        if " " in leet.text:  # phrases, of which only one word is disguised
            folded_too = Chars(to_leet(leet.text), leet.starts, leet.ends)
            views.append(_view(prefix + "leet-phrase", folded_too, form="leet", least=_PHRASE_LEAST))
    read = leet or casefold(plainest)
    if any(_RUN.search(word) and word not in known for word in read.text.split()):
        views.append(_repeats(prefix + "repeats", read))
    if piece and len(shown.text) <= _SQUASHED_MOST and not shown.text.isalnum() and looks_split(folded.text):
        views += _squash(prefix + "squashed", seen_cased)
    views += guess(plainest, prefix, piece=piece)
    if joined is not None and (piece or "+" in seen_cased.text):  # what was joined may have been masked, or a + a t
        views += guess(seen_cased, prefix + "apart-", piece=piece)
    return views


def _either(name: str, readings: Sequence[Chars]) -> list[View]:
    """The views of one text in several readings of its letters, a reading a line.

    A foreign word in other letters is often one letter away from an entry, so nothing is near here.
    """
    if not readings:
        return []
    lines = readings[0]
    for more in readings[1:]:
        lines = lines + Chars("\n", lines.starts[-1:], lines.ends[-1:]) + more
    plain = Chars(to_leet(lines.text), lines.starts, lines.ends)  # `l` for i, `0` for o
    views = [replace(_view(name, lines, least=_SCRIPT_LEAST), odd=())]
    if plain.text != lines.text:
        views.append(_view(name + "-leet", plain, form="leet", least=_SCRIPT_LEAST))
    return views


def _view(name: str, chars: Chars, *, form: Spelling = "plain", least: int = 1, whole: bool = False) -> View:
    odd = tuple(_odd(chars.text)) if form == "plain" and not whole else None
    return View(name, chars.text, chars.starts, chars.ends, form=form, least=least, whole=whole, odd=odd)


def _odd(text: str) -> Iterator[tuple[int, int]]:
    """The bounds of the words of `text`, folded, that are not known; what is mostly digits is a number."""
    known = load_vocabulary()
    for found in _WORD.finditer(text):
        word = found.group()
        letters = sum(c.isalpha() for c in word)
        least = _ODD_LEAST if letters == len(word) else _ODD_DIGITS_LEAST
        if len(word) >= least and 2 * letters >= len(word) and not known.knows(word):
            yield found.span()


def _join(chars: Chars, *, article: bool = False) -> Chars | None:
    """`chars` with spelled-out words (`i d i o t`, `I.D.I.O.T`, `I, D, I, O and T`) joined.

    With `article`, an `a` before the letters is none of them (`a g u n on a table`). None when there are none.
    """
    places: list[int] = []
    last = 0
    for found in SPELLED.finditer(chars.text):
        start, end = found.span()
        if article:
            if chars.text[start : start + 2] not in ("a ", "A ") or not SPELLED.match(chars.text, start + 2):
                continue
            start += 2
        places += range(last, start)
        inside = _LINKS.sub(lambda m: " " * len(m.group()), chars.text[start:end])
        places += [start + i for i, c in enumerate(inside) if c.isalnum() or c in "@$!€£¥¢"]
        last = end
    return chars.pick([*places, *range(last, len(chars.text))]) if last else None


def _leet(chars: Chars) -> Chars | None:
    """`chars` with the signs and digits of disguised words read as letters; None when no token looks disguised.

    Other tokens stay as they are, so that `fall` beside `s4le` is not read as another word.
    """
    text = list(casefold(chars).text)
    if len(text) != len(chars.text):
        return None  # a letter that folds into two: rare, and the plainer views have it
    found = False
    for token in _TOKEN.finditer(chars.text):
        word = token.group().rstrip("!|")
        if not _disguised(word) or _CODE.fullmatch(word):
            continue
        found = True
        start = token.start()
        text[start : start + len(word)] = [LEET.get(c, c) for c in text[start : start + len(word)]]
    return Chars("".join(text), chars.starts, chars.ends) if found else None


def _disguised(word: str) -> bool:
    """Whether signs or digits stand among the letters of `word`, or a capital I for a small l, or the other way.

    Digits alone are a number; with an @ among them, which is always an a, they may be a word: `513@23`.
    """
    letters = [c for c in word if c.isalpha()]
    if not letters:
        return "@" in word
    if any(c in _LEET_SIGNS for c in word):
        return True
    small = [c for c in letters if c.islower()]
    if "I" in letters:
        return bool(small) and len(small) >= len(letters) - letters.count("I")
    return "l" in small and all(c == "l" for c in small) and len(letters) - len(small) >= 2


def _repeats(name: str, chars: Chars) -> View:
    """The view in which every run of a letter is one letter; its offsets span the run."""
    text, runs = collapse(chars.text)
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for run in runs:
        starts.append(min(chars.starts[at : at + run]))
        ends.append(max(chars.ends[at : at + run]))
        at += run
    return View(name, text, tuple(starts), tuple(ends), form="repeats", runs=runs, least=3)


def _squash(name: str, chars: Chars) -> list[View]:
    """The whole lettering without anything between its letters, to be matched as a whole only."""
    kept = chars.pick([i for i, c in enumerate(chars.text) if c.isalnum() or c in "@$!"])
    views = [_view(name, casefold(kept), least=_SQUASHED_LEAST, whole=True)]
    leet = _leet(kept)
    if leet is not None:
        views.append(_view(name + "-leet", leet, form="leet", least=_SQUASHED_LEAST, whole=True))
    return views
