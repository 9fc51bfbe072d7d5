"""Witnesses: functions that say whether pictures show a concept, made from a text reader or from a classifier."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from PIL import Image

from localization.contrasts import Contrast
from localization.measure.worker import Witness

__all__ = ["witness_lettering", "witness_score"]


def witness_lettering(read: Callable[[Sequence[Image.Image]], Sequence[str]]) -> Witness:
    """A witness that reads: the own and the donor's words, exactly, in capitals.

    The words are those in straight double quotes, else those in which prompt and donor differ.
    """

    def see_words(images: Sequence[Image.Image], contrasts: Sequence[Contrast]) -> tuple[list[bool], list[bool]]:
        texts = read(images)
        words = [(_asked(c.prompt, c.donor), _asked(c.donor, c.prompt)) for c in contrasts]
        return (
            [text == own != "" for text, (own, _) in zip(texts, words, strict=True)],
            [text == donor != "" for text, (_, donor) in zip(texts, words, strict=True)],
        )

    return see_words


def _asked(prompt: str, other: str) -> str:
    quoted = re.findall(r'"([^"]+)"', prompt)
    if not quoted:
        known = set(re.findall(r"\w+", other))
        quoted = [word for word in re.findall(r"\w+", prompt) if word not in known]
    return "".join(quoted).upper()


def witness_score(score: Callable[[Sequence[Image.Image]], Sequence[float]], *, at_least: float = 0.5) -> Witness:
    """A witness that classifies: the concept is seen from `at_least` on; the donor is not looked for."""

    def see_concept(images: Sequence[Image.Image], contrasts: Sequence[Contrast]) -> tuple[list[bool], None]:
        return [value >= at_least for value in score(images)], None

    return see_concept
