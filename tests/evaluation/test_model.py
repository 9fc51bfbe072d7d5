"""The report on a model: what its prompt sets hold, and that readers and rows say what is there.

| break | red |
|---|---|
| mark a letter's place with its neighbour's class | places of a scene spell its lettering |
| take rows nearer than three places | the same |
| leave out `is_for_evaluation` in `contexts` | cases of a category share no prompt with localization |
| compare a place with the subject | a category's row |
| hand the true pictures on as they are | what the autoencoder loses |
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from detectors.images import RapidOcr
from evaluation.prompts.cases import (
    benign_cases,
    category_cases,
    concept_cases,
    lettering_cases,
    sign_cases,
    two_line_cases,
    varied_cases,
)
from evaluation.readers.judges import read_sign
from evaluation.readers.reader import Reader, collapse, letter_places, lines_of
from evaluation.tables.model import below_bar, through_autoencoder
from localization.calibrate import drift_of
from reference.folders import MODELS
from reference.town.drawing.paint import paint
from reference.town.layout import sign_box
from reference.town.letters import is_held_out
from reference.town.prompts import COUNTS, concept_prompts
from reference.town.scenes import CATEGORIES, sample_scene
from steering import Host


def test_places_of_a_scene_spell_its_lettering() -> None:
    rng = random.Random("places")
    for _ in range(500):
        scene = sample_scene(rng)
        assert " ".join(lines_of(letter_places(scene).tolist())) == scene.lettering


def test_a_path_merges_repeats_and_drops_blanks_but_keeps_a_letter_told_twice() -> None:
    assert collapse([0, 1, 1, 0, 1, 2, 2, 0]) == collapse([1, 0, 1, 2])
    assert len(collapse([1, 0, 1, 2])) == 3


def test_a_single_named_place_is_a_speck_and_no_line() -> None:
    places = [[0] * 32 for _ in range(16)]
    places[4][7] = 3
    assert lines_of(places) == []


def test_sets_are_the_same_each_time_and_their_words_are_held_out() -> None:
    for make in (two_line_cases, varied_cases):
        assert make(40) == make(40)
        assert all(is_held_out(line) for c in make(40) for line in c.scene.lines)
    assert all(len(c.scene.lines) == 2 for c in two_line_cases(20))
    assert [c.scene.lettering for c in sign_cases(["moron", "idiot"], 3, plain=True)] == ["IDIOT", "MORON", "IDIOT"]
    with pytest.raises(ValueError, match="fits on a sign"):
        sign_cases(["two words"], 1, plain=True)


@pytest.mark.parametrize("category", COUNTS)
def test_cases_of_a_category_share_no_prompt_with_localization_and_name_every_concept(category: str) -> None:
    cases = category_cases(category, 60)
    known = {p.prompt for name in CATEGORIES[category] for p in concept_prompts(f"{category}/{name}", "localization")}
    assert not known & {c.prompt for c in cases}
    assert all(any(name in c.prompt for c in cases) for name in CATEGORIES[category])
    assert len({(c.prompt, c.seed) for c in cases}) == 60
    with pytest.raises(ValueError, match="at most"):
        category_cases(category, 100_000)


def test_the_rows_sets_name_what_they_say() -> None:
    insults = lettering_cases(["idiot", "moron"], 6)
    assert [c.scene.lettering for c in insults] == ["IDIOT", "MORON"] * 3
    assert all(sign_box(c.scene, 64) for c in insults)
    assert not {c.scene.subject for c in benign_cases(50)} & {*CATEGORIES["character"], *CATEGORIES["harm"]}
    guns = concept_cases("harm/gun", 50, seed=1)
    assert len({(c.prompt, c.seed) for c in guns}) == 50
    assert all("gun" in c.prompt for c in guns)
    assert {c.prompt for c in guns} != {c.prompt for c in concept_cases("harm/gun", 50, seed=2)}
    with pytest.raises(ValueError, match="harm/gun"):
        concept_cases("harm/cat", 5)


def test_rapidocr_reads_two_lines_in_their_order_and_nothing_where_no_sign_stands() -> None:
    ocr = RapidOcr()
    cases = two_line_cases(10)
    assert sum(read_sign(ocr, paint(c.scene), c) == "".join(c.scene.lines) for c in cases) >= 9
    bare = replace(cases[0], scene=replace(cases[0].scene, lines=()))
    assert read_sign(ocr, paint(cases[0].scene), bare) == ""


def test_the_reader_reads_true_pictures_of_held_out_words() -> None:
    cases = [*sign_cases(["STONE", "HARBOR", "LIME"], 30, plain=True), *two_line_cases(20)]
    read = Reader.load().read([paint(c.scene) for c in cases])
    assert sum(a == c.scene.lettering for a, c in zip(read, cases, strict=True)) >= 49


def test_what_the_autoencoder_loses_is_its_own_ceiling() -> None:
    host = Host.load(MODELS / "signpost-sdxl", self_test=False)
    true = [paint(c.scene) for c in sign_cases(["STONE", "HARBOR"], 18, plain=True)]
    made = through_autoencoder(host, true)
    assert [image.size for image in made] == [image.size for image in true]
    assert all(0 < drift_of(a, b) < 0.08 for a, b in zip(true, made, strict=True))
    assert drift_of(true[0], made[1]) > 0.1  # in their order
    host.close()


def test_what_misses_the_bar_is_named() -> None:
    good = {"share": 0.95}
    report = {name: {"RapidOCR": good, "reader": good} for name in ("held-out words", "insults as plain words")}
    report |= {category: {"judge": good} for category in COUNTS}
    assert below_bar(report) == []
    assert below_bar(report | {"harm": {"judge": {"share": 0.89}}}) == ["harm, judge"]
