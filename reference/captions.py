"""Describes scenes in words: the same scene has many captions.

The grammar varies what people vary: quoted or not, capitals or lower case, the sign first or last, `says` or
`reading` or `with the word`. What is not said is the default: the sign at the bottom, plain letters, no style. So a
caption always determines its picture but for the subject's exact place and size.
"""

from __future__ import annotations

import random

from reference.world import CHARACTERS, Scene

__all__ = ["CAPTION_BYTES", "plain_caption", "sample_caption"]

CAPTION_BYTES = 160  # the longest caption in bytes, with room: what encoders are built for


def plain_caption(scene: Scene) -> str:
    """The caption that benchmarks use: `a red star on a blue background with a sign that says "HELLO"`."""
    parts = [_noun(scene, "a"), f"on {_a(scene.background)} background"]
    if scene.lettering:
        at = " at the top" if scene.place == "top" else ""
        serif = " in serif letters" if scene.font == "serif" else ""
        parts.append(f'with a sign{at} that says "{scene.lettering}"{serif}')
    if scene.style:
        parts.append(f"in {scene.style} style")
    return " ".join(parts)


def sample_caption(scene: Scene, rng: random.Random) -> str:
    """One of the scene's captions."""
    ground = _ground(scene, rng)
    subject = _noun(scene, rng.choice(("a", "a", "a", "the", "one", "a big")))
    style = (
        rng.choice((f"in {scene.style} style", f"in the style of {scene.style}", f"{scene.style} style"))
        if scene.style
        else ""
    )
    if not scene.lettering:
        return _join(rng.choice(((subject, ground, style), (style + "," if style else "", subject, ground))))
    sign = _sign(scene, rng)
    order = rng.random()
    if order < 0.7:
        parts: tuple[str, ...] = (subject, ground, rng.choice(("with", "with", "and", "next to")) + " " + sign, style)
    elif order < 0.85:
        parts = (sign, rng.choice(("and", "with", "next to")), subject, ground, style)
    else:
        parts = (subject, rng.choice(("and", "with")), sign + ",", ground, style)
    return _join(parts)


def _join(parts: tuple[str, ...]) -> str:
    return " ".join(part for part in parts if part)


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _noun(scene: Scene, article: str) -> str:
    if scene.subject in CHARACTERS:
        return scene.subject
    phrase = f"{scene.colour} {scene.subject}"
    return _a(phrase) if article == "a" else f"{article} {phrase}"


def _ground(scene: Scene, rng: random.Random) -> str:
    colour = scene.background
    return rng.choice(
        (
            f"on {_a(colour)} background",
            f"on {_a(colour)} background",
            f"in front of {_a(colour)} background",
            f"against {_a(colour)} wall",
            f"on {colour}",
        )
    )


def _sign(scene: Scene, rng: random.Random) -> str:
    word = scene.lettering if rng.random() < 0.7 else scene.lettering.lower()
    quote = rng.choice(("{}", '"{}"', '"{}"', '"{}"', "'{}'", "“{}”"))
    text = quote.format(word)
    at = (
        rng.choice((" at the top", " at the top", " above"))
        if scene.place == "top"
        else rng.choice(("", "", "", " at the bottom"))
    )
    serif = rng.choice((" in serif letters", " in serif", " in a serif font")) if scene.font == "serif" else ""
    return rng.choice(
        (
            f"a sign{at} that says {text}{serif}",
            f"a sign{at} that says {text}{serif}",
            f"a sign{at} saying {text}{serif}",
            f"a sign{at} reading {text}{serif}",
            f"a sign{at} that reads {text}{serif}",
            f"a sign{at} with the word {text}{serif}",
            f"the word {text}{serif} on a sign{at}",
            f"a sign{at} labelled {text}{serif}",
        )
    )
