"""The tables of fine-tuning on the embedded model: every application, few steps; a finished cell is not made again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def ours() -> Any:
    from reference.folders import MODELS
    from steering import Host

    host = Host.load(MODELS / "signpost-pixart", self_test=False)
    yield host
    host.close()


@pytest.fixture(scope="module")
def judges() -> Any:
    from evaluation.readers.judges import Judges

    return Judges.load()


@pytest.mark.parametrize(
    ("application", "concept", "arms", "measures"),
    [
        ("letter", "lettering", ("none", "located"), {"two lines read exactly", "all facts"}),
        ("learn", "character/pip", ("true", "located+both"), {"identity score", "prompt alignment"}),
        (
            "forget",
            "character/pip",
            ("steer", "attention-matched"),
            {"concept seen by both", "neighbours seen by both"},
        ),
    ],
)
def test_a_table_has_a_row_an_arm_and_is_not_made_twice(
    ours: Any, judges: Any, tmp_path: Path, application: Any, concept: str, arms: tuple[str, ...], measures: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from evaluation.tables.tuning import cells, learn
    from evaluation.tables.tuning.table import TableJob, tuning_rows
    from reference.folders import packs_of
    from reference.town import verifier
    from steering import find_pack, pack_roots

    small = verifier.VerifierRecipe(steps=8, count=160)
    monkeypatch.setattr(learn, "train_verifier", lambda c, **k: verifier.train_verifier(c, small, **k))
    pack = find_pack(concept, ours, pack_roots([packs_of(ours.name)]))
    train = cells.TuneJob(steps=2, batch=4, rank=2, call={"num_inference_steps": 2})
    job = TableJob(application, arms, (0,), 4, 4, concept, letters=8, priors=2, asked=1, train=train)
    rows = tuning_rows(ours, pack, job, judges, work=tmp_path, progress=lambda _: None)
    assert list(rows) == list(arms)
    assert all(measures <= set(row) for row in rows.values())
    assert all(row["against true pictures"]["precision"]["n"] == 8 for row in rows.values())
    trained = rows[arms[1]]
    assert trained["parameters"] > 0
    assert trained["saved"] > 0
    files = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.npz")}
    again = tuning_rows(ours, pack, job, judges, work=tmp_path, progress=lambda _: None)
    assert again == rows
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.npz")} == files
    other = replace(job, train=replace(train, steps=3))
    with pytest.raises(ValueError, match=r"`train` is .* there"):
        tuning_rows(ours, pack, other, judges, work=tmp_path, progress=lambda _: None)


def test_what_comes_back_is_asked_of_weights_that_forgot_and_of_steering_on_weights_that_were_tuned_on(
    ours: Any, judges: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from evaluation.draw import draw
    from evaluation.tables.tuning import back, cells
    from evaluation.tables.tuning.forget import forget_cases
    from evaluation.tables.tuning.table import TableJob, tuning_rows
    from reference.folders import packs_of
    from steering import find_pack, pack_roots

    monkeypatch.setattr(back, "_STRINGS", 1)
    monkeypatch.setattr(back, "_PICTURES", 8)
    pack = find_pack("character/pip", ours, pack_roots([packs_of(ours.name)]))
    train = cells.TuneJob(steps=2, batch=4, rank=2, rate=0.05, call={"num_inference_steps": 2})
    job = TableJob("forget", ("none", "steer", "located"), (0,), 3, 3, asked=1, afterwards=2, train=train)
    rows = tuning_rows(ours, pack, job, judges, work=tmp_path, progress=lambda _: None)
    for row in rows.values():
        assert row["concept seen by either judge, after 2 innocent steps"]["n"] == 3
        assert row["neighbours seen by both, after 2 innocent steps"]["n"] == 3
        assert row["searched strings: concept seen by both"]["n"] <= 1

    def shown(name: str) -> np.ndarray:
        return np.load(tmp_path / name / "pictures.npz")["pictures"].astype(int)

    tuned = {arm: shown(f"afterwards-character-pip-{arm}-signpost-pixart-attention-0") for arm in job.arms}
    assert np.array_equal(tuned["none"][3:], tuned["steer"][3:])
    assert np.abs(tuned["none"][:3] - tuned["steer"][:3]).max() > 10
    folder = tmp_path / "forget-swap-character-pip-signpost-pixart-located-0"
    cases = forget_cases("character/pip", 3, 3, seed=0)
    with back._forgetful(ours, folder / "lora.safetensors") as model:
        made = np.stack([np.asarray(i).astype(int) for i in draw(model, cases, [None] * 6, train.call)[0]])
    assert np.abs(made - shown(folder.name)).max() <= 1
    assert np.abs(made - shown("forget-character-pip-signpost-pixart-none-0")).max() > 10
    assert np.abs(tuned["located"] - tuned["none"]).max() > 10


def test_innocent_pictures_do_not_show_the_concept() -> None:
    from evaluation.tables.tuning.back import innocent_pictures

    for concept, name in (("character/pip", "pip"), ("place/beach", "beach"), ("style/marlo", "marlo")):
        captions = [p.caption.lower() for p in innocent_pictures(concept, 300, seed=0)]
        assert len(captions) == 300
        assert not [text for text in captions if name in text]


def test_no_test_word_and_no_training_ground_is_shared(ours: Any) -> None:
    from evaluation.tables.tuning.learn import learn_cases, learn_pictures
    from evaluation.tables.tuning.letter import letter_pictures, sign_cases
    from reference.town.letters import is_held_out

    asked = sign_cases(20, 10, seed=0)
    assert all(is_held_out(line) for c in asked for line in c.scene.lines)
    shown = " ".join(p.caption.upper() for p in letter_pictures(60, seed=0))
    assert not [line for c in asked for line in c.scene.lines if f'"{line}"' in shown]
    grounds = {c.scene.ground for c in learn_cases(20, 4, seed=0) if c.kind == "subject"}
    captions = [p.caption for p in learn_pictures(5, seed=0)]
    assert not [g for g in grounds for c in captions if f" {g}" in c]
