"""The reference world: scenes, captions and pictures agree, and held-out words are really held out."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.captions import CAPTION_BYTES, plain_caption, sample_caption
from reference.data import render_set
from reference.denoiser import token_marks
from reference.paint import letter_boxes, paint, sign_box
from reference.text_encoder import letter_marks
from reference.world import ALPHABET, MAX_LETTERS, Scene, held_out_words, is_held_out, load_words, sample_scene


def scenes(count: int, *, size: int = 64, seed: int = 0) -> list[Scene]:
    rng = random.Random(seed)
    return [sample_scene(rng, size=size) for _ in range(count)]


def test_a_seed_determines_scenes_and_pictures() -> None:
    (a, x), (b, y), (c, z) = (render_set(20, seed=s) for s in (3, 3, 4))
    assert a == b
    assert np.array_equal(x, y)
    assert a != c
    assert not np.array_equal(x, z)


@pytest.mark.parametrize("size", [64, 128])
def test_no_training_scene_shows_a_held_out_string(size: int) -> None:
    shown = [s.lettering for s in scenes(20_000, size=size)]
    assert not [text for text in shown if is_held_out(text)]
    assert max(map(len, shown)) == MAX_LETTERS[size]
    # the test could not fail if sampling never came near: half of all random strings would be held out
    rng = random.Random(0)
    drawn = ["".join(rng.choices(ALPHABET, k=5)) for _ in range(2000)]
    assert 0.4 < sum(map(is_held_out, drawn)) / len(drawn) < 0.6


def test_there_are_enough_held_out_words_and_enough_to_train_on() -> None:
    held_out = held_out_words()
    assert len(held_out) >= 200
    assert len(load_words()) - len(held_out) >= 200
    assert all(3 <= len(w) <= 6 and w.isalpha() and w.isupper() for w in load_words())


@given(st.text(ALPHABET, max_size=8))
def test_being_held_out_does_not_depend_on_case(text: str) -> None:
    assert is_held_out(text) == is_held_out(text.lower())
    assert len(text) >= 3 or not is_held_out(text)


@pytest.mark.parametrize("size", [64, 128])
def test_letters_stand_on_the_sign_side_by_side(size: int) -> None:
    for scene in scenes(300, size=size):
        sign, boxes = sign_box(scene, size), letter_boxes(scene, size)
        assert len(boxes) == len(scene.lettering)
        if sign is None:
            continue
        assert all(sign[0] < b[0] and b[2] < sign[2] and sign[1] < b[1] and b[3] < sign[3] for b in boxes)
        assert all(a[2] == b[0] for a, b in itertools.pairwise(boxes))


def test_each_letter_darkens_its_own_cell_only() -> None:
    scene = next(s for s in scenes(50) if len(s.lettering) == 6)
    boxes = letter_boxes(scene, 64)
    other = "Z" if scene.lettering[2] != "Z" else "H"
    changed = Scene(
        **{f: getattr(scene, f) for f in Scene.__slots__}
        | {"lettering": scene.lettering[:2] + other + scene.lettering[3:]}
    )
    where = np.argwhere(np.any(np.asarray(paint(scene)) != np.asarray(paint(changed)), axis=-1))
    assert len(where) > 5
    left, top, right, bottom = boxes[2]
    assert where[:, 1].min() >= left
    assert where[:, 1].max() < right
    assert where[:, 0].min() >= top
    assert where[:, 0].max() < bottom


def test_captions_name_what_the_scene_shows() -> None:
    rng = random.Random(5)
    for scene in scenes(2000, seed=1):
        for caption in (plain_caption(scene), sample_caption(scene, rng)):
            text = caption.lower()
            assert scene.subject in text
            assert scene.background in text
            assert scene.colour is None or scene.colour in text
            assert scene.style is None or scene.style in text
            assert scene.lettering.lower() in text
            assert len(caption.encode()) <= CAPTION_BYTES - 1  # with the end token
            marks = letter_marks(caption, scene)
            spelled = bytes(text.encode()[at] for at, _, _ in marks).decode().upper()
            assert spelled == scene.lettering


def test_image_tokens_know_their_letter() -> None:
    for scene in scenes(200):
        marks = token_marks(scene, size=64, side=8)[:, :2].reshape(8, 16)
        row = next((r for r in marks if r.any()), None)
        if not scene.lettering:
            assert row is None
            continue
        assert row is not None
        halves = [ALPHABET[i - 1] for i in row.tolist() if i]
        assert "".join(halves) == "".join(2 * letter for letter in scene.lettering)


def test_what_cannot_be_drawn_is_refused_with_the_reason() -> None:
    rng = random.Random(0)
    with pytest.raises(ValueError, match=r"at most 6 letters, got `WINDOWS`"):
        sample_scene(rng, lettering="WINDOWS")
    with pytest.raises(ValueError, match="size must be one of"):
        sample_scene(rng, size=96)
    with pytest.raises(ValueError, match="lettering must be made of"):
        sample_scene(rng, lettering="a-b")
