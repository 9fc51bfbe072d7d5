"""RapidOCR, the judges and the reader, on true pictures of held-out words.

| break | red |
|---|---|
| shuffle the order of `ANSWERS` after training | a judge sees true pictures as they are |
| score a place by the subject's probability | scores name the concepts of the scene |
"""

from __future__ import annotations

import random

import pytest

from detectors.images import RapidOcr
from evaluation.prompts.cases import Case
from evaluation.readers.judges import read_sign
from evaluation.readers.reader import Reader
from reference.town.drawing.paint import paint
from reference.town.judge import ANSWERS, CONCEPTS, JUDGE, JUDGE_RECIPES, Judge, held_out_scenes
from reference.town.letters import held_out_words
from reference.town.scenes import CATEGORIES, sample_scene

FOLDERS = [recipe.folder for recipe in JUDGE_RECIPES if recipe.folder.is_dir()]


def test_rapidocr_reads_true_pictures() -> None:
    rng, ocr = random.Random("town-eyes"), RapidOcr()
    words = held_out_words()
    scenes = [sample_scene(rng, lines=rng.sample(words, 2 if i % 5 == 0 else 1)) for i in range(60)]
    read = [read_sign(ocr, paint(s), Case("", s, 0)) for s in scenes]
    assert sum(text == "".join(s.lines) for text, s in zip(read, scenes, strict=True)) >= 59


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_judge_sees_true_pictures_as_they_are(folder) -> None:  # type: ignore[no-untyped-def]
    scenes = held_out_scenes(500, seed=1)
    sights = Judge.load(folder).look([paint(s) for s in scenes])
    agreed = [sight.agrees(s) for sight, s in zip(sights, scenes, strict=True)]
    for question in ANSWERS:
        assert sum(a[question] for a in agreed) >= 0.98 * len(scenes), question


def test_there_is_a_judge_and_it_is_small() -> None:
    assert JUDGE in FOLDERS
    assert all(sum(p.stat().st_size for p in folder.iterdir()) < 1_000_000 for folder in FOLDERS)


def test_scores_name_the_concepts_of_the_scene() -> None:
    rng, judge = random.Random(0), Judge.load()
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


def test_the_reader_reads_true_pictures_of_held_out_words_and_nothing_where_there_is_no_sign() -> None:
    scenes = held_out_scenes(300, seed=2)
    read = Reader.load().read([paint(s) for s in scenes])
    assert sum(a == s.lettering for a, s in zip(read, scenes, strict=True)) >= 0.98 * len(scenes)
    assert any(not s.lines for s in scenes)
