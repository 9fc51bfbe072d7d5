"""The reference world: scenes that are fully known, so that every picture and every caption can be judged exactly.

A scene is one subject (a coloured shape, or a named character) on a coloured background, sometimes in a named style,
sometimes with a sign that carries lettering. This module owns what a scene *is* and how scenes are sampled;
`reference.paint` draws them and `reference.captions` describes them. Everything is deterministic from a seed.

Half of all strings of three or more characters are held out by a hash: no training scene may ever show them, whether
they were drawn from the word list or by chance. So a held-out word is one that a model has never seen written, and
nobody has to keep a list.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

__all__ = [
    "ALPHABET",
    "CHARACTERS",
    "COLOURS",
    "MAX_LETTERS",
    "SHAPES",
    "STYLES",
    "Font",
    "Place",
    "Scene",
    "held_out_words",
    "is_held_out",
    "load_words",
    "sample_lettering",
    "sample_scene",
]

Font = Literal["mono", "serif"]
Place = Literal["bottom", "top"]

COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (214, 40, 40),
        "green": (42, 157, 60),
        "blue": (40, 80, 200),
        "yellow": (240, 200, 40),
        "purple": (130, 60, 170),
        "orange": (240, 130, 30),
        "pink": (240, 130, 180),
        "gray": (120, 120, 120),
    }
)
SHAPES = ("star", "heart", "ring", "circle", "square", "triangle", "cross", "moon")
CHARACTERS = ("pip",)
STYLES = ("marlo",)
# Capitals and digits. No sign says 0 or 1, which nobody can tell from O and I at this size: read as 0, it is an O.
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ23456789"
MAX_LETTERS: Mapping[int, int] = MappingProxyType({64: 6, 128: 8})

_WORDS = Path(__file__).parent / "data" / "words.txt"


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture's whole content.

    Attributes:
        subject: one of `SHAPES` or `CHARACTERS`.
        colour: the subject's colour name; None for a character, which has its own.
        background: a colour name, never the subject's.
        style: one of `STYLES`, or None.
        lettering: what the sign says, over `ALPHABET`; empty means that there is no sign.
        font, place: how and where the sign is drawn; without meaning if `lettering` is empty.
        x, y, radius: the subject's centre and half extent as fractions of the picture's side.
    """

    subject: str
    colour: str | None
    background: str
    style: str | None
    lettering: str
    font: Font
    place: Place
    x: float
    y: float
    radius: float

    def __post_init__(self) -> None:
        if self.subject not in SHAPES + CHARACTERS:
            raise ValueError(f"subject must be one of {SHAPES + CHARACTERS}, got `{self.subject}`")
        if (self.colour is None) != (self.subject in CHARACTERS):
            raise ValueError(
                f"a shape needs a colour and a character has none, got `{self.colour}` for `{self.subject}`"
            )
        if unknown := set(self.lettering) - set(ALPHABET):
            raise ValueError(f"lettering must be made of `{ALPHABET}`, got {sorted(unknown)} in `{self.lettering}`")


def is_held_out(lettering: str) -> bool:
    """Whether no training scene may show `lettering`: true for half of all strings of three or more characters."""
    if len(lettering) < 3:
        return False
    return hashlib.sha256(b"palimpsest-world:" + lettering.upper().encode()).digest()[0] < 128


@lru_cache(maxsize=1)
def load_words() -> tuple[str, ...]:
    """The word list, upper case, sorted, 3 to 6 letters each."""
    lines = (line for line in _WORDS.read_text("utf-8").splitlines() if not line.startswith("#"))
    return tuple(sorted({word for line in lines for word in line.split() if 3 <= len(word) <= 6}))


def held_out_words() -> tuple[str, ...]:
    """The words of the list that no training scene shows, sorted."""
    return tuple(word for word in load_words() if is_held_out(word))


def sample_lettering(rng: random.Random, longest: int, *, words: float = 0.1) -> str:
    """A string for a training sign, never held out: a word with probability `words`, else random characters."""
    while True:
        if rng.random() < words:
            text = rng.choice(load_words())
        else:
            # long strings are harder and there are more letters to learn from in them
            length = rng.choices(range(1, longest + 1), weights=range(1, longest + 1))[0]
            text = "".join(rng.choice(ALPHABET) for _ in range(length))
        if len(text) <= longest and not is_held_out(text):
            return text


def sample_scene(
    rng: random.Random, *, size: int = 64, lettering: str | None = None, character: float = 0.12, style: float = 0.15
) -> Scene:
    """A random scene; `lettering` fixes what the sign says (empty: no sign), else one scene in eight has no sign.

    Args:
        size: the picture's side in pixels, 64 or 128: it bounds the number of letters.
        character, style: probabilities of a named character and of a named style.

    Raises:
        ValueError: the size is not offered, or the given lettering does not fit on the sign.
    """
    if size not in MAX_LETTERS:
        raise ValueError(f"size must be one of {sorted(MAX_LETTERS)}, got {size}")
    if lettering is None:
        lettering = "" if rng.random() < 0.125 else sample_lettering(rng, MAX_LETTERS[size])
    if len(lettering) > MAX_LETTERS[size]:
        raise ValueError(f"a sign of {size} px holds at most {MAX_LETTERS[size]} letters, got `{lettering}`")
    subject = rng.choice(CHARACTERS) if rng.random() < character else rng.choice(SHAPES)
    background = rng.choice(tuple(COLOURS))
    colour = None if subject in CHARACTERS else rng.choice([c for c in COLOURS if c != background])
    place: Place = "top" if rng.random() < 0.3 else "bottom"
    middle = 0.5 if not lettering else (0.31 if place == "bottom" else 0.69)
    return Scene(
        subject=subject,
        colour=colour,
        background=background,
        style=rng.choice(STYLES) if rng.random() < style else None,
        lettering=lettering,
        font="serif" if rng.random() < 0.3 else "mono",
        place=place,
        x=rng.uniform(0.38, 0.62),
        y=middle + rng.uniform(-0.03, 0.03),
        radius=rng.uniform(0.19, 0.235),
    )
