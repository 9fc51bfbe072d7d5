"""Owns who looks at pictures: readers and classifiers, given from outside, as witnesses of one concept."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from PIL import Image

from localization.contrasts import Contrast
from localization.worker import Witness

__all__ = ["witness_lettering", "witness_score"]


def witness_lettering(read: Callable[[Sequence[Image.Image]], Sequence[str]]) -> Witness:
    """A witness that reads: the own and the donor's quoted words, exactly, in capitals."""

    def see_lettering(images: Sequence[Image.Image], contrasts: Sequence[Contrast]) -> tuple[list[bool], list[bool]]:
        texts = read(images)
        words = [["".join(re.findall(r'"([^"]+)"', p)).upper() for p in (c.prompt, c.donor)] for c in contrasts]
        return (
            [text == own for text, (own, _) in zip(texts, words, strict=True)],
            [text == donor for text, (_, donor) in zip(texts, words, strict=True)],
        )

    return see_lettering


def witness_score(score: Callable[[Sequence[Image.Image]], Sequence[float]], *, at_least: float = 0.5) -> Witness:
    """A witness that classifies: the concept is seen from `at_least` on; the donor is not looked for."""

    def see_score(images: Sequence[Image.Image], contrasts: Sequence[Contrast]) -> tuple[list[bool], list[bool]]:
        return [value >= at_least for value in score(images)], [False] * len(contrasts)

    return see_score
