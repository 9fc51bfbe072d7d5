"""The pictures on which readers are measured: drawn alike for one seed, and each way to stand is what it says.

| mutation | law that turned it red |
|---|---|
| mirrored pictures not mirrored | a_word_stands_as_it_is_told |
| the word is cut off where it has no room | a_word_without_room_is_not_drawn |
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from evaluation.tables.reading import FONTS, STANDS, drawn


def ink(stand: str, word: str = "LFJ", side: int = 128) -> np.ndarray:
    """Where the letters are, cut to their edges."""
    image = drawn(word, side, 40, stand, random.Random(7))
    assert image is not None
    dark = np.asarray(image.convert("L")) < 100
    on = ~dark if STANDS[stand][2] else dark
    rows, columns = np.flatnonzero(on.any(1)), np.flatnonzero(on.any(0))
    return on[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize(
    ("stand", "undo"),
    [
        ("turned by 180", lambda on: on[::-1, ::-1]),
        ("turned by 90", lambda on: np.rot90(on, -1)),
        ("turned by 270", np.rot90),
        ("mirrored", lambda on: on[:, ::-1]),
        ("mirrored, turned by 180", lambda on: on[::-1]),
    ],
)
def test_a_word_stands_as_it_is_told(stand, undo):
    upright, turned = ink("upright"), undo(ink(stand))
    assert turned.shape == upright.shape
    assert (turned != upright).mean() < 0.02 < (ink(stand, word="OXH").mean())
    assert not np.array_equal(upright, upright[:, ::-1])


def test_a_word_without_room_is_not_drawn():
    assert drawn("WWWWWW", 64, 40, "upright", random.Random(1)) is None


def test_pictures_repeat_for_one_seed_and_there_are_fonts():
    one, two, other = (drawn("AXE", 64, 12, "upright", random.Random(s)) for s in (3, 3, 4))
    assert one.tobytes() == two.tobytes() != other.tobytes()
    assert len(FONTS) >= 3
