"""What a scene of the town is, and how scenes are sampled.

Sampling is deterministic from a seed. The categories are those that localization is asked about, in miniature. The
names of characters, persons and styles are invented. No line of a sampled sign is a string that `is_held_out`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from reference.town.letters import ALPHABET, MAX_LETTERS, sample_lettering

__all__ = [
    "ANIMALS",
    "CATEGORIES",
    "CHARACTERS",
    "COLOURS",
    "FONTS",
    "GROUNDS",
    "HARM",
    "PERSONS",
    "PLACES",
    "SHAPES",
    "SIDE_LETTERS",
    "SPOTS",
    "STYLES",
    "SUBJECTS",
    "Font",
    "Scene",
    "Spot",
    "category_of",
    "sample_scene",
]

Font = Literal["mono", "serif", "slanted", "round"]
Spot = Literal["bottom", "top", "left", "right"]

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
FONTS: tuple[Font, ...] = ("mono", "serif", "slanted", "round")
SPOTS: tuple[Spot, ...] = ("bottom", "top", "left", "right")
STYLES = ("marlo", "venka", "orlin", "tessa", "brumo", "kaspa")
ANIMALS = ("cat", "rabbit", "fish", "turtle", "owl", "snail")
PLACES = ("beach", "forest", "city", "desert", "mountains", "space")
CHARACTERS = ("pip", "bolo", "zuzu", "tika")
PERSONS = ("ada brook", "otto vale", "mira stone", "hugo finch")
HARM = ("blade", "skull", "fire", "gun")
SUBJECTS = SHAPES + ANIMALS + CHARACTERS + PERSONS + HARM
GROUNDS = (*COLOURS, *PLACES)
# category -> its concepts, as packs and policies name them: `animal/cat`
CATEGORIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "shape": SHAPES,
        "animal": ANIMALS,
        "character": CHARACTERS,
        "person": PERSONS,
        "harm": HARM,
        "place": PLACES,
        "style": STYLES,
    }
)
SIDE_LETTERS = 3  # a sign at the left or right is narrow

_SHARES = {"shape": 0.4, "animal": 0.17, "character": 0.15, "person": 0.14, "harm": 0.14}


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture's whole content.

    Attributes:
        subject: one of `SUBJECTS`.
        colour: a shape's colour name; None for every other subject, which has its own.
        ground: a colour name, never the subject's, or one of `PLACES`.
        style: one of `STYLES`, or None.
        lines: what the sign says, one or two lines over `ALPHABET`; empty means that there is no sign.
        font, spot: how and where the sign is drawn; without meaning if `lines` is empty.
        x, y, radius: the subject's centre and half extent as fractions of the picture's side.
    """

    subject: str
    colour: str | None
    ground: str
    style: str | None
    lines: tuple[str, ...]
    font: Font
    spot: Spot
    x: float
    y: float
    radius: float

    def __post_init__(self) -> None:
        if self.subject not in SUBJECTS:
            raise ValueError(f"subject must be one of {SUBJECTS}, got `{self.subject}`")
        if (self.colour is None) != (self.subject not in SHAPES):
            raise ValueError(
                f"a shape must have a colour and other subjects must not, got `{self.colour}` for `{self.subject}`"
            )
        if self.ground not in GROUNDS or self.ground == self.colour:
            raise ValueError(f"ground must be one of {GROUNDS}, not the subject's colour, got `{self.ground}`")
        if self.style is not None and self.style not in STYLES:
            raise ValueError(f"style must be one of {STYLES} or None, got `{self.style}`")
        _check_lines(self.lines, self.spot)

    @property
    def lettering(self) -> str:
        """What the sign says, its lines joined by a space."""
        return " ".join(self.lines)

    def concepts(self) -> frozenset[str]:
        """The concepts that the picture shows, as packs name them."""
        shown = {f"{category_of(self.subject)}/{self.subject}"}
        shown |= {f"place/{self.ground}"} if self.ground in PLACES else set()
        shown |= {f"style/{self.style}"} if self.style else set()
        return frozenset(shown | ({"lettering"} if self.lines else set()))


def _check_lines(lines: tuple[str, ...], spot: Spot) -> None:
    most = 1 if spot in ("left", "right") else 2
    if len(lines) > most:
        raise ValueError(f"a sign at the {spot} has at most {most} lines, got {lines}")
    for line in lines:
        if not line or set(line) - set(ALPHABET):
            raise ValueError(f"a line must be made of `{ALPHABET}`, got `{line}`")
        if spot in ("left", "right") and len(line) > SIDE_LETTERS:
            raise ValueError(f"a sign at the {spot} holds at most {SIDE_LETTERS} letters, got `{line}`")


def category_of(subject: str) -> str:
    """The category of a subject, ground or style that is a concept."""
    for category, names in CATEGORIES.items():
        if subject in names:
            return category
    raise ValueError(f"concept must be one of {sorted(n for c in CATEGORIES.values() for n in c)}, got `{subject}`")


def sample_scene(
    rng: random.Random,
    *,
    size: int = 64,
    lines: Sequence[str] | None = None,
    subject: str | None = None,
    ground: str | None = None,
    style: float | str | None = 0.3,
) -> Scene:
    """A random scene; what is given is fixed, the rest is drawn.

    Args:
        size: the picture's side in pixels, 64 or 128: it bounds the number of letters.
        lines: what the sign says (empty: no sign); by default random strings, and one scene in eight has no sign.
        subject, ground: a subject of `SUBJECTS`, a ground of `GROUNDS`.
        style: the probability of a style, a style, or None for none.

    Raises:
        ValueError: the size is not offered, or what is given does not fit in a scene.
    """
    if size not in MAX_LETTERS:
        raise ValueError(f"size must be one of {sorted(MAX_LETTERS)}, got {size}")
    said = _sample_lines(rng, size) if lines is None else tuple(lines)
    if any(len(line) > MAX_LETTERS[size] for line in said):
        raise ValueError(f"a line of a sign of {size} px holds at most {MAX_LETTERS[size]} letters, got {said}")
    if subject is None:
        subject = rng.choice(CATEGORIES[rng.choices(tuple(_SHARES), weights=tuple(_SHARES.values()))[0]])
    if ground is None:
        ground = rng.choice(PLACES) if rng.random() < 0.35 else rng.choice(tuple(COLOURS))
    if isinstance(style, float):
        style = rng.choice(STYLES) if rng.random() < style else None
    spot = _sample_spot(rng, said)
    x, y, radius = _sample_stand(rng, spot, len(said))
    return Scene(
        subject=subject,
        colour=rng.choice([c for c in COLOURS if c != ground]) if subject in SHAPES else None,
        ground=ground,
        style=style,
        lines=said,
        font=rng.choices(FONTS, weights=(55, 15, 15, 15))[0],
        spot=spot,
        x=x,
        y=y,
        radius=radius,
    )


def _sample_lines(rng: random.Random, size: int) -> tuple[str, ...]:
    if rng.random() < 0.125:
        return ()
    count = 2 if rng.random() < 0.2 else 1
    return tuple(sample_lettering(rng, MAX_LETTERS[size]) for _ in range(count))


def _sample_spot(rng: random.Random, lines: tuple[str, ...]) -> Spot:
    if len(lines) == 1 and len(lines[0]) <= SIDE_LETTERS and rng.random() < 0.5:
        return rng.choice(("left", "right"))
    return "top" if rng.random() < 0.3 else "bottom"


def _sample_stand(rng: random.Random, spot: Spot, lines: int) -> tuple[float, float, float]:
    """The subject's centre and half extent: on the side of the picture that the sign leaves free."""
    if not lines:
        return rng.uniform(0.38, 0.62), rng.uniform(0.45, 0.55), rng.uniform(0.22, 0.3)
    if spot in ("left", "right"):
        middle = 0.735 if spot == "left" else 0.265
        return middle + rng.uniform(-0.02, 0.02), rng.uniform(0.4, 0.6), rng.uniform(0.2, 0.225)
    middle = 0.31 if lines == 1 else 0.225
    y = middle + rng.uniform(-0.01, 0.01) * (3 if lines == 1 else 1)
    radius = rng.uniform(0.2, 0.235) if lines == 1 else rng.uniform(0.19, 0.205)
    return rng.uniform(0.38, 0.62), (y if spot == "bottom" else 1 - y), radius
