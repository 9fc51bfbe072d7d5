"""Who looks at pictures: the ceiling of RapidOCR, the judges and the reader on true pictures."""

from __future__ import annotations

import random

import pytest

from detectors.images import RapidOcr
from evaluation.model import read_sign
from evaluation.reader import Reader
from reference.judge import JUDGE, SECOND_JUDGE, Judge
from reference.paint import paint
from reference.world import Scene, held_out_words, sample_scene


def held_out_scenes(count: int, *, seed: int) -> list[Scene]:
    rng = random.Random(f"eyes/{seed}")
    return [sample_scene(rng, lettering=word) for word in rng.sample(held_out_words(), count)]


def test_rapidocr_reads_true_pictures() -> None:
    ocr, scenes = RapidOcr(), held_out_scenes(200, seed=1)
    right = sum(read_sign(ocr, paint(s), top=s.place == "top") == s.lettering for s in scenes)
    assert right >= 198


def test_the_reader_reads_true_pictures_of_held_out_words() -> None:
    scenes = held_out_scenes(300, seed=2)
    read = Reader.load().read([paint(s) for s in scenes])
    assert sum(a == s.lettering for a, s in zip(read, scenes, strict=True)) >= 0.98 * len(scenes)


def test_the_reader_reads_nothing_where_there_is_no_sign() -> None:
    rng = random.Random(3)
    read = Reader.load().read([paint(sample_scene(rng, lettering="")) for _ in range(100)])
    assert sum(text == "" for text in read) >= 98


@pytest.mark.parametrize("folder", [JUDGE, SECOND_JUDGE], ids=["first", "second"])
def test_judges_see_true_pictures_as_they_are(folder) -> None:  # type: ignore[no-untyped-def]
    scenes = held_out_scenes(300, seed=4)
    right = [o.agrees(s) for o, s in zip(Judge.load(folder).look([paint(s) for s in scenes]), scenes, strict=True)]
    for fact in right[0]:
        assert sum(r[fact] for r in right) >= 0.98 * len(scenes), fact


def test_an_opinion_changes_with_the_picture() -> None:
    pip = sample_scene(random.Random(1), character=1.0)
    star = sample_scene(random.Random(1), character=0.0)
    judge = Judge.load()
    with_pip, without = judge.scores([paint(pip), paint(star)])
    assert with_pip["character/pip"] > 0.99
    assert without["character/pip"] < 0.01
    assert judge.scores([]) == []
