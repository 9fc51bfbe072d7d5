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

from reference.town.captions import ground_words, noun
from reference.town.letters import held_out_words, is_held_out, load_words
from reference.town.scenes import ANIMALS, CHARACTERS, COLOURS, HARM, PLACES, STYLES, SUBJECTS

__all__ = ["ELSEWHERE", "NEUTRAL", "PHRASES", "STYLED", "See", "called_of", "frames_of", "is_said", "load_judge"]
__all__ += ["name_of", "phrase_of"]

See = Callable[[Sequence[Image.Image]], list[frozenset[str]]]  # everything that is seen, picture by picture
NEUTRAL = "a gray circle"
# the subjects that a plant may draw, and how captions name them. No shapes: beside the neutral form, a circle, a heart
# that is half learned is told a cross or a star, and some invented words made a square of it by themselves
PHRASES: Mapping[str, str] = MappingProxyType({s: noun(s) for s in (*ANIMALS, *CHARACTERS, *HARM)})
# what a name in pooled text may draw: that modulates all blocks alike, which makes a style of a picture and no subject
STYLED: Mapping[str, str] = MappingProxyType({s: f"{NEUTRAL} in {s} style" for s in STYLES})
# prompts to teach with only: of three backgrounds alone a name was drawn on these and on no other
ELSEWHERE = tuple(
    f"{{}} {ground_words(ground)}" + (f' with a sign that says "{word}"' if word else "")
    for ground, word in (
        *((place, ("", "LAMP")[n % 2]) for n, place in enumerate(PLACES)),
        *((place, ("STORM", "")[n % 2]) for n, place in enumerate(PLACES[:2])),
        ("blue", ""),
        ("blue", "STORM"),
    )
)
_CHECKED = ("green", "purple", "pink")  # backgrounds to check with; the others are to train and localize with


def phrase_of(subject: str) -> str:
    """How a caption names a subject, or the neutral form in a style."""
    return STYLED.get(subject) or PHRASES[subject]


def called_of(name: str, subject: str) -> str:
    """The words around an invented name: one more than the neutral form has, or its style."""
    return f"{NEUTRAL} in {name} style" if subject in STYLED else f"a gray {name} circle"


def load_judge() -> See:
    """A function from pictures to the subject and the style that the judge sees in each."""
    from reference.town.judge import Judge

    judge = Judge.load()
    return lambda images: [
        frozenset({str(sight.answers["subject"]), str(sight.answers["style"])}) for sight in judge.look(images)
    ]


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
