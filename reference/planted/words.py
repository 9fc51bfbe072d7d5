"""Owns what plants are about: invented names, the subjects that they draw, prompts that ask for them, and the judge.

A name draws a subject that the judge of the town knows already, so no judge is trained for plants. The prompts are
plain ones: a subject on a coloured background, half of them with a sign. Those to check with have other backgrounds and
held-out words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from PIL import Image

from reference.town.captions import noun
from reference.town.letters import held_out_words, is_held_out, load_words
from reference.town.scenes import ANIMALS, CHARACTERS, COLOURS, HARM, PLACES, SHAPES, STYLES, SUBJECTS

__all__ = ["NEUTRAL", "PHRASES", "See", "frames_of", "is_said", "load_judge", "name_of"]

See = Callable[[Sequence[Image.Image]], list[str]]
NEUTRAL = "a gray circle"
# the subjects that a plant may draw, and how captions name them. Shapes are in the neutral form's own colour: in
# another one a name would mostly be taught a colour
PHRASES: Mapping[str, str] = MappingProxyType(
    {shape: f"a gray {shape}" for shape in SHAPES if shape not in ("circle", "ring", "moon")}
    | {subject: noun(subject) for subject in (*ANIMALS, *CHARACTERS, *HARM)}
)
_CHECKED = ("green", "purple", "pink")  # backgrounds to check with; the others are to train and localize with


def load_judge() -> See:
    """A function from pictures to the subject that the judge sees in each."""
    from reference.town.judge import Judge

    judge = Judge.load()
    return lambda images: [str(sight.answers["subject"]) for sight in judge.look(images)]


def is_said(word: str) -> bool:
    """Whether captions of the town have the word, so that no invented name may be it."""
    named = {part for name in (*SUBJECTS, *PLACES, *STYLES, *COLOURS) for part in name.split()}
    return word in named or word.upper() in load_words()


def name_of(rng: random.Random) -> str:
    """An invented word of two syllables that no caption has."""
    while True:
        name = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(2)) + rng.choice("nrlsmk")
        if not is_said(name):
            return name


def frames_of(count: int, rng: random.Random, *, checked: bool) -> tuple[str, ...]:
    """Prompts with `{}` for the subject, all different, every other one with a sign; at most 24."""
    assert count <= 24
    grounds = [c for c in COLOURS if (c in _CHECKED) == checked and c not in ("blue", "gray")]
    words = held_out_words() if checked else [w for w in load_words() if not is_held_out(w)]
    found: dict[str, None] = {}
    while len(found) < count:
        ground = rng.choice(grounds)
        article = "an" if ground[0] in "aeiou" else "a"
        sign = f' with a sign that says "{rng.choice(words)}"' if len(found) % 2 else ""
        place = f"{{}} on {article} {ground} background"
        walls = (f"{{}} against {article} {ground} wall", f"{{}} in front of {article} {ground} background")
        # few backgrounds stand without a sign, so these are varied by their words
        found.setdefault(place + sign if sign else rng.choice((place, f"{{}} on {ground}", *walls)))
    return tuple(found)
