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
