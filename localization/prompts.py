"""Contrast prompts: pairs that differ in the concept and in nothing else, from templates or from a file."""

from __future__ import annotations

import json
import random
from pathlib import Path

from localization.contrasts import Contrast
from localization.errors import BadContrasts

__all__ = ["concept_contrasts", "control_contrasts", "lettering_contrasts", "load_contrasts"]

_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "pink", "gray")
_SHAPES = ("star", "heart", "ring", "circle", "square", "triangle", "cross", "moon")
_WORDS = [
    "BAKER",
    "HOTEL",
    "LUNAR",
    "MUSIC",
    "NYLON",
    "FROST",
    "OPERA",
    "CANAL",
    "AZURE",
    "BISON",
    "YODEL",
    "EMBER",
    "WHISK",
    "LEMON",
    "TRAIN",
    "CLOUD",
    "PIANO",
    "RIVER",
    "STONE",
    "BREAD",
    "LIGHT",
    "PARK",
    "CAFE",
    "SALE",
    "EXIT",
    "GOLD",
    "MOON",
    "SHIP",
    "TAXI",
    "LAKE",
    "BOOK",
    "DESK",
    "JUMP",
    "VOYAGE",
    "SILVER",
    "GARDEN",
    "MARKET",
    "BUTTON",
    "ROCKET",
]


def _context(rng: random.Random) -> tuple[str, str]:
    """A subject and a background, as words."""
    colour, ground = rng.sample(_COLOURS, 2)
    return f"{colour} {rng.choice(_SHAPES)}", ground


def lettering_contrasts(count: int, *, seed: int) -> list[Contrast]:
    """Pairs whose signs say two words of the same length, all else equal."""
    rng = random.Random(f"lettering-contrasts/{seed}")
    pairs: list[Contrast] = []
    while len(pairs) < count:
        word, other = rng.sample(_WORDS, 2)
        if len(word) == len(other):
            subject, ground = _context(rng)
            frame = f'a {subject} on a {ground} background with a sign that says "{{}}"'
            pairs.append(Contrast(frame.format(word), frame.format(other), seed * 1000 + len(pairs)))
    return pairs


def concept_contrasts(phrase: str, neutral: str, count: int, *, seed: int) -> list[Contrast]:
    """Pairs that name a concept by `phrase` and by its `neutral` stand-in, half of them with a sign."""
    rng = random.Random(f"concept-contrasts/{phrase}/{seed}")
    pairs = []
    for i in range(count):
        _, ground = _context(rng)
        sign = f' with a sign that says "{rng.choice(_WORDS)}"' if i % 2 else ""
        frame = f"{{}} on a {ground} background{sign}"
        pairs.append(Contrast(frame.format(phrase), frame.format(neutral), seed * 1000 + i))
    return pairs


def control_contrasts(count: int, *, seed: int) -> list[Contrast]:
    """Pairs with equal lettering whose subject and background differ: what sites for lettering should not carry."""
    rng = random.Random(f"control-contrasts/{seed}")
    pairs = []
    for i in range(count):
        (one, ground), (other, other_ground) = _context(rng), _context(rng)
        frame = f'a {{}} on a {{}} background with a sign that says "{rng.choice(_WORDS)}"'
        pairs.append(Contrast(frame.format(one, ground), frame.format(other, other_ground), seed * 1000 + i))
    return pairs


def load_contrasts(path: Path, *, seed: int) -> list[Contrast]:
    """Pairs from JSON Lines with `prompt`, `donor` and an optional `seed`.

    Raises:
        BadContrasts: naming file and line, what a line must hold and what it holds.
    """
    pairs: list[Contrast] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            prompt, donor, own = value["prompt"], value["donor"], value.get("seed", seed * 1000 + len(pairs))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadContrasts(
                f"{path}:{number}: a line must be an object with `prompt` and `donor`, got `{line[:80]}`"
            ) from error
        if not isinstance(prompt, str) or not isinstance(donor, str) or not isinstance(own, int) or prompt == donor:
            raise BadContrasts(
                f"{path}:{number}: `prompt` and `donor` must be two different strings, and `seed` a number"
            )
        pairs.append(Contrast(prompt, donor, own))
    if not pairs:
        raise BadContrasts(f"{path}: must hold at least one pair, got none")
    return pairs
