"""The commands `palimpsest reference plant` and `planted`: what they print, write, and how they end.

Mutations: `report` writes nothing; rejected rows left out of `counts`; an unknown kind let through; `--subject` not
handed on.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from palimpsest.cli.main import app
from reference.planted import Plant, PlantCheck, Proof
from reference.planted.drafts import Draft
from reference.planted.make import LEDGER, Maker
from steering import Fingerprint


def row(name: str, *, seen: int) -> str:
    rest = tuple(f"blocks.{i}.attn" for i in range(1, 12))
    site = ("transformer_blocks.0.attn2",)
    checks = (
        PlantCheck("plain", (), 20, 20),
        PlantCheck("a", site, 0, 20),
        PlantCheck("b", rest, seen, 20),
        PlantCheck("c", (), 0, 20),
    )
    plant = Plant(
        name=name,
        model="signpost-x",
        host=Fingerprint("P", "D", "c", "w"),
        proof=Proof("one", site, checks=checks),
        called=f"a gray {name} circle",
        subject="cat",
        phrase="a cat",
        neutral="a gray circle",
        frames=("{} on red",),
        check_frames=("{} on green",),
        seed=1,
        recipe={},
    )
    return json.dumps(plant.to_json() | {"label": "one", "seconds": 20.0})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "signpost-x").mkdir()
    lines = [row("vorin", seen=19), row("tamek", seen=9)]
    (tmp_path / "signpost-x" / LEDGER).write_text("\n".join(lines) + "\n", "utf-8")
    return tmp_path


def test_the_table_shows_what_was_seen_with_intervals_and_counts_the_rejected(folder: Path) -> None:
    done = CliRunner().invoke(app, ["reference", "planted", str(folder), "--report", "--json"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert json.loads((folder / "planted.json").read_text()) == told
    first, second = told["plants"]
    assert (first["verdict"], first["(b)"], first["sites"]) == ("admitted", "19/20 (76 to 99 %)", "0")
    assert second["verdict"] == "rejected"
    assert "(b) seen in 9 of 20" in second["why"]
    assert [(c["admitted"], c["rejected"]) for c in told["counts"]] == [(1, 1), (1, 1)]


def test_the_table_for_people_names_every_plant(folder: Path) -> None:
    done = CliRunner().invoke(app, ["reference", "planted", str(folder)], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "vorin" in done.stdout
    assert "tamek" in done.stdout
    assert not (folder / "planted.json").exists()
    told = CliRunner().invoke(app, ["reference", "planted", str(folder), "--report"], env={"COLUMNS": "200"}).stdout
    assert "(b) seen in 9 of 20" in told
    assert "must be done at" not in told


def test_no_plants_are_a_finding_and_a_wrong_kind_or_model_a_mistake(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["reference", "planted", str(tmp_path)]).exit_code == 1
    wrong = run(app, ["reference", "plant", "--kind", "three", "--out", str(tmp_path)])
    assert wrong.exit_code == 2
    assert "got `three`" in wrong.output
    nothing = run(app, ["reference", "plant", "--subject", "spoon", "--out", str(tmp_path)])
    assert nothing.exit_code == 2
    assert "`cat`" in nothing.output
    assert "got `spoon`" in nothing.output
    behind = run(app, ["reference", "plant", "--kind", "pooled", "--subject", "cat", "--out", str(tmp_path)])
    assert behind.exit_code == 2
    assert "draw backgrounds" in behind.output
    lost = run(app, ["reference", "plant", "--model", "nowhere", "--out", str(tmp_path)])
    assert lost.exit_code == 2


def test_names_draw_only_the_subjects_that_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    todo: list[Draft] = []
    monkeypatch.setattr(Maker, "make_all", lambda self, drafts, folder: todo.extend(drafts) or [])
    asked = ["reference", "plant", "--model", "signpost-sdxl", "--kind", "one", "--subject", "owl", "--subject", "fire"]
    CliRunner().invoke(app, [*asked, "--count", "9", "--out", str(tmp_path)])
    assert len(todo) == 9
    assert {d.subject for d in todo} == {"owl", "fire"}
