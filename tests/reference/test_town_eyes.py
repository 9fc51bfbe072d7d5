"""Who looks at the town's pictures: the ceiling of RapidOCR and the judges, on true pictures of held-out words.

| break | red |
|---|---|
| shuffle the order of `ANSWERS` after training | a judge sees true pictures as they are |
| score a place by the subject's probability | scores name the concepts of the scene |
"""

from __future__ import annotations

import random
import re

import pytest

from detectors.images import RapidOcr
from reference.town.judge import ANSWERS, CONCEPTS, JUDGE_RECIPES, TOWN_JUDGE, TownJudge, held_out_scenes
from reference.town.layout import sign_box
from reference.town.paint import paint
from reference.town.scenes import CATEGORIES, TownScene, sample_scene
from reference.world import held_out_words

FOLDERS = [recipe.folder for recipe in JUDGE_RECIPES if recipe.folder.is_dir()]


def read_sign(ocr: RapidOcr, scene: TownScene) -> str:
    """What RapidOCR reads on the true picture's sign, line by line; 0 and 1 are not in the alphabet."""
    sign = sign_box(scene, 64)
    assert sign is not None
    found = [
        r
        for r in ocr.read(paint(scene))
        if sign[0] < (r.box.left + r.box.right) / 2 < sign[2] and sign[1] < (r.box.top + r.box.bottom) / 2 < sign[3]
    ]
    text = "".join(r.text for r in sorted(found, key=lambda r: (round(r.box.top / 8), r.box.left)))
    return re.sub("[^A-Z0-9]", "", text.upper()).replace("0", "O").replace("1", "I")


def test_rapidocr_reads_true_pictures() -> None:
    rng, ocr = random.Random("town-eyes"), RapidOcr()
    words = held_out_words()
    scenes = [sample_scene(rng, lines=rng.sample(words, 2 if i % 5 == 0 else 1)) for i in range(120)]
    assert sum(read_sign(ocr, s) == "".join(s.lines) for s in scenes) >= 118


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_judge_sees_true_pictures_as_they_are(folder) -> None:  # type: ignore[no-untyped-def]
    scenes = held_out_scenes(500, seed=1)
    sights = TownJudge.load(folder).look([paint(s) for s in scenes])
    agreed = [sight.agrees(s) for sight, s in zip(sights, scenes, strict=True)]
    for question in ANSWERS:
        assert sum(a[question] for a in agreed) >= 0.98 * len(scenes), question


def test_there_is_a_judge_and_it_is_small() -> None:
    assert TOWN_JUDGE in FOLDERS
    assert all(sum(p.stat().st_size for p in folder.iterdir()) < 1_000_000 for folder in FOLDERS)


def test_scores_name_the_concepts_of_the_scene() -> None:
    rng, judge = random.Random(0), TownJudge.load()
    scenes = [
        sample_scene(rng, subject=name, ground=rng.choice(CATEGORIES["place"]), style=rng.choice(CATEGORIES["style"]))
        for category in ("animal", "character", "person", "harm")
        for name in CATEGORIES[category]
    ]
    told = judge.scores([paint(s) for s in scenes])
    right = [{c for c, p in scores.items() if p > 0.5} == s.concepts() for scores, s in zip(told, scenes, strict=True)]
    assert sum(right) >= len(scenes) - 1
    assert all(tuple(scores) == CONCEPTS for scores in told)
    assert judge.scores([]) == []
