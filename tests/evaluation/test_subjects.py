"""How well a subject was learned: a verifier trained in seconds, and the scores that use it.

| break | red |
|---|---|
| train on random labels | the verifier tells its creature from sisters better than chance |
| make all features alike | the identity score puts true pictures, sisters, others in order |
| count the reference with itself | the score of true pictures is near 1 |
| count facts that nobody asked for | only asked facts count |
| leave out `s != scene.ground` | a ground is repasted only where another was asked |
"""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from evaluation.readers.reader import Reader
from evaluation.readers.subjects import asked_facts, identity_scores, prompt_alignment, repasted, subject_row
from reference.town.drawing.paint import paint
from reference.town.drawing.unseen import Creature
from reference.town.image_folders import subject_pictures, subject_scenes
from reference.town.judge import SECOND_JUDGE, Judge
from reference.town.scenes import Scene, sample_scene
from reference.town.verifier import KINDS, Verifier, VerifierRecipe, examples, train_verifier

CREATURE = Creature.of(3)


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    recipe = VerifierRecipe(widths=(16, 32, 48), count=800, steps=130)
    return train_verifier(CREATURE, recipe, work=tmp_path_factory.mktemp("verifier"), log=lambda _: None)


@pytest.fixture(scope="module")
def held_out() -> dict[str, list[Image.Image]]:
    drawn = examples(CREATURE, 240, seed=1, held_out=True)
    return {kind: [e.paint(64) for e in drawn if e.kind == kind] for kind in KINDS}


def references() -> list[Image.Image]:
    return [image for image, _ in subject_pictures(CREATURE, "zev animal", 6, seed=0)]


def scenes(count: int, **fixed: object) -> list[Scene]:
    rng = random.Random(5)
    return [sample_scene(rng, subject="cat", **fixed) for _ in range(count)]  # type: ignore[arg-type]


def test_the_verifier_tells_its_creature_on_scenery_that_it_never_saw(
    verifier: Verifier, held_out: dict[str, list[Image.Image]]
) -> None:
    accepted = {kind: np.mean([k == "subject" for k in verifier.kinds(held_out[kind])]) for kind in KINDS}
    assert accepted["subject"] > accepted["sister"] + 0.1  # chance would accept both alike
    assert accepted["creature"] < 0.1
    assert accepted["town"] < 0.1


def test_the_identity_score_puts_true_pictures_sisters_and_others_in_order(
    verifier: Verifier, held_out: dict[str, list[Image.Image]]
) -> None:
    score = {kind: np.mean(identity_scores(verifier, held_out[kind], references())) for kind in KINDS}
    assert score["subject"] == pytest.approx(1, abs=0.3)  # trained in seconds; held-out pictures have signs and styles
    assert score["creature"] == pytest.approx(0, abs=0.2)  # other creatures than those that the scale was set with
    assert score["town"] < 0.25
    assert 0.3 < score["sister"] < score["subject"] - 0.02  # a verifier of the full size tells them further apart


def test_references_score_1_among_themselves(verifier: Verifier) -> None:
    known = references()
    each = [identity_scores(verifier, [p], known)[0] for p in known]
    # each reference is among those that it is compared with, so it gets a sixth of a perfect match too much
    assert 1 < np.mean(each) < 1.1
    with pytest.raises(ValueError, match="at least 2 pictures, got 1"):
        identity_scores(verifier, known, known[:1])
    mixed = [known[0], paint(scenes(1)[0])]  # the creature and a cat
    with pytest.raises(ValueError, match="more like one another"):
        identity_scores(verifier, known, mixed)


def test_only_asked_facts_count_and_each_that_is_wrong_counts_once() -> None:
    judge, reader = Judge.load(SECOND_JUDGE), Reader.load()
    asked = scenes(12, ground="beach", style="venka", lines=("TREE",)) + scenes(12, ground="red", style=None, lines=())
    assert [len(asked_facts(s)) for s in (asked[0], asked[-1])] == [4, 1]
    true = [paint(s, drawing=CREATURE.draw) for s in asked]
    assert prompt_alignment(judge, reader, true, asked)["prompt alignment"]["mean"] == 1
    other = [replace(s, ground="city", style="venka") for s in asked]
    told = prompt_alignment(judge, reader, [paint(s, drawing=CREATURE.draw) for s in other], asked)
    assert told["ground right"]["hits"] == 0
    assert (told["style right"]["hits"], told["style right"]["n"]) == (12, 12)
    assert told["lettering right"]["n"] == told["sign right"]["n"] == 12
    assert told["prompt alignment"]["mean"] == pytest.approx((12 * 3 / 4 + 0) / 24)
    json.dumps(told)


def test_a_ground_is_repasted_where_another_was_asked() -> None:
    judge, asked = Judge.load(SECOND_JUDGE), scenes(10, ground="beach", style=None)
    shown = [replace(s, ground=g) for s, g in zip(asked, ["beach"] * 4 + ["desert"] * 3 + ["blue"] * 3, strict=True)]
    pictures = [paint(s, drawing=CREATURE.draw) for s in shown]
    assert repasted(judge, pictures, asked, ["desert", "beach"]).hits == 3
    assert repasted(judge, pictures, asked, ["gray"]).hits == 0


def test_a_row_holds_every_score_as_plain_values(verifier: Verifier) -> None:
    asked = scenes(6)
    pictures = [paint(s, drawing=CREATURE.draw) for s in asked]
    grounds = [s.ground for s in subject_scenes(6, seed=0)]
    row = subject_row(verifier, Judge.load(), Reader.load(), pictures, asked, references=references(), grounds=grounds)
    assert row["n"] == 6
    assert row["prompt alignment"]["mean"] > 0.9
    assert row["background repasted"]["n"] == 6
    json.dumps(row)
