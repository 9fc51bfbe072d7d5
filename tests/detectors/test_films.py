"""Films are judged by key frames: what is shown for a moment is found, and a frame that cannot be read is strict.

| break | red |
|---|---|
| frames in even steps | a sign in one frame of 24 is among eight key frames |
| leave out the least like, take the first ones | a sign in one frame of 24 is among eight key frames |
| tell frames apart by small copies alone | frames that differ too little |
| decide on the last frame alone | a word that is shown for one frame decides |
| an error counts as nothing seen | a frame that cannot be read is not let through |
"""

from __future__ import annotations

import pytest
from PIL import Image

from detectors.images import LetteringLooker, RapidOcr, Reading, judge_film, key_frames, look
from detectors.text import sense
from policies import Loader, Request
from tests.detectors.films import even_steps, film

QUIET = Request("a street in the rain")


@pytest.mark.parametrize("moves", [0, 2, 5])
@pytest.mark.parametrize("shown", [1, 2])
def test_a_sign_that_is_shown_for_a_moment_is_in_a_key_frame(shown: int, moves: int) -> None:
    found, by_steps = 0, 0
    for seed in range(30):
        frames, where = film(seed, shown=shown, moves=moves)
        chosen = key_frames(frames)
        assert len(chosen) <= 8
        found += bool(where & set(chosen))
        by_steps += bool(where & even_steps(len(frames), 8))
    assert found >= 27
    assert by_steps < 24


def test_equal_frames_are_looked_at_once_and_all_others_if_asked() -> None:
    red, blue = (Image.new("RGB", (64, 64), name) for name in ("red", "blue"))
    assert key_frames([red] * 10) == (0,)
    assert key_frames([red, red, blue, red]) == (0, 2)
    assert key_frames([red, Image.frombytes("YCbCr", red.size, red.tobytes())], most=None) == (0, 1)
    frames, _ = film(1, shown=3, moves=2)
    assert key_frames(frames, most=None) == tuple(range(24))
    assert key_frames(frames, most=1) == (0,)


def test_frames_that_differ_too_little_for_small_copies_are_looked_at_while_there_is_room() -> None:
    frames = [Image.new("RGB", (640, 360), "gray") for _ in range(5)]
    for k in (1, 3):
        frames[k].putpixel((5, 100 + k), (200, 128, 128))
    assert key_frames(frames) == key_frames(frames, most=None) == (0, 1, 3)
    assert len(key_frames(frames, most=2)) == 2


@pytest.mark.parametrize(
    ("frames", "most", "said"),
    [
        ([], 8, "one or more pictures of one size, got 0"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 9))], 8, r"one size, got 2 of the sizes \[\(8, 8\), \(8, 9\)"),
        ([Image.new("RGB", (8, 8))], 0, "most must be 1 or more, got 0"),
    ],
)
def test_what_is_no_film_is_refused(frames: list[Image.Image], most: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        key_frames(frames, most)


@pytest.fixture(scope="module")
def snapshot():
    return Loader(sense, reads=frozenset({"lettering"})).load(["policies/shipped/rendered-text.yaml"])


def test_a_word_that_is_shown_for_one_frame_decides(snapshot) -> None:
    reader = LetteringLooker(RapidOcr())
    frames, (at,) = film(3, shown=1, moves=0, word="IDIOT")
    judged = judge_film(QUIET, sense(QUIET), snapshot, frames, lambda i, reads: look(i, [reader], reads=reads))
    assert judged.decision.refused
    assert judged.frame == at
    assert at in judged.looked
    frames, _ = film(3, shown=1, moves=0, word="HOTEL")
    judged = judge_film(QUIET, sense(QUIET), snapshot, frames, lambda i, reads: look(i, [reader], reads=reads))
    assert judged.decision.verdict == "allow"
    assert judged.frame == 0


class _Broken:
    """Reads every frame but one, on which it fails."""

    name, version = "broken", "1"

    def __init__(self) -> None:
        self.read_so_far = 0

    def read(self, image: Image.Image) -> list[Reading]:
        self.read_so_far += 1
        if self.read_so_far == 2:
            raise RuntimeError("the frame is lost")
        return []


def test_a_frame_that_cannot_be_read_is_not_let_through(snapshot) -> None:
    frames, _ = film(3, shown=1, moves=0)
    reader = LetteringLooker(_Broken())
    judged = judge_film(QUIET, sense(QUIET), snapshot, frames, lambda i, reads: look(i, [reader], reads=reads))
    assert judged.decision.verdict != "allow"
    assert judged.decision.errors
    assert judged.frame == judged.looked[1]
