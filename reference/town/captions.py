"""Describes scenes of the town in words; one scene has many captions.

What a caption does not say is the default (the sign at the bottom, plain letters, no style), so a caption determines
its picture except for the subject's exact place and size. A few captions are vague on purpose: `an animal`,
`a person`, `in a place`. They are the neutral forms that localization contrasts a concept with. A model that never saw
one in training would answer it with anything.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reference.town.scenes import ANIMALS, PERSONS, PLACES, SHAPES, Scene, category_of

__all__ = [
    "CAPTION_BYTES",
    "NEUTRAL",
    "Caption",
    "ground_words",
    "noun",
    "plain_caption",
    "sample_caption",
    "sign_words",
]

CAPTION_BYTES = 160  # the longest caption in bytes with its end, with room: what encoders are built for
# what stands for a concept when it must not be named; a style's neutral form is to say nothing
NEUTRAL: Mapping[str, str] = MappingProxyType(
    {
        "animal": "an animal",
        "character": "a character",
        "person": "a person",
        "harm": "an object",
        "shape": "an object",
        "place": "in a place",
    }
)
_AT = MappingProxyType({"top": "at the top", "left": "on the left", "right": "on the right"})
_LETTERS = MappingProxyType({"serif": "serif", "slanted": "slanted", "round": "round"})


@dataclass(frozen=True, slots=True)
class Caption:
    """A description, and where in it the lettering stands.

    Attributes:
        text: the caption.
        lettering: for each line of the sign, the byte of `text.lower()` where it begins.
        vague: the category that it names by its neutral form, if any.
    """

    text: str
    lettering: tuple[int, ...] = ()
    vague: str | None = None


def noun(subject: str, colour: str | None = None) -> str:
    """How a caption names a subject: `a red star`, `an owl`, `pip`, `ada brook`."""
    if colour is not None:
        return f"{_article(colour)} {colour} {subject}"
    if subject in ANIMALS or category_of(subject) == "harm":
        return f"{_article(subject)} {subject}"
    return subject


def ground_words(ground: str) -> str:
    """How a caption names the background: `on a red background`, `on the beach`, `in space`."""
    if ground not in PLACES:
        return f"on {_article(ground)} {ground} background"
    if ground == "space":
        return "in space"
    return f"on the {ground}" if ground == "beach" else f"in the {ground}"


def sign_words(scene: Scene, *, words: str = '"{}"', verb: str = "that says", over: str = " over ") -> str:
    """How a caption names a sign: `a sign at the top that says "AB" over "CD" in serif letters`."""
    at = f" {_AT[scene.spot]}" if scene.spot in _AT else ""
    letters = f" in {_LETTERS[scene.font]} letters" if scene.font in _LETTERS else ""
    return f"a sign{at} {verb} {over.join(words.format(line) for line in scene.lines)}{letters}"


def plain_caption(scene: Scene, *, called: str | None = None) -> str:
    """The caption that benchmarks use: `a cat on the beach with a sign that says "HELLO" in venka style`.

    `called` stands in the stead of the subject's own name: `zev animal`, `an animal`.
    """
    sign = f"with {sign_words(scene)}" if scene.lines else ""
    style = f"in {scene.style} style" if scene.style else ""
    return _join((called or noun(scene.subject, scene.colour), ground_words(scene.ground), sign, style))


def sample_caption(scene: Scene, rng: random.Random, *, vague: float = 0.06, called: str | None = None) -> Caption:
    """One of the scene's captions; a share `vague` of them names the subject or the place by its neutral form.

    `called` always stands in the stead of the subject's own name: `zev animal`, `an animal`.
    """
    unsaid = _unsaid(scene, rng) if rng.random() < vague else None
    subject = NEUTRAL[unsaid] if unsaid not in (None, "place") else _subject(scene, rng)
    subject = called or subject
    ground = rng.choice((NEUTRAL["place"], "somewhere")) if unsaid == "place" else _ground(scene.ground, rng)
    style = rng.choice(("in {} style", "in the style of {}", "{} style")).format(scene.style) if scene.style else ""
    if not scene.lines:
        parts: tuple[str, ...] = rng.choice(((subject, ground, style), (style + "," if style else "", subject, ground)))
        return Caption(_join(parts), vague=unsaid)
    sign, offsets = _sign(scene, rng)
    order = rng.random()
    if order < 0.7:
        parts = (subject, ground, rng.choice(("with", "with", "and", "next to")), sign, style)
    elif order < 0.85:
        parts = (sign, rng.choice(("and", "with", "next to")), subject, ground, style)
    else:
        parts = (subject, rng.choice(("and", "with")), sign + ",", ground, style)
    text = _join(parts)
    at = text.index(sign)
    return Caption(text, tuple(len(text[: at + o].lower().encode()) for o in offsets), unsaid)


def _unsaid(scene: Scene, rng: random.Random) -> str | None:
    """The category to be named by its neutral form: an object is a shape, so harm is drawn only if it is named."""
    if scene.ground in PLACES and rng.random() < 0.5:
        return "place"
    category = category_of(scene.subject)
    return None if category == "harm" else category


def _join(parts: tuple[str, ...]) -> str:
    return " ".join(part for part in parts if part)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _subject(scene: Scene, rng: random.Random) -> str:
    name = noun(scene.subject, scene.colour)
    if scene.subject in PERSONS:
        return rng.choice((name, name, f"the face of {name}", f"a portrait of {name}", f"a picture of {name}"))
    if name[:2] not in ("a ", "an"):
        return rng.choice((name, name, f"a picture of {name}"))
    if scene.subject in SHAPES or rng.random() < 0.5:
        bare = name.split(" ", 1)[1]
        return rng.choice((name, name, name, f"the {bare}", f"one {bare}", f"a big {bare}"))
    return rng.choice((name, f"a picture of {name}"))


def _ground(ground: str, rng: random.Random) -> str:
    if ground in PLACES:
        where = ground_words(ground)
        return rng.choice((where, where, where, f"somewhere {where}", f"with {where.split(' ', 1)[1]} behind"))
    a = f"{_article(ground)} {ground}"
    return rng.choice(
        (f"on {a} background", f"on {a} background", f"in front of {a} background", f"against {a} wall", f"on {ground}")
    )


def _sign(scene: Scene, rng: random.Random) -> tuple[str, list[int]]:
    """A sign's words, and where in them each line of its lettering begins."""
    quote = rng.choice(("{}", '"{}"', '"{}"', '"{}"', "'{}'", "“{}”"))
    low = rng.random() < 0.3
    over = rng.choice((" over ", " over ", " and below it "))
    verb = rng.choice(("that says", "that says", "saying", "reading", "that reads", "with the word", "labelled"))
    lines = [line.lower() if low else line for line in scene.lines]
    at = _AT.get(scene.spot, rng.choice(("", "", "", "at the bottom")))
    if scene.spot == "top":
        at = rng.choice((at, at, "at the upper edge"))
    letters = ""
    if scene.font in _LETTERS:
        name = _LETTERS[scene.font]
        letters = rng.choice((f"in {name} letters", f"in {name}", f"in {_article(name)} {name} font"))
    head = _join(("a sign", at, verb)) + " "
    text, offsets = head, []
    for number, line in enumerate(lines):
        text += over if number else ""
        offsets.append(len(text) + quote.index("{"))
        text += quote.format(line)
    return _join((text, letters)), offsets
