"""Text whose characters know their place in the original, and the steps that undo disguises on it.

Each step takes and returns `Chars`. A step may drop, expand, merge or reorder characters and never loses the offsets.
Plain ASCII text, which is most of the traffic, costs nearly nothing in any step.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import combinations

from anyascii import anyascii

from detectors.text.confusables import EMOJI, EVERYDAY, FLIPPED, LOOKALIKES, SECOND, TWINS, load_confusables

__all__ = [
    "Chars",
    "casefold",
    "clean",
    "flip",
    "from_text",
    "resolve_bidi",
    "second_readings",
    "skeleton",
    "strange_script",
]

_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,8});")
# %69, \x69, \u0069, \u{69}: of letters, digits and the blank only
_ESCAPE = re.compile(r"(?:%|\\x|\\u00|\\u\{|\\U000000|\\N\{U\+00)(2[07]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA])\}?")
_NAMED = re.compile(r"\bLETTER (?:SMALL |CAPITAL |SMALL CAPITAL )?([A-Z])(?: WITH .*)?$")
_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# an override that nothing ends is taken to end with the quotation, or with the word
_REVERSING = re.compile("[\u202e\u2067]([^\u202c\u2069\u202e\u2067\\n\"'“”‘’«»„‹›「」『』《》〈〉【】`]*)")
_REVERSING_WORD = re.compile("[\u202e\u2067]([^\u202c\u2069\u202e\u2067\\s\"'“”‘’«»„‹›「」『』《》〈〉【】`]*)")
_TOKEN = re.compile(r"\S+")
_TAGS = (
    "a|b|i|u|s|q|p|em|tt|code|kbd|del|ins|sub|sup|big|small|strong|strike|mark|span|font|center|div|h[1-6]|abbr|cite"
    "|color|size"
)
_MARK_UP = (
    re.compile(rf"<(?P<tag>{_TAGS})(?:\s[^<>]*)?>(?P<inner>[^<>]*)</(?P=tag)\s*>", re.IGNORECASE),
    re.compile(rf"\[(?P<tag>{_TAGS})(?:=[^\[\]]*)?\](?P<inner>[^\[\]]*)\[/(?P=tag)\]", re.IGNORECASE),
    re.compile(r"(?P<inner>)<(?:!--.*?--|/?w?br\s*/?|/?span|/?font)>", re.IGNORECASE),
    re.compile(r"\\(?:text(?:bf|it|tt|sf|sc|rm|up|color)?|emph|mathrm|mathbf|underline|mbox)\{(?P<inner>[^{}]*)\}"),
)
_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC"})
_MOST_SECOND = 3  # letters of a text that are read in two ways each
_SIGHT_LEAST = 4  # letters of a foreign word that is read by sight: fewer look like a word by chance
# invisible without being in category Cf: fillers, the grapheme joiner, variation selectors
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | {chr(c) for c in range(0xFE00, 0xFE10)}
_INVISIBLE |= {chr(c) for c in range(0xE0100, 0xE01F0)} | {chr(c) for c in range(0xE0000, 0xE0080)}


@dataclass(frozen=True, slots=True)
class Chars:
    """`text`, with the bounds in the original of what each of its characters stands for."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def cut(self, start: int, end: int) -> Chars:
        """The characters `start` to `end` (exclusive)."""
        return Chars(self.text[start:end], self.starts[start:end], self.ends[start:end])

    def pick(self, places: list[int], text: str | None = None) -> Chars:
        """The characters at `places`, in that order; read as `text` where given."""
        chosen = "".join(self.text[i] for i in places) if text is None else text
        return Chars(chosen, tuple(self.starts[i] for i in places), tuple(self.ends[i] for i in places))

    def __add__(self, other: Chars) -> Chars:
        return Chars(self.text + other.text, self.starts + other.starts, self.ends + other.ends)


def from_text(text: str, start: int = 0) -> Chars:
    """`text` as it is, with offsets counted from `start`."""
    return Chars(text, tuple(range(start, start + len(text))), tuple(range(start + 1, start + len(text) + 1)))


def clean(chars: Chars) -> Chars:
    """What is seen of `chars`: entities resolved, invisibles dropped, compatibility forms made plain, blanks made
    one."""
    text = chars.text
    if "&" in text:
        chars = _rebuild(chars, _ENTITY, lambda found: html.unescape(found))
        text = chars.text
    if "%" in text or "\\" in text:
        chars = _rebuild(chars, _ESCAPE, _unescape)
        text = chars.text
    if "<" in text or "[" in text or "\\" in text:
        chars = _unmarked_up(chars)
        text = chars.text
    if not text.isascii():
        chars = _compose(chars)
        text = chars.text
    if "  " in text or not text.isprintable() or text != text.strip():
        chars = _blanks(chars)
    return chars


def casefold(chars: Chars) -> Chars:
    """`chars` without the difference of capitals and small letters."""
    if chars.text.isascii():
        return Chars(chars.text.lower(), chars.starts, chars.ends)
    return _each(chars, lambda _, c: unicodedata.normalize("NFKC", c.casefold()))


def skeleton(chars: Chars, *, second: Collection[str] = ()) -> Chars:
    """`chars` with letters of other scripts that pass for Latin ones replaced by these.

    A token that is written in its own script throughout is left alone: honest Russian, Greek or Chinese is no disguise.
    The letters in `second`, which pass for two, are read in the rarer way.
    """
    if chars.text.isascii():
        return chars
    honest: set[int] = set()
    for token in _TOKEN.finditer(chars.text):
        if _is_honest(token.group()):
            honest.update(range(*token.span()))
    return _each(chars, lambda i, c: c if c.isascii() or i in honest else _read(c, second))


def strange_script(chars: Chars, *, second: Collection[str] = ()) -> Chars | None:
    """`chars` as `skeleton` reads them, and so too the words of one foreign script that may be no honest ones.

    These are words in which every letter passes for a Latin one (`ιδιοτ`), which honest words seldom do, of four
    letters or more unless others are disguised or there is nothing else; and words with letters that hardly any text in
    their script has. None when there is no such word.
    """
    if chars.text.isascii():
        return None
    tokens = [(t.span(), t.group(), _is_honest(t.group())) for t in _TOKEN.finditer(chars.text)]
    foreign = [said for _, said, honest in tokens if honest]
    disguised = any(not honest and not said.isascii() for _, said, honest in tokens)
    least = 1 if disguised or _is_by_sight("".join(foreign), _SIGHT_LEAST) else _SIGHT_LEAST
    left, found = set[int](), False
    for span, said, honest in tokens:
        if honest and (_is_strange(said) or _is_by_sight(said, least)):
            found = True
        elif honest:
            left.update(range(*span))
    return _each(chars, lambda i, c: c if c.isascii() or i in left else _read(c, second)) if found else None


def second_readings(text: str) -> list[tuple[str, ...]]:
    """The sets of letters of `text` that may be read in their rarer way; of the first `_MOST_SECOND` such letters."""
    if text.isascii():
        return []
    letters = [c for c in dict.fromkeys(text) if c in SECOND][:_MOST_SECOND]
    return [chosen for n in range(1, len(letters) + 1) for chosen in combinations(letters, n)]


def resolve_bidi(chars: Chars, *, words: bool = False) -> Chars | None:
    """`chars` in the order in which they are displayed; None when no override or isolate turns them around.

    With `words` an override reaches to the end of its word only: one that nothing ends may be meant so.
    """
    if not any(c in chars.text for c in "\u202e\u2067"):
        return None
    places = list(range(len(chars.text)))
    for found in (_REVERSING_WORD if words else _REVERSING).finditer(chars.text):
        start, end = found.span(1)
        places[start:end] = reversed(places[start:end])
    return chars.pick([i for i in places if chars.text[i] not in _BIDI])


def flip(chars: Chars, least: int = 2) -> Chars | None:
    """`chars` turned upright when they are written upside down; None when fewer than `least` of them are."""
    if chars.text.isascii() or sum(c in FLIPPED and not c.isascii() for c in chars.text) < least:
        return None
    turned = "".join(FLIPPED.get(c, c) for c in reversed(chars.text))
    return chars.pick(list(range(len(chars.text) - 1, -1, -1)), turned)


def _unmarked_up(chars: Chars) -> Chars:
    """`chars` without mark-up that is not seen: tags that come in pairs, line breaks, commands of LaTeX."""
    for pattern in _MARK_UP:
        while (found := pattern.search(chars.text)) is not None:
            start, end = found.span("inner")
            chars = chars.cut(0, found.start()) + chars.cut(start, end) + chars.cut(found.end(), len(chars.text))
    return chars


def _compose(chars: Chars) -> Chars:
    """Visible characters in NFKC; a letter and its combining marks become one piece."""
    text, out = chars.text, list[str]()
    starts, ends = list[int](), list[int]()
    i = 0
    while i < len(text):
        if text[i].isascii() and (i + 1 == len(text) or text[i + 1].isascii()):
            out.append(text[i])
            starts.append(chars.starts[i])
            ends.append(chars.ends[i])
            i += 1
            continue
        if text[i] in _INVISIBLE or unicodedata.category(text[i]) == "Cf":
            i += 1
            continue
        j = i + 1
        piece = text[i]
        while j < len(text) and (unicodedata.combining(text[j]) or text[j] in _INVISIBLE or _encloses(text[j])):
            piece += text[j] if unicodedata.combining(text[j]) else ""
            j += 1
        said = _unburdened(unicodedata.normalize("NFKC", piece))
        out.append(said)
        starts.extend([chars.starts[i]] * len(said))
        ends.extend([chars.ends[j - 1]] * len(said))
        i = j
    return Chars("".join(out), tuple(starts), tuple(ends))


def _unburdened(said: str) -> str:
    """`said` without the marks that no letter of its script carries: in Latin, Greek and Cyrillic, those that do not
    compose. Other scripts write vowels that way."""
    if len(said) < 2 or not ("a" <= said[0].lower() <= "\u052f"):
        return said
    return "".join(c for c in said if not unicodedata.combining(c)) or said


def _encloses(c: str) -> bool:
    """Whether `c` is a circle, a key cap or a stroke drawn around the letter before it."""
    return unicodedata.category(c) == "Me"


def _unescape(found: str) -> str:
    digits = _ESCAPE.fullmatch(found)
    return chr(int(digits.group(1), 16)) if digits else found


def _blanks(chars: Chars) -> Chars:
    """Each run of white space and control characters as one blank; none at the edges."""
    places: list[int] = []
    text: list[str] = []
    for i, c in enumerate(chars.text):
        blank = c.isspace() or not c.isprintable()
        if blank and (not text or text[-1] == " "):
            continue
        places.append(i)
        text.append(" " if blank else c)
    if text and text[-1] == " ":
        places.pop()
        text.pop()
    return chars.pick(places, "".join(text))


def _each(chars: Chars, change: Callable[[int, str], str]) -> Chars:
    """Every character replaced by what `change` makes of its place and itself, which may be several or none."""
    changed = [change(i, c) for i, c in enumerate(chars.text)]
    return chars.pick([i for i, said in enumerate(changed) for _ in said], "".join(changed))


def _unmarked(c: str) -> str:
    """`c` without accents and strokes."""
    return "".join(d for d in unicodedata.normalize("NFKD", c) if not unicodedata.combining(d))


def _rebuild(chars: Chars, pattern: re.Pattern[str], change: Callable[[str], str]) -> Chars:
    """Every match of `pattern` replaced by what `change` makes of it, with the match's bounds."""
    out = Chars("", (), ())
    last = 0
    for found in pattern.finditer(chars.text):
        said = change(found.group())
        if said == found.group():
            continue
        start, end = found.span()
        bounds = (chars.starts[start],) * len(said), (chars.ends[end - 1],) * len(said)
        out = out + chars.cut(last, start) + Chars(said, *bounds)
        last = end
    return out + chars.cut(last, len(chars.text)) if last else chars


def _is_honest(token: str) -> bool:
    """Whether `token` has letters of one foreign script only, at least one of which has no Latin twin."""
    letters = [c for c in token if c.isalpha()]
    if not letters or any(c.isascii() for c in letters):
        return False
    scripts = {_script(c) for c in letters}
    return len(scripts) == 1 and "LATIN" not in scripts and any(c not in TWINS for c in letters)


def _script(c: str) -> str:
    """The script of a letter, by its name; those that one language writes beside each other as one."""
    name = unicodedata.name(c, "?").split()[0].partition("-")[0]
    return "CJK" if name in _EAST_ASIAN else name


def _is_strange(token: str) -> bool:
    return any("\u0370" <= c <= "\u052f" and c in LOOKALIKES and c not in EVERYDAY for c in token.casefold())


def _is_by_sight(token: str, least: int) -> bool:
    """Whether all letters of `token`, which are `least` or more, pass for Latin ones."""
    drawn = _unmarked(token)
    table = load_confusables()[1]
    seen = [c in LOOKALIKES or c.casefold() in LOOKALIKES or c in table for c in drawn]
    return sum(seen) >= least and all(ok for c, ok in zip(drawn, seen, strict=True) if c.isalpha())


def _read(c: str, second: Collection[str]) -> str:
    """What `c` passes for, in its rarer way if it is among `second`."""
    return SECOND[c] if c in second else "".join(map(_latin, _unmarked(c)))


def _latin(c: str) -> str:
    """The Latin letter that `c` passes for, by sight first, else by anyascii.

    `c` itself when neither knows a letter.
    """
    if c.isascii():
        return c
    if (drawn := EMOJI.get(c)) is not None:
        return drawn
    seen = LOOKALIKES.get(c) or LOOKALIKES.get(c.casefold()) or load_confusables()[1].get(c)
    if seen:
        return seen
    said = anyascii(c)
    if 0 < len(said) <= 2 and said.isalnum():
        return said
    named = _NAMED.search(unicodedata.name(c, ""))
    return named.group(1) if named else c
