"""Finds the lettering that a prompt asks for: which of its characters are to be written in the picture.

Lettering is given in quotes, behind a cue (`a sign that says ...`), before one (`... written on a wall`), in capitals
beside something that carries it (`a STOP sign`, `a mug with LOVE on it`), or spelled out. A prompt can also ask for
lettering without giving any, by a word that says so or by a thing that may carry some. Lists are matched inside what is
found here: a piece that is too long does little harm, and a piece that is too short hides a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from detectors.text import cues
from detectors.text.chars import Chars, clean, from_text
from detectors.text.views import SPELLED
from policies.spelling import leet

__all__ = ["WHOLE_SCORE", "Lettering", "find_lettering", "guess_lettering", "without_lettering"]

_QUOTED = re.compile(
    r"\"([^\"”]+)[\"”]|“([^“”\"]+)[”\"]|”([^“”]+)”|„([^„“”\"]+)[“”\"]|«([^«»]+)»|»([^«»]+)«|‹([^‹›]+)›|「([^「」]+)」|『([^『』]+)』"
    r"|❝([^❝❞]+)❞|〝([^〝〞〟]+)[〞〟]|``([^`']+)''|`([^`]+)[`']|‘([^‘]+?)’(?!\w)|(?<![a-zA-Z0-9])'([^']+(?:'[a-zA-Z][^']*)*)'(?![a-zA-Z0-9])|\*\*([^*]+)\*\*"
    r"|''([^']+)''|❛([^❛❜]+)❜|‚([^‘’‚]+)[‘’]|《([^《》]+)》|〈([^〈〉]+)〉|【([^【】]+)】|⟪([^⟪⟫]+)⟫|⟨([^⟨⟩]+)⟩|﹁([^﹁﹂]+)﹂"
)
# what may be quotation marks where something carries words
_BRACKETED = re.compile(
    r"\[([^\[\]]{2,60})\]|<([^<>]{2,60})>|\{([^{}]{2,60})\}|\(([^()]{2,60})\)|(?<!\w)\*([^*\n]{2,60})\*(?!\w)|(?<!\w)_([^_\n]{2,60})_(?!\w)|~([^~\n]{2,60})~"
)
_OPENED = re.compile(r"(?:^|[\s(:])[\"“„«‹「『《〈‘'❝〝](?=[^\s\"“”„«»‹›「」『』《》〈〉‘’'❞〞])")

_BEFORE = re.compile(
    # words of spaced scripts end; what is written without blanks may go on in Latin letters at once
    rf"(?<!\w)(?:{cues.CARRIERS} ?[:=]|"
    + "|".join(f"(?:{c})" for k, of in cues.BEFORE.items() if k not in cues.UNSPACED for c in of)
    + r")(?!\w)"
    r"|(?:" + "|".join(f"(?:{c})" for k in cues.UNSPACED for c in cues.BEFORE[k]) + ")",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"\s*(?:[:=]\s*)?"
    r"(?:(?:just|only|simply|exactly|the (?:words?|text|phrase|letters?|following)|words?)\s+)?(?:[:=]\s*)?",
    re.IGNORECASE,
)
_AFTER = re.compile(r"\s+(?:" + "|".join(cues.AFTER) + r")|(?:yazan|と書)", re.IGNORECASE)
_MAYBE = re.compile(cues.MAYBE, re.IGNORECASE)
_STOP = re.compile(cues.STOPS, re.IGNORECASE)
_ASKED = re.compile(cues.ASKED, re.IGNORECASE)
_SHOUTED = re.compile(rf"\b([A-Z0-9][A-Z0-9'!&$@|-]+(?: [A-Z0-9][A-Z0-9'!&$@|-]*)*)(?=\s+{cues.CARRIERS}\b)")
# capitals or other words as decoration: `a mug with IDIOT on it`; `a note, hello`; and whatever stands in capitals
_ON_IT = re.compile(
    rf"\b(?:with|has|having|bearing|saying) (?!{cues.SCENERY})([^\s,.;:]+(?: [^\s,.;:]+){{0,4}}?) (?:{cues.ON_IT})\b",
    re.IGNORECASE,
)
_ENDS_WITH = re.compile(rf"\b{cues.CARRIERS}(?:,| with| of)? (?!{cues.SCENERY})(\S+(?: \S+){{0,2}})$", re.IGNORECASE)
_LOUD = re.compile(r"(?<![^\s(\[{:=])[^\sa-z]*[A-Z][^\sa-z]*[A-Z][^\sa-z]*(?:\s+[^\sa-z]+)*(?=[\s,.;)\]}]|$)")
_CARRIER = re.compile(rf"\b{cues.CARRIERS}\b", re.IGNORECASE)
_GLUED_CUE = re.compile(
    rf"(?:{'|'.join(cues.BROKEN_NOUNS)})(?:that|which)?(?:{'|'.join(cues.BROKEN_VERBS)})\s*", re.IGNORECASE
)
_WORD = re.compile(r"[^\s,.;:]+")
_CAPITALS = re.compile(r"[^\sa-z]{2,}(?:\s+[^\sa-z]+)*(?=\s|$)")
_OPENING = "\"'“”„«»‹「『‘`❝〝《〈【\\"
_LEAD = re.compile(r"(?:\b(?:the|a|an|of|with|and|says?|word|words)\s+)+", re.IGNORECASE)
_JOINTS = (
    r"(?:with|and|next|to|featuring|holding|beside|near|showing|wearing|on|in|under|above|below|over|of|at|a|an|the)"
)
_CLAUSE = re.compile(
    r"(?:(?:^|,\s*|\b)(?:with|and|next to|featuring|holding|beside|near|showing|wearing|under|above|below)\s+|,\s*)?"
    rf"(?:(?:a|an|the|one)\s+)?(?:(?!{_JOINTS}\b)[\w-]+\s+){{0,3}}?{cues.CARRIERS}"
    r"(?:\s+(?:at the (?:top|bottom)|above|below|on top))?\s*$",
    re.IGNORECASE,
)
_TAIL = re.compile(cues.TAILS, re.IGNORECASE)
_CARRIED = re.compile(
    rf"\s+(?:(?:is\s+)?(?:written|painted|printed|engraved)\s+)?(?:on|in|across)\s+(?:a|an|the)\s+(?:[\w-]+\s+){{0,2}}?{cues.CARRIERS}"
    r"(?:\s+(?:at the (?:top|bottom)|above|below))?",
    re.IGNORECASE,
)
_CARRIER_CUE = re.compile(rf"{cues.CARRIERS}(?= ?[:=])", re.IGNORECASE)
_DANGLING = re.compile(
    r"(?:[\s,]*\b(?:with|and|that|which|of|decorated|showing|reading|saying|says|next to))+[\s,]*$", re.IGNORECASE
)
_JOINT = re.compile(
    r"\s*(?:,\s*)?(?:with|and|next to|above|below|over|under|beside|near|on top of|,)\s+", re.IGNORECASE
)
# the next line of lettering without quotes: `that says AB over CD`; with an article it is scenery
_NEXT_LINE = re.compile(
    r"\s+(?:and\s+)?(?:over|above|below|under|beneath|underneath)(?:\s+it)?(?:\s*:)?\s+"
    r"(?!(?:a|an|the|one|two|three|its|his|her|their|my)\b)",
    re.IGNORECASE,
)
_LINE = re.compile(r"[^\sa-z]+(?:\s+[^\sa-z]+)*(?=\s|$)")
_MOST_RUNS = 12
_SPELLED_LEAST = 4  # fewer lone letters are initials

_ASKED_SCORE = 0.5  # of lettering that is asked for in a word that says so, without being given
_CARRIER_SCORE = 0.3  # of a thing that may carry some
_LOUD_SCORE = 0.6  # of capitals beside such a thing
WHOLE_SCORE = 0.2  # of a whole prompt that may be meant as lettering


@dataclass(frozen=True, slots=True)
class Lettering:
    """One piece of lettering: its characters (empty when asked for without being given), how sure we are, its bounds.

    `start` and `end` are places in the cleaned text, `cue` is where the asking begins there.
    """

    chars: Chars
    score: float
    start: int
    end: int
    cue: int


def find_lettering(chars: Chars) -> tuple[Lettering, ...]:
    """The lettering that the cleaned text `chars` asks for, by place; longer pieces stand for those inside them.

    Several pieces are followed by neighbours as one, and by all as one: a word may be split between quotes, or lines.
    """
    text = chars.text
    found: dict[tuple[int, int], tuple[float, int]] = {}
    for start, end, score, cue in (
        *_quoted(text), *_cued(text), *_broken(text), *_followed(text), *_shouted(text), *_decorating(text)
    ):  # fmt: skip
        start, end = _trim(text, start, end)
        if start < end:
            old = found.get((start, end), (0.0, start))
            found[start, end] = (max(old[0], score), min(old[1], cue))
    pieces = [
        Lettering(chars.cut(a, b), score, a, b, cue)
        for (a, b), (score, cue) in sorted(found.items())
        if not _inside(a, b, found)
    ]
    if not pieces:
        asked, score = _ASKED.search(text), _ASKED_SCORE
        if asked is None:
            asked, score = _CARRIER.search(text), _CARRIER_SCORE
        return (Lettering(Chars("", (), ()), score, *asked.span(), asked.start()),) if asked else ()
    if len(pieces) == 1:
        return tuple(pieces)
    runs = [pieces[i : i + n] for n in (2, 3) for i in range(len(pieces) - n + 1) if n < len(pieces)]
    return (*pieces, *(_together(run, chars) for run in (*runs[:_MOST_RUNS], pieces)))


def guess_lettering(chars: Chars, found: tuple[Lettering, ...]) -> tuple[Lettering, ...]:
    """What else of `chars` may be meant as lettering, when `found` is what surely is; scores are below 0.5.

    Brackets beside something that carries words, what follows an opening quotation mark that nothing closes, and the
    whole text where it asks for lettering in words that we do not understand. A rule matches words in here too; a
    prompt is never rewritten by it.
    """
    text = chars.text
    spans: list[tuple[int, int]] = []
    carried = _MAYBE.search(text) or _ASKED.search(text)
    # round and square brackets also weigh words of a prompt
    spans += [b.span(b.lastindex or 0) for b in _BRACKETED.finditer(text) if carried or b.group()[0] not in "(["]
    spans += [(_sentence(text, f.start()), f.start()) for f in _AFTER.finditer(text)]
    # words that begin in capitals, or letter by letter, may go on in another way
    for cue in _BEFORE.finditer(text):
        end = _scenery(text, cue.end() + 1)
        spans.append((cue.end(), end))
        if line := _next_line(text, end):
            spans.append((line, _scenery(text, line + 1)))
    given = [piece for piece in found if piece.chars.text]
    opened = next((o for o in _OPENED.finditer(text) if not any(p.start <= o.end() <= p.end for p in given)), None)
    if opened:
        spans.append((opened.end(), len(text)))
    if _ASKED.search(text) and all(piece.score <= _LOUD_SCORE for piece in given):
        spans.append((0, len(text)))
    spans += [f.span(1) for pattern in (_ON_IT, _ENDS_WITH) for f in pattern.finditer(text)]
    spans += [f.span() for f in SPELLED.finditer(text) if sum(map(str.isalpha, f.group())) >= _SPELLED_LEAST]
    trimmed = dict.fromkeys(_trim(text, a, b) for a, b in spans)
    known = {(p.start, p.end) for p in given}
    return tuple(
        Lettering(chars.cut(a, b), WHOLE_SCORE if (a, b) == (0, len(text)) else 0.4, a, b, a)
        for a, b in trimmed
        if a < b and (a, b) not in known
    )


def without_lettering(prompt: str) -> str:
    """`prompt` without what asks for lettering: `a star with a sign that says "X"` becomes `a star`.

    The prompt itself, blanks made one, when it asks for none; `a picture` when nothing else is left.
    """
    text = clean(from_text(prompt)).text
    while True:
        pieces = [p for p in find_lettering(clean(from_text(text))) if p.chars.text]
        if not pieces:
            return text or "a picture"
        first = pieces[0]
        start, end = _clause(text, min(first.cue, first.start), first.end)
        head = _DANGLING.sub("", text[:start]) if not text[end:].strip() else text[:start]
        text = " ".join((head.rstrip(" ,") + " " + text[end:].lstrip(" ,")).split())


def _quoted(text: str) -> Iterator[tuple[int, int, float, int]]:
    for found in _QUOTED.finditer(text):
        group = found.lastindex or 0
        before = [c for c in _BEFORE.finditer(text, 0, found.start()) if not text[c.end() : found.start()].strip(" :=")]
        cue = before[0].start() if before else found.start()
        yield (*found.span(group), 1.0 if before else 0.9, cue)


def _cued(text: str) -> Iterator[tuple[int, int, float, int]]:
    """What stands behind a cue, without quotes or with an opening one only."""
    at = 0
    while (cue := _BEFORE.search(text, at)) is not None:
        at = cue.end()
        filler = _FILLER.match(text, at)
        start = filler.end() if filler else at
        while start < len(text) and text[start] in "([{<":
            start += 1
        if start >= len(text) or (start < len(text) and text[start] in _OPENING and _QUOTED.match(text, start)):
            continue
        if text[start] in _OPENING:
            start += 1
        if start == cue.end() and text[start - 1].isascii() and text[start - 1] not in ":=":
            continue
        end = _end_of_words(text, start)
        yield start, end, 0.9, cue.start()
        while (line := _next_line(text, end)) and (capitals := _LINE.match(text, line)):
            end = at = capitals.end()
            yield line, end, 0.9, cue.start()


def _broken(text: str) -> Iterator[tuple[int, int, float, int]]:
    """What stands behind a cue that is misspelled (`a sigm that sags X`) or written without blanks."""
    words = list(_WORD.finditer(text))
    said = [leet(w.group().casefold()) for w in words]
    for i, verb in enumerate(said[:-1]):
        link = i - 1 if i and _is_close(said[i - 1], _LINK_CORES) else i
        if words[i].group().casefold() in cues.BROKEN_VERBS:
            continue  # an ordinary cue
        if link and _is_close(verb, _VERB_CORES) and _is_close(said[link - 1], _NOUN_CORES):
            start = words[i + 1].start()
            yield start, _end_of_words(text, start), 0.7, words[link - 1].start()
    for glued in _GLUED_CUE.finditer(text):
        if " " not in glued.group().strip() and glued.end() < len(text):
            yield glued.end(), _end_of_words(text, glued.end()), 0.7, glued.start()


def _decorating(text: str) -> Iterator[tuple[int, int, float, int]]:
    """Capitals that decorate a thing (`a mug with X on it`), and capitals or lone letters beside what carries words,
    unless the whole text is in capitals."""
    if text.isupper():
        return
    for found in _ON_IT.finditer(text):
        if found.group(1).isupper() and sum(map(str.isalpha, found.group(1))) >= 2:
            yield (*found.span(1), 0.8, found.start())
    if not _CARRIER.search(text):
        return
    for found in SPELLED.finditer(text):
        if sum(map(str.isalpha, found.group())) >= _SPELLED_LEAST:
            yield found.start(), _end_of_token(text, found.end()), 0.7, found.start()
    if not (_BEFORE.search(text) or _QUOTED.search(text)):
        for found in _LOUD.finditer(text):
            yield (*found.span(), _LOUD_SCORE, found.start())


def _cores(word: str) -> frozenset[str]:
    """`word` and what is left of it without one letter: two words that share one of these are a slip apart."""
    return frozenset({word, *(word[:i] + word[i + 1 :] for i in range(len(word)))})


def _is_close(word: str, cores: frozenset[str]) -> bool:
    return len(word) > 2 and not cores.isdisjoint(_cores(word))


_NOUN_CORES = frozenset().union(*(_cores(leet(w)) for w in cues.BROKEN_NOUNS))
_VERB_CORES = frozenset().union(*(_cores(leet(w)) for w in cues.BROKEN_VERBS))
_LINK_CORES = _cores("that") | _cores("which")


def _end_of_words(text: str, start: int) -> int:
    """Where words without quotes end: behind a spelled-out word, a row of capitals, or before scenery."""
    spelled = SPELLED.match(text, start)
    if spelled:
        return _end_of_token(text, spelled.end())
    capitals = _CAPITALS.match(text, start)
    if capitals and sum(c.isalpha() for c in capitals.group()) >= 2:
        stop = _STOP.search(text, start, capitals.end())
        return stop.start() if stop and stop.start() > start else capitals.end()
    return _scenery(text, start + 1)


def _scenery(text: str, start: int) -> int:
    """Where words that begin before `start` give way to scenery."""
    stop = _STOP.search(text, start)
    return stop.start() if stop else len(text)


def _next_line(text: str, end: int) -> int | None:
    """Where lettering goes on below words that end at `end`, or at the blank before it."""
    found = _NEXT_LINE.match(text, end) or _NEXT_LINE.match(text, max(end - 1, 0))
    return found.end() if found else None


def _sentence(text: str, end: int) -> int:
    """Where the sentence begins that reaches to `end`."""
    return max([0, *(m.end() for m in re.finditer(r"[.;:!?]\s+", text[:end]))])


def _end_of_token(text: str, end: int) -> int:
    while end < len(text) and not text[end].isspace() and text[end] not in '"“”«»„」』.,;:':
        end += 1
    return end


def _followed(text: str) -> Iterator[tuple[int, int, float, int]]:
    """Up to four words before `written on` and its like."""
    for found in _AFTER.finditer(text):
        before = text[: found.start()]
        spelled = next((s for s in SPELLED.finditer(before) if not before[s.end() :].strip()), None)
        if spelled:
            yield spelled.start(), spelled.end(), 0.7, spelled.start()
            continue
        stops = [s.end() for s in re.finditer(r"[,.;:!?]\s+|[\"“”»」]\s*", before)]
        start = max([0, *stops])
        words = list(re.finditer(r"\S+", before[start:]))[-4:]
        if not words or before.rstrip()[-1:] in "\"'“”»」’":
            continue
        first = start + words[0].start()
        lead = _LEAD.match(text, first)
        first = lead.end() if lead and lead.end() < found.start() else first
        yield first, found.start(), 0.7, first


def _shouted(text: str) -> Iterator[tuple[int, int, float, int]]:
    """Capitals before something that carries lettering, unless the whole text is in capitals."""
    if text.isupper():
        return
    for found in _SHOUTED.finditer(text):
        yield (*found.span(1), 0.8, found.start(1))


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and (text[start].isspace() or text[start] in _OPENING + ":="):
        start += 1
    while start < end and (text[end - 1].isspace() or text[end - 1] in _OPENING + ",;:"):
        end -= 1
    return start, end


def _inside(start: int, end: int, found: dict[tuple[int, int], tuple[float, int]]) -> bool:
    return any(a <= start and end <= b and (a, b) != (start, end) for a, b in found)


def _together(pieces: list[Lettering], chars: Chars) -> Lettering:
    """All pieces as one, a blank between each two, which stands for what is between them."""
    joined = pieces[0].chars
    for before, piece in pairwise(pieces):
        place = min(before.end, len(chars.text) - 1)
        joined = joined + Chars(" ", (chars.starts[place],), (chars.ends[place],)) + piece.chars
    last = pieces[-1]
    return Lettering(joined, min(p.score for p in pieces), pieces[0].start, max(last.end, last.start), pieces[0].cue)


def _clause(text: str, cue: int, end: int) -> tuple[int, int]:
    """The bounds of the whole clause that asks: what carries the lettering, the cue, the words, the manner of
    writing."""
    carrier = _CARRIER_CUE.match(text, cue)
    cue = carrier.end() if carrier else cue
    before = _CLAUSE.search(text, 0, cue)
    start = before.start() if before else cue
    while text[end:].lstrip()[:1] and text[end:].lstrip()[0] in _OPENING:
        end = text.index(text[end:].lstrip()[0], end) + 1
    for more in (_TAIL, _CARRIED, _TAIL):
        found = more.match(text, end)
        end = found.end() if found else end
    if not text[:start].strip(" ,"):
        joint = _JOINT.match(text, end)
        end = joint.end() if joint else end
    return start, end
