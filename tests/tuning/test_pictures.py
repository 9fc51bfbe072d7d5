"""Training data: what a folder must hold, and rows that depend on the step alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tuning.conftest import picture


def _folder(path: Path, lines: str | None, pictures: int = 2) -> Path:
    path.mkdir()
    for n in range(pictures):
        picture(n).save(path / f"{n}.png")
    if lines is not None:
        (path / "metadata.jsonl").write_text(lines, "utf-8")
    return path


GOOD = "".join(json.dumps({"file_name": f"{n}.png", "text": f"a {n}"}) + "\n" for n in range(2))


def test_a_folder_is_read_in_order_with_its_captions(tmp_path: Path) -> None:
    from tuning import read_imagefolder

    shown, digest = read_imagefolder(_folder(tmp_path / "a", GOOD))
    assert [p.caption for p in shown] == ["a 0", "a 1"]
    assert shown[1].image.tobytes() == picture(1).tobytes()
    assert digest == read_imagefolder(tmp_path / "a")[1]
    assert digest != read_imagefolder(tmp_path / "a", caption="a 0")[1]
    assert [p.caption for p in read_imagefolder(tmp_path / "a", caption="x")[0]] == ["x", "x"]


@pytest.mark.parametrize(
    ("lines", "pictures", "told"),
    [
        (None, 2, "must hold `metadata.jsonl`"),
        (GOOD, 0, "must hold pictures"),
        (GOOD, 3, "`2.png` has no caption"),
        (GOOD, 1, "names `1.png`, which is no file"),
        ("{nonsense", 2, "line 1 of"),
        ('{"file_name": "0.png"}', 2, "must have strings"),
        ('{"file_name": "0.png", "text": " "}', 2, "must have strings"),
        ("[1]", 2, "line 1 of"),
    ],
)
def test_a_folder_that_cannot_be_learned_from_says_why(
    tmp_path: Path, lines: str | None, pictures: int, told: str
) -> None:
    from tuning import BadLesson, read_imagefolder

    with pytest.raises(BadLesson, match=told):
        read_imagefolder(_folder(tmp_path / "a", lines, pictures))


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    from tuning import BadLesson, read_imagefolder

    folder = _folder(tmp_path / "a", GOOD)
    (folder / "1.png").write_bytes(b"no picture")
    with pytest.raises(BadLesson, match=r"1\.png` cannot be read as a picture"):
        read_imagefolder(folder)
    with pytest.raises(BadLesson, match="must be a folder"):
        read_imagefolder(tmp_path / "none")


def test_rows_depend_on_the_step_and_the_seed(lesson: Any) -> None:
    a, b, c = lesson.rows(3), lesson.rows(3), lesson.rows(4)
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.target, b.target)
    assert not torch.equal(a.x, c.x)


def test_half_of_the_rows_keep_the_untouched_model_s_answers(student: Any) -> None:
    from tuning import Captioned, learn_lesson

    subject = [Captioned(picture(n), "zev animal") for n in range(2)]
    prior = [Captioned(picture(10 + n), "an animal") for n in range(5)]
    made = learn_lesson(student, subject, prior, batch=8, seed=0, size=(64, 64), prior_weight=0.5)
    rows = made.rows(0)
    assert rows.weights[:, 0, 0, 0].tolist() == [1.0] * 4 + [0.5] * 4
    texts = student.texts(["zev animal", "an animal", ""])["text"]
    said = [next(k for k in range(3) if torch.equal(row, texts[k])) for row in rows.texts["text"]]
    assert said == [0] * 4 + [1] * 3 + [2]
    plain = student.answers(rows.x, rows.timesteps, rows.texts)
    off = (plain - rows.target).flatten(1).abs().amax(1)
    assert (off[4:] < 2e-4).all()
    assert (off[:4] > 1e-2).all()
    alone = learn_lesson(student, subject, [], batch=8, seed=0, size=(64, 64))
    assert len(alone.rows(0).x) == 8


def test_lettering_counts_more_where_it_stands(student: Any) -> None:
    from tuning import Captioned, letter_lesson

    shown = [Captioned(picture(n), "a sign") for n in range(2)]
    made = letter_lesson(student, shown, batch=2, seed=0, size=(64, 64), places=lambda image: [(0, 0, 64, 16)], ink=4.0)
    assert made.maps is not None
    assert tuple(made.maps.shape) == (2, *student.shape)
    top, rest = made.maps[0, 0, :4], made.maps[0, 0, 4:]
    assert float(top.mean() / rest.mean()) == pytest.approx(5.0)
    assert float(made.maps.mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("teacher", ["swap", "anchor", "esd"])
def test_a_teacher_s_answers_are_learned_and_others_kept(host: Any, student: Any, pack: Any, teacher: Any) -> None:
    from localization import Contrast
    from tuning import LEVELS, forget_lesson

    own = [Contrast("pip on a red background", "a character on a red background", 1)]
    kept = [Contrast("bolo on a red background", "a star on a red background", 2)]
    made = forget_lesson(student, pack, own, kept, teacher=teacher, batch=4, seed=0)
    runs = 2 if teacher == "swap" else 1
    first = made.groups[0][1]
    assert first == runs * len(LEVELS)
    plain = student.answers(made.x, made.timesteps, {n: t[made.said] for n, t in made.captions.items()})
    changed = (plain - made.targets).flatten(1).abs().amax(1)
    assert (changed[:first] > 1e-3).all(), "the teacher says something else"
    assert (changed[first:] < 2e-4).all(), "what stays is what the model says"
