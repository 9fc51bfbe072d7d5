"""`palimpsest edit` and `palimpsest repair` from the shell, on the embedded model and on painted pictures.

| law | mutation that turned it red |
|---|---|
| pixels outside of the mask are the picture's | `paste` left out of `Host.redraw` |
| what stands there decides the exit code | `_misses` always 0 |
| a run goes on, and is no other run | rows not read; `first != how` left out |
| a broken file is told of and does not end the run | `BadRequest` not caught in `_repair` |
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from reference.town.drawing.paint import paint
from reference.town.scenes import sample_scene
from tests.running import command_line

MODEL = ("--model", "signpost-sdxl")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    from palimpsest.cli.main import app

    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PALIMPSEST_THREADS", "1")
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def sign(word: str, seed: int = 1, subject: str = "rabbit") -> Image.Image:
    scene = sample_scene(random.Random(seed), lines=["GARDEN"], subject=subject, ground="beach", style=None)
    return paint(replace(scene, lines=(word,)), 64)


def test_a_word_is_replaced_in_a_drawn_picture_and_in_a_given_one(cli: Callable[..., Any], tmp_path: Path) -> None:
    words = ("--from", "TIGER", "--to", "BREAD", *MODEL, "--json")
    asked = 'a red ring on the beach with a sign that says "TIGER"'
    done = cli("edit", "--prompt", asked, "--seed", "3", *words, "--out", tmp_path / "drawn.png")
    told = json.loads(done.stdout)
    assert done.exit_code == 0, done.output
    assert told["as asked"]
    assert told["by"] in ("located", "wider", "whole prompt")
    own = sign("TIGER").resize((128, 128), Image.Resampling.BICUBIC)
    own.save(tmp_path / "own.png")
    mask = np.zeros((128, 128), np.uint8)
    mask[20:70, 10:120] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    cli("edit", tmp_path / "own.png", *words, "--mask", tmp_path / "mask.png", "--out", tmp_path / "given.png")
    a, b = (np.asarray(Image.open(tmp_path / name)) for name in ("own.png", "given.png"))
    assert a.shape == b.shape
    assert np.array_equal(a[mask == 0], b[mask == 0])
    assert not np.array_equal(a[mask > 0], b[mask > 0])


def test_words_that_are_not_read_there_end_with_1(cli: Callable[..., Any], tmp_path: Path) -> None:
    sign("TIGER").save(tmp_path / "own.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[:4, :4] = 255  # where no sign is
    Image.fromarray(mask).save(tmp_path / "mask.png")
    asked = ("--from", "TIGER", "--to", "BREAD", "--mask", tmp_path / "mask.png", "--steps", "4", *MODEL, "--json")
    done = cli("edit", tmp_path / "own.png", *asked, "--out", tmp_path / "out.png")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert not told["as asked"]
    assert "TIGER" in told["read"]


def test_what_an_edit_lacks_is_named(cli: Callable[..., Any], tmp_path: Path) -> None:
    sign("TIGER").save(tmp_path / "own.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    Image.new("L", (32, 48), 255).save(tmp_path / "small.png")
    words = ("--from", "TIGER", "--to", "BREAD", *MODEL)
    wrong: dict[str, tuple[Any, ...]] = {
        "edit needs `--from WORD --to WORD`": ("edit", tmp_path / "own.png"),
        "edit needs a picture, or `--prompt`": ("edit", *words),
        "must say what stands on the picture, `TIGER`": ("edit", tmp_path / "own.png", *words, "--prompt", "a cat"),
        "broken or cut off": ("edit", tmp_path / "broken.png", *words),
        "`WHALE` must stand on the picture, and there was read `TIGER`": (
            "edit", tmp_path / "own.png", "--from", "WHALE", "--to", "BREAD", *MODEL,
        ),
        "must be 64x64 like the picture, got 32x48": (
            "edit", tmp_path / "own.png", *words, "--mask", tmp_path / "small.png",
        ),
        "must be a picture, or a folder with pictures": ("repair", tmp_path / "nothing"),
    }  # fmt: skip
    for said, arguments in wrong.items():
        done = cli(*arguments)
        assert done.exit_code == 2, (said, done.output)
        assert said in done.output


def test_a_folder_is_repaired_and_a_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    place, out = tmp_path / "pictures", tmp_path / "out"
    (place / "deep").mkdir(parents=True)
    sign("IDIOT").save(place / "deep" / "insult.png")
    sign("BREAD").save(place / "bread.png")
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    run = ("repair", place, *MODEL, "--steps", "12", "--out", out, "--json")
    settings = {"PALIMPSEST_STATE": tmp_path / "state", "PALIMPSEST_THREADS": 1}
    settings |= {"PALIMPSEST_DETECTOR_SECONDS": 60, "PALIMPSEST_DEADLINE_SECONDS": 600}  # for busy machines
    done = command_line(*run, **settings)
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert done.code == 1, "one file could not be read"
    assert rows["broken.jpg"]["verdict"] == "unreadable"
    assert "broken or cut off" in rows["broken.jpg"]["why"]
    assert (rows["bread.png"]["verdict"], rows["bread.png"]["file"]) == ("allow", None)
    insult = rows["deep/insult.png"]
    assert insult["verdict"] == "steer"
    assert "toxic-lettering" in insult["rules"]
    from detectors.images import RapidOcr

    mended = Image.open(insult["file"])
    assert "IDIOT" not in [r.text.upper() for r in RapidOcr().read(mended)]
    assert (out / "sheet.png").is_file()
    before = (out / "deep" / "insult.png.png").stat().st_mtime_ns
    assert json.loads(command_line(*run, **settings).out) == list(rows.values())
    assert (out / "deep" / "insult.png.png").stat().st_mtime_ns == before, "not drawn again"
    done = command_line(*run, "--seed", "5", **settings)
    assert done.code == 2
    assert "holds another run (seed was `0`)" in done.err
