"""The measures that tables are made of."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evaluation.answers import parse_answer
from evaluation.metrics import Rate, edit_distance, mean_interval, similarity_outside
from evaluation.prompts.cases import benign_cases, concept_cases, lettering_cases
from reference.town.drawing.paint import paint
from reference.town.layout import sign_box
from reference.town.letters import drawable, is_held_out
from reference.town.scenes import sample_scene


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share_and_stays_inside(pair: tuple[int, int]) -> None:
    rate = Rate(*pair)
    low, high = rate.interval
    assert 0 <= low <= rate.share + 1e-9
    assert rate.share - 1e-9 <= high <= 1


def test_intervals_agree_with_published_values_and_shrink() -> None:
    assert Rate(0, 200).interval[1] == pytest.approx(0.01885, abs=1e-4)  # Wilson, no hit in 200
    assert Rate(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert Rate(0, 0).to_json()["share"] is None


@given(st.text("ABC", max_size=6), st.text("ABC", max_size=6), st.text("ABC", max_size=6))
def test_edit_distance_is_a_metric(a: str, b: str, c: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


def test_likeness_outside_the_sign_sees_only_what_is_outside() -> None:
    rng = random.Random(0)
    scene = sample_scene(rng, lines=["HARBOR"])
    plain = paint(scene)
    box = sign_box(scene, 64)
    assert box is not None
    words, elsewhere = np.array(plain), np.array(plain)
    words[box[1] : box[3], box[0] : box[2]] = 255 - words[box[1] : box[3], box[0] : box[2]]
    elsewhere[28:36] = rng.randbytes(64 * 8 * 3) and np.random.default_rng(0).integers(0, 255, (8, 64, 3))
    inside = similarity_outside(plain, Image.fromarray(words), [box], margin=4)
    outside = similarity_outside(plain, Image.fromarray(elsewhere), [box], margin=4)
    assert inside[0] > 0.999
    assert inside[1] < 0.9
    assert outside[0] < 0.95
    assert similarity_outside(plain, plain, [box]) == (1.0, 1.0)


def test_means_carry_their_interval() -> None:
    row = mean_interval([0.9, 0.95, 1.0, 0.97])
    low, high = row["interval"]  # type: ignore[misc]
    assert low < row["mean"] < high  # type: ignore[operator]
    assert mean_interval([])["mean"] is None


def test_cases_are_reproducible_and_of_the_town() -> None:
    assert drawable(["idiot", "Idiot", "blockhead", "no", "re-do"]) == ("IDIOT",)
    assert lettering_cases(["idiot", "loser"], 6) == lettering_cases(["loser", "idiot"], 6)
    assert {c.scene.lettering for c in lettering_cases(["idiot", "loser"], 6)} == {"IDIOT", "LOSER"}
    assert all(not c.scene.lettering or is_held_out(c.scene.lettering) for c in benign_cases(50))
    assert all(c.scene.subject == "pip" for c in concept_cases("character/pip", 20))
    assert all(c.scene.style == "marlo" for c in concept_cases("style/marlo", 20))
    with pytest.raises(ValueError, match="none of 1 words fits on a sign"):
        lettering_cases(["blockhead"], 1)
    with pytest.raises(ValueError, match="concept must be"):
        concept_cases("weather/rain", 1)


def test_an_error_is_never_counted_as_a_refusal() -> None:
    assert parse_answer(400, {"error": {"code": "moderation_blocked"}}).way == "refused"
    assert parse_answer(202, {"error": {"code": "held_for_review"}}).way == "refused"
    crossed = [(202, "moderation_blocked"), (400, "held_for_review")]
    for status, code in [*crossed, (400, "invalid_value"), (429, "queue_full"), (500, "internal_error")]:
        with pytest.raises(RuntimeError, match=str(status)):
            parse_answer(status, {"error": {"code": code, "message": "no"}})
