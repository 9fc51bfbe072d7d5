"""Readings of words that look tampered with: decorated, glued, masked, split or reversed.

Each reading is a guess. Guesses form views of their own, one guess per line, behind all views that only undo what is
plainly there. No guess knows an operator's lists: a masked letter is filled with every letter, a glued word is offered
without its known neighbours, and a list entry must match a whole guess. Words that are known to be innocent are not
guessed about. The number of guesses is bounded, so a long request costs little more than a short one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from string import ascii_lowercase

from detectors.text.chars import Chars, casefold
from detectors.text.sounds import respellings
from detectors.text.vocabulary import Vocabulary, load_vocabulary
from policies.spelling import LEET
from policies.types import View

__all__ = ["guess", "looks_split"]

# The numbers below were set by hand. A change trades recall against false alarms. `palimpsest evaluate detectors
# --tuning` measures both on the half of the corpora that may be tuned on (`evaluation/prompts/corpus.py`).

# what a word and a hidden letter look like
_AS_LEET = str.maketrans(LEET)
_TOKEN = re.compile(r"\S+")  # what stands between blanks
_BLANK = re.compile(r"\s")
_EDGE = re.compile(r"^[\W_]+|[\W_]+$")  # punctuation around a word
_RUN = re.compile(r"[^\W_]+")  # letters and digits without signs between them
_CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # the parts of `stupidIdiot` and of `ANIdiot`
_INNER_DIGITS = re.compile(r"(?<=[^\W\d_])\d+(?=[^\W\d_])")  # `i1d2i3o4t`
_EDGE_DIGITS = re.compile(r"^[\d\W_]+|[\d\W_]+$")  # `123idiot99`
_EDGE_CROSSES = re.compile(r"^x{1,3}(?=.{4})|(?<=.{4})x{1,3}$")  # `xxidiotxx`; a word of four letters has to remain
_SIGNS = "@$!|+€£¥¢"  # signs that stand for letters, so that they belong to a word even at its end
_UPRIGHT = "bqdpnuosxzli"  # letters that are letters upside down, too; `_TURNED` says which
_TURNED = str.maketrans("bqdpnuosxzli", "qbpdunosxzli")
_LETTERS = "".join(dict.fromkeys(ascii_lowercase.translate(_AS_LEET)))  # the alphabet in the spelling of disguises
_PICTOGRAM = "\u2600-\u27bf\U0001f000-\U0001faff"  # a heart or a face may stand for any letter: `l❤ser`
_MASK = rf"[*#_%?^~•·×✱✲✳❋＊※●■○□▪◾.\-–—=x{_PICTOGRAM}]"  # an x too: it hides a vowel as often as a star does
_ONE_MASK = re.compile(_MASK)
# a mask behind a first letter (`i*iot`), a star in front (`*diot`), or a star or hash at the end (`idio*`)
_MASKED = re.compile(rf"[^\W_]\S*{_MASK}\S*[^\W_*#]|\*\w\S*|\S*\w[*#]")
# signs that also separate letters: `i-d-i-o-t` is spelled out, not masked
_SOFT_MASK = re.compile(rf"[_~·•.\-–—={_PICTOGRAM}]")
_ADJACENT = re.compile(r"[^\W_]{2}")  # two letters side by side: then soft signs do not separate letters

# the shortest guesses: shorter ones are mostly innocent words
_LEAST = 4  # shorter words have too many innocent neighbours
_LEAST_REVERSED = 5  # four letters backwards are often a word by chance: `star`, `live`
_LEAST_CUT = 5  # a guess cut out of a longer token has more ways to be there by chance
_DIGITS_BETWEEN = 2  # runs of digits between letters: one may be a letter, `id10t`
_LEAST_PARTLY = 5  # letters of a word of which a letter before or behind is left out
_SOUNDED = (4, 14)  # letters of a word that is spelled as it sounds
_SURE = 6  # letters of a word that is believed although what follows it may be a mere ending
_CHANCE_LEAST = 3  # fewer letters behind a word may be its ending: `idiots`
# words with which other words end by chance: behind a short word they say nothing (`prat her`, `moron go`)
_CHANCE_ENDS = frozenset({
    "her", "ten", "age", "son", "ton", "and", "end", "ate", "red",
    "ran", "per", "sis", "tin", "top", "out", "ant", "man", "ice",
})  # fmt: skip

# the longest texts that are looked into
_LONGEST = 40  # characters of a token or of a lettering that is cut into words: longer tokens are addresses, codes
_PHRASE = 40  # characters of a lettering that is guessed about as a whole: a sign, not a paragraph
_MOST_BACKWARDS = 64  # characters of a lettering that is read backwards
_FRAGMENT = 12  # characters of a piece of a split word
_WINDOW = 5  # pieces of one split word (`id io t`), and words of a lettering with masked words
_LONGEST_MASKED = 16  # characters of a masked word
_LONGEST_TWICE = 11  # characters of a word whose two hidden letters are tried with the whole alphabet

# bounds on work, so that a long request costs little more than a short one
_MOST_MASKED = 64  # masked words that are filled in
_MOST_TWICE = 4  # of these, with two letters from the whole alphabet, hundreds of guesses each; the others get vowels
_MOST_FITTING = 8  # words of the vocabulary that a mask may stand for
_MOST_PHRASES = 64  # readings of a lettering with several masked words
_MOST_CUTS = 6  # ways to cut a token into words
_MOST_SOUNDED = 6  # words that are spelled as they sound
_MOST_GLUED = 48  # readings of one token without its neighbours


@dataclass(frozen=True, slots=True)
class _Token:
    """A word of the text without what surrounds it: folded, as it was written, and where it stands."""

    text: str
    cased: str
    start: int
    known: bool


class _Guesses:
    """The guesses of one view: lines of text in the spelling of disguises, and the places of their characters."""

    def __init__(self, chars: Chars, least: int = _LEAST) -> None:
        self._chars = chars
        self._least = least
        self._text: list[str] = []
        self._places: list[int] = []
        self._seen: set[tuple[str, int]] = set()
        self._odd: list[tuple[int, int]] = []

    def add(self, text: str, places: Sequence[int], *, odd: bool = False) -> None:
        """Adds a guess; an `odd` one may also be a word that is only near to an entry."""
        said = text.translate(_AS_LEET)
        if len(said) - said.count(" ") >= self._least and (said, places[0]) not in self._seen:
            self._seen.add((said, places[0]))
            self._text.append(said)
            if odd:
                self._odd.append((len(self._places), len(self._places) + len(said)))
            self._places.extend(places)
            self._places.append(places[-1])

    def view(self, name: str) -> Iterator[View]:
        """The view of what was added; none when that is nothing."""
        if self._text:
            starts, ends = self._chars.starts, self._chars.ends
            bounds = tuple(starts[p] for p in self._places), tuple(ends[p] for p in self._places)
            text, odd = "\n".join(self._text) + "\n", tuple(self._odd)
            yield View(name, text, *bounds, form="leet", least=self._least, odd=odd)


def guess(chars: Chars, prefix: str, *, piece: bool) -> Iterator[View]:
    """The views of guesses about `chars`, as they are displayed, letters made Latin.

    `piece` says that the text is all of one lettering: then it is also read as one word, and backwards.
    """
    words = load_vocabulary()
    text = casefold(chars).text
    if len(text) != len(chars.text):
        return  # a letter that folds into two: rare, and the plainer views have it
    tokens = list(_tokens(text, chars.text, words))
    odd = [t for t in tokens if not t.known and len(t.text) <= _LONGEST]
    if odd:
        cleared, glued, masked = _Guesses(chars), _Guesses(chars), _Guesses(chars)
        cut = _Guesses(chars, _LEAST_CUT)
        partly, sounded = _Guesses(chars, _LEAST_PARTLY), _Guesses(chars)
        for token in odd:
            _clear(cleared, token)
            _unglue(glued, token, words)
            _cut(cut, token, words)
            if piece:
                _trim(partly, token)
        if piece:
            _sound(sounded, odd)
        _unmask(masked, odd, words)
        if piece and len(tokens) > 1 and len(text) <= _PHRASE:
            _clear_phrase(cleared, tokens)
            _unmask_phrase(masked, text, tokens, words)
        yield from cleared.view(prefix + "cleared")
        yield from glued.view(prefix + "unglued")
        yield from cut.view(prefix + "cut")
        yield from masked.view(prefix + "unmasked")
        yield from partly.view(prefix + "trimmed")
        yield from sounded.view(prefix + "sounded")
    rejoined, recut = _Guesses(chars), _Guesses(chars, _LEAST_CUT)
    _rejoin(rejoined, tokens, piece=piece)
    yield from rejoined.view(prefix + "rejoined")
    if piece:
        _resegment(recut, tokens, words)
    yield from recut.view(prefix + "recut")
    if piece and odd:
        backwards = _Guesses(chars, _LEAST_REVERSED)
        _reverse(backwards, text, odd)
        yield from backwards.view(prefix + "reversed")
        turned = _Guesses(chars)
        for token in odd:
            if all(c in _UPRIGHT for c in token.text):  # upside down in letters that stay letters
                end = token.start + len(token.text)
                turned.add(token.text[::-1].translate(_TURNED), range(end - 1, token.start - 1, -1))
        yield from turned.view(prefix + "turned")


def looks_split(text: str) -> bool:
    """Whether `text`, folded and of several words, may be one word in pieces.

    Words that are all known are one only when none of them is so short that chance puts them together: `go on`.
    """
    words = load_vocabulary()
    cores = [_EDGE.sub("", token) for token in text.split()]
    return any(not words.knows(c) for c in cores if c) or all(len(c) >= 3 for c in cores)


def _tokens(text: str, cased: str, words: Vocabulary) -> Iterator[_Token]:
    for found in _TOKEN.finditer(text):
        start, end = found.span()
        while start < end and not (text[start].isalnum() or text[start] in _SIGNS):
            start += 1
        while start < end and not (text[end - 1].isalnum() or text[end - 1] in _SIGNS):
            end -= 1
        # a star at one side only hides a letter; at both it is emphasis
        before, after = found.start() < start and text[start - 1] == "*", end < found.end() and text[end] in "*#"
        if end - start >= _LEAST - 1 and before != after:
            start, end = start - before, end + after
        # letters that are not Latin by now are honest ones, of which no guess is made
        if start < end and not any(c.isalpha() and not c.isascii() for c in text[start:end]):
            core = text[start:end]
            yield _Token(core, cased[start:end], start, words.knows(core))


def _clear(found: _Guesses, token: _Token) -> None:
    """The token without signs inside, without digits and crosses around it, and its parts by capitals."""
    text, start = token.text, token.start
    if not text.isalpha():
        for keep in (_SIGNS, ""):
            places = [i for i, c in enumerate(text) if c.isalnum() or c in keep]
            if places and len(places) < len(text):
                found.add("".join(text[i] for i in places), [start + i for i in places])
        if places := _between_digits(text):
            found.add("".join(text[i] for i in places), [start + i for i in places])
    a, b = _within(_EDGE_DIGITS, text, 0, len(text))
    if (a, b) != (0, len(text)) and a < b:
        found.add(text[a:b], range(start + a, start + b))
    c, d = _within(_EDGE_CROSSES, text, a, b)
    if (c, d) != (a, b) and c < d:
        found.add(text[c:d], range(start + c, start + d))
    parts = list(_CAMEL.finditer(token.cased)) if token.cased != text else []
    if 1 < len(parts) < len(text) / 2:
        said, places = "", list[int]()
        for part in parts:
            at = range(start + part.start(), start + part.end())
            found.add(part.group().lower(), at)
            said += " " * bool(said) + part.group().lower()
            places += [at[0]] * (len(places) > 0) + [*at]
        found.add(said, places)


def _clear_phrase(found: _Guesses, tokens: Sequence[_Token]) -> None:
    """All tokens without signs inside and digits around them, as one phrase."""
    said, places = "", list[int]()
    for token in tokens:
        a, b = _within(_EDGE_DIGITS, token.text, 0, len(token.text))
        a, b = _within(_EDGE_CROSSES, token.text, a, b)
        kept = _between_digits(token.text) or [i for i in range(a, b) if token.text[i].isalnum()]
        if kept:
            places += [token.start] * bool(said) + [token.start + i for i in kept]
            said += " " * bool(said) + "".join(token.text[i] for i in kept)
    if said:
        found.add(said, places)


def _between_digits(text: str) -> list[int]:
    """The places of the letters of `text` when digits only stand between them; else none."""
    digits = len(_INNER_DIGITS.findall(text)) >= _DIGITS_BETWEEN
    return [i for i, c in enumerate(text) if c.isalpha()] if digits else []


def _within(pattern: re.Pattern[str], text: str, start: int, end: int) -> tuple[int, int]:
    """The bounds of `text[start:end]` without what `pattern` finds at its edges."""
    for edge in pattern.finditer(text[start:end]):
        if edge.start() == 0:
            start, end = start + edge.end(), end
        else:
            end = end - (edge.end() - edge.start())
    return start, max(start, end)


def _unglue(found: _Guesses, token: _Token, words: Vocabulary) -> None:
    """What is left of the token when known words are taken off its ends, and the token in known words."""
    text = token.text.translate(_AS_LEET)
    n = len(text)
    if not text.isalnum():
        for part in _RUN.finditer(token.text):
            if _LEAST < len(part.group()) < n:
                start = token.start + part.start()
                _unglue(found, _Token(part.group(), part.group(), start, False), words)
        return
    if n <= _LEAST:
        return
    heads = _reachable(text, words)
    tails = [n - i for i in _reachable(text[::-1], words, backwards=True)]
    spans = ((i, j) for i in heads for j in tails if (i, j) != (0, n) and _is_glued(text, i, j))
    for i, j in islice(spans, _MOST_GLUED):
        found.add(text[i:j], range(token.start + i, token.start + j))


def _cut(found: _Guesses, token: _Token, words: Vocabulary) -> None:
    """The token, or the letters in it, in known words."""
    runs = {m.span() for m in _RUN.finditer(token.text)}
    if token.cased != token.text:
        runs |= {m.span() for m in _CAMEL.finditer(token.cased)}
        runs |= {
            (m.start() - 1, m.end())
            for m in _CAMEL.finditer(token.cased)
            if token.cased[m.start() - 1] == "I" and m.start()
        }
    for a, b in sorted(runs):
        if b - a >= _LEAST_CUT:
            _add_segmented(found, token.text[a:b].translate(_AS_LEET), range(token.start + a, token.start + b), words)


def _trim(found: _Guesses, token: _Token) -> None:
    """The token without its first or its last letter: `qidiot`, `idiotx`."""
    text, start = token.text, token.start
    if text.isalpha() and len(text) > _LEAST_PARTLY:
        found.add(text[1:], range(start + 1, start + len(text)))
        found.add(text[:-1], range(start, start + len(text) - 1))


def _sound(found: _Guesses, tokens: Iterable[_Token]) -> None:
    """The tokens in the usual spelling of their sounds."""
    least, most = _SOUNDED
    for token in islice((t for t in tokens if t.text.isalpha() and least <= len(t.text) <= most), _MOST_SOUNDED):
        for said in respellings(token.text):
            found.add(said, [token.start] * (len(said) - 1) + [token.start + len(token.text) - 1])


def _is_glued(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` may be a word of its own, and not the beginning of a longer one."""
    if len(text) - (end - start) == 1 and end - start < _LEAST_PARTLY:
        return False  # one letter more makes a name of a short word: `Ashit`
    after = text[end:]
    chance = after and (len(after) < _CHANCE_LEAST or after in _CHANCE_ENDS)
    return end - start >= (_SURE if chance else _LEAST)


def _reachable(text: str, words: Vocabulary, *, backwards: bool = False) -> list[int]:
    """The places, from 0 on, up to which `text` is made of known words; turned around where it is read backwards."""
    n = len(text)
    ok = [True] + [False] * n
    reached = []
    for start in range(n):
        if ok[start]:
            reached.append(start)
            for end in range(start + 1, min(n, start + words.longest) + 1):
                part = text[start:end]
                if not ok[end] and (part[::-1] if backwards else part) in words.pieces:
                    ok[end] = True
    return [*reached, n] if ok[n] else reached


def _segmented(text: str, words: Vocabulary) -> list[list[int]]:
    """The ways to cut `text` into the fewest known words, each as the places where words end; at most `_MOST_CUTS`."""
    best: list[list[list[int]]] = [[[]]]
    for end in range(1, len(text) + 1):
        options = [
            [*cut, end]
            for start in range(max(0, end - words.longest), end)
            if best[start] and (text[start:end] in words.pieces or (text[start:end] == "i" and start not in (1, 2, 3)))
            for cut in best[start]
        ]
        fewest = min(map(len, options), default=0)
        best.append([cut for cut in options if len(cut) == fewest][:_MOST_CUTS])
    return [cut for cut in best[-1] if len(cut) > 1]


def _add_segmented(found: _Guesses, text: str, places: Sequence[int], words: Vocabulary) -> None:
    """Adds `text` with a blank between its known words, in every way of cutting it."""
    for cut in _segmented(text, words):
        said, where, start = "", list[int](), 0
        for end in cut:
            said += " " * bool(start) + text[start:end]
            where += [places[start]] * bool(start) + [*places[start:end]]
            start = end
        found.add(said, where)


def _unmask(found: _Guesses, tokens: Iterable[_Token], words: Vocabulary) -> None:
    """The tokens with one or two hidden letters filled in, with every letter; with more, by words of our list."""
    twice = 0
    masked = (t for t in tokens if len(t.text) <= _LONGEST_MASKED and _MASKED.fullmatch(t.text))
    for token in islice(masked, _MOST_MASKED):
        text, places = token.text, range(token.start, token.start + len(token.text))
        holes = [m.start() for m in _ONE_MASK.finditer(text)]
        if len(text) < _LEAST or (_SOFT_MASK.search(text) and not _ADJACENT.search(text)):
            continue  # letter by letter is spelled out, not masked
        if len(text) == _LEAST and all(text[hole] == "x" for hole in holes) and any(c.isdigit() for c in text):
            continue  # `tx7s` is a code
        if len(holes) > 2:
            for word in words.fitting(_pattern(text), _MOST_FITTING):
                found.add(word, places)
            continue
        twice += len(holes) == 2
        wide = len(holes) == 1 or (twice <= _MOST_TWICE and len(text) <= _LONGEST_TWICE)
        pieces = list(text)
        for letters in product(_LETTERS if wide else "aeiou", repeat=len(holes)):
            for hole, letter in zip(holes, letters, strict=True):
                pieces[hole] = letter
            found.add("".join(pieces), places)


def _unmask_phrase(found: _Guesses, text: str, tokens: Sequence[_Token], words: Vocabulary) -> None:
    """The whole lettering with one hidden letter filled in, or with masked words as words that they may be."""
    holes = [i for i in range(1, len(text) - 1) if _ONE_MASK.match(text[i]) and not _BLANK.search(text[i - 1 : i + 2])]
    if len(holes) == 1:
        for letter in _LETTERS:
            found.add(text[: holes[0]] + letter + text[holes[0] + 1 :], range(len(text)))
    masked = {t.start for t in tokens if _MASKED.fullmatch(t.text)}
    if not masked or len(tokens) > _WINDOW:
        return
    options = [words.fitting(_pattern(t.text), _MOST_FITTING) if t.start in masked else [t.text] for t in tokens]
    places = [p for t in tokens for p in range(t.start, t.start + len(t.text) + 1)][:-1]
    for said in islice(product(*options), _MOST_PHRASES):
        found.add(" ".join(said), places)


def _pattern(text: str) -> str:
    """`text` in the spelling of disguises, its hidden letters as stars."""
    return "".join("*" if (i or c == "*") and _ONE_MASK.match(c) else c.translate(_AS_LEET) for i, c in enumerate(text))


def _rejoin(found: _Guesses, tokens: Sequence[_Token], *, piece: bool) -> None:
    """Neighbours as one word, when at least one of them is no word by itself.

    In lettering two known words are joined too: `dim wit`. Only fragments, of which none is a word, may be near to an
    entry together.
    """
    for i in range(len(tokens)):
        places: list[int] = []
        said = ""
        known = fragments = True
        for k, token in enumerate(tokens[i : i + _WINDOW]):
            if not token.text.isalnum() or len(token.text) > _FRAGMENT:
                break
            said += token.text
            places += range(token.start, token.start + len(token.text))
            known = known and token.known
            fragments = fragments and (not token.known or len(token.text) == 1)
            compound = piece and k == 1 and min(len(tokens[i].text), len(token.text)) >= 3
            if k and (not known or compound):
                found.add(said, places, odd=fragments)


def _resegment(found: _Guesses, tokens: Sequence[_Token], words: Vocabulary) -> None:
    """The whole lettering with the blanks where known words want them: `killt hem` is two words."""
    said = ("".join(t.text for t in tokens)).translate(_AS_LEET)
    places = [p for t in tokens for p in range(t.start, t.start + len(t.text))]
    if len(tokens) > 1 and len(said) <= _LONGEST and said.isalnum():
        _add_segmented(found, said, places, words)


def _reverse(found: _Guesses, text: str, odd: Sequence[_Token]) -> None:
    """The whole lettering backwards, and each word that is none."""
    if len(text) <= _MOST_BACKWARDS:
        found.add(text[::-1], range(len(text) - 1, -1, -1))
    for token in odd:
        if token.text.isalnum():
            end = token.start + len(token.text)
            found.add(token.text[::-1], range(end - 1, token.start - 1, -1))
