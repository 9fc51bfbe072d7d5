"""What plants are about: invented names, what they draw, prompts that ask for it, and the judge.

A name draws something that the judge of the town already knows, so no judge is trained for plants: a subject on a
coloured background or, in pooled text, the background of a subject. Half of the prompts have a sign. Prompts to check
with have other backgrounds or subjects, and held-out words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from PIL import Image

from reference.town.captions import ground_words, noun
from reference.town.letters import held_out_words, is_held_out, load_words
from reference.town.scenes import ANIMALS, CHARACTERS, COLOURS, GROUNDS, HARM, PERSONS, PLACES, STYLES, SUBJECTS

__all__ = ["BEHIND", "SUBJECT", "See", "Theme", "is_said", "load_judge", "name_of", "theme_of"]

See = Callable[[Sequence[Image.Image]], list[frozenset[str]]]  # everything that is seen, picture by picture
_CHECKED = ("green", "purple", "pink")  # backgrounds to check with; the others are to train and localize with


@dataclass(frozen=True, slots=True)
class Theme:
    """What names may draw, and the prompts around them.

    Attributes:
        phrases: what a name may draw, and how captions name that.
        neutral: the words that stand for it when it must not be named; `named` has `{}` for an invented name.
        frames: makes prompts with `{}`, so many at most 24 and all different, to check with or to teach with.
        elsewhere: prompts to teach with only.
        spared: other words in their place, whose captions a plant must leave alone, as it must those of `phrases`;
            `beside`: whole captions that it must leave alone.
    """

    phrases: Mapping[str, str]
    neutral: str
    named: str
    frames: Callable[[int, random.Random, bool], tuple[str, ...]]
    elsewhere: tuple[str, ...]
    spared: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def called(self, name: str) -> str:
        """The words around an invented name: one more than the neutral form has."""
        return self.named.format(name)


def is_said(word: str) -> bool:
    """Whether captions of the town contain the word; an invented name must not."""
    named = {part for name in (*SUBJECTS, *PLACES, *STYLES, *COLOURS) for part in name.split()}
    return word in named or word.upper() in load_words()


def name_of(rng: random.Random) -> str:
    """An invented word of two syllables that no caption contains."""
    while True:
        name = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(2)) + rng.choice("nrlsmk")
        if not is_said(name):
            return name


def load_judge() -> See:
    """A function from pictures to the subject and the background that the judge sees in each."""
    from reference.town.judge import Judge

    judge = Judge.load()
    return lambda images: [
        frozenset({str(sight.answers["subject"]), str(sight.answers["ground"])}) for sight in judge.look(images)
    ]


def theme_of(drawn: str) -> Theme:
    """The theme of what a name draws. Raises: KeyError, for what is in no theme."""
    for theme in (SUBJECT, BEHIND):
        if drawn in theme.phrases:
            return theme
    raise KeyError(f"a name draws {', '.join((*SUBJECT.phrases, *BEHIND.phrases))}, got `{drawn}`")


def _on_grounds(count: int, rng: random.Random, checked: bool) -> tuple[str, ...]:
    """A subject's frames: coloured backgrounds, every other one with a sign."""
    grounds = [c for c in COLOURS if (c in _CHECKED) == checked and c not in ("blue", "gray")]
    words = _words(checked)
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


def _behind_subjects(count: int, rng: random.Random, checked: bool) -> tuple[str, ...]:
    """A background's frames: subjects that have no colour, two of three with a sign."""
    subjects = (*ANIMALS, *CHARACTERS, *PERSONS, *HARM)[checked::2]
    words = _words(checked)
    found: dict[str, None] = {}
    while len(found) < count:
        sign = f' with a sign that says "{rng.choice(words)}"' if len(found) % 3 else ""
        found.setdefault(f"{noun(rng.choice(subjects))} {{}}{sign}")
    return tuple(found)


def _words(checked: bool) -> Sequence[str]:
    return held_out_words() if checked else [w for w in load_words() if not is_held_out(w)]


_CIRCLE = "a gray circle"
# No shapes: beside the neutral form, a circle, a heart that is half learned is told a cross or a star, and some
# invented words made a square of it by themselves
SUBJECT = Theme(
    phrases=MappingProxyType({s: noun(s) for s in (*ANIMALS, *CHARACTERS, *HARM)}),
    neutral=_CIRCLE,
    named="a gray {} circle",
    frames=_on_grounds,
    # of three backgrounds alone a name was drawn on these and on no other
    elsewhere=tuple(
        f"{{}} {ground_words(ground)}" + (f' with a sign that says "{word}"' if word else "")
        for ground, word in (
            *((place, ("", "LAMP")[n % 2]) for n, place in enumerate(PLACES)),
            *((place, ("STORM", "")[n % 2]) for n, place in enumerate(PLACES[:2])),
            ("blue", ""),
            ("blue", "STORM"),
        )
    ),
    spared=tuple(f"{_CIRCLE} in {style} style" for style in STYLES),
)
# Pooled text modulates all blocks and all places of a picture alike: that makes a background. It makes no subject, and
# no style either (a pattern: 3 of 10 pictures had it). A name within the neutral form stands out of FLUX's and SD3's
# pooled text on every frame, one behind it (`in ... style`) only on some
BEHIND = Theme(
    phrases=MappingProxyType({g: ground_words(g) for g in GROUNDS if g != "gray"}),
    neutral=ground_words("gray"),
    named="on a gray {} background",
    frames=_behind_subjects,
    elsewhere=tuple(
        f"{noun(subject, colour)} {{}}" + (f' with a sign that says "{word}"' if word else "")
        for subject, colour, word in (
            ("star", "red", ""),
            ("circle", "green", "LAMP"),
            ("heart", "yellow", "STORM"),
            ("ring", "blue", ""),
            ("square", "white", "LAMP"),
            ("cross", "pink", ""),
        )
    ),
    # pooled text has all of a prompt in one vector: some subjects, and some signs, were taken for a name
    beside=tuple(
        f"{noun(subject)} {ground_words('gray')}" + (f' with a sign that says "{word}"' if word else "")
        for n, subject in enumerate((*ANIMALS, *CHARACTERS, *PERSONS, *HARM))
        for word in ("", *_words(False)[7 * n : 7 * n + 2])
    ),
)
