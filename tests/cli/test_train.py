"""`reference train`: what is refused before anything is painted or trained.

| break | red |
|---|---|
| take `--parts` for the reader, and leave it out | parts are for models |
| show a trace in place of the mistake | parts are for models |
"""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from palimpsest.cli.main import app
from reference.folders import MODELS

PIXART = str(MODELS / "signpost-pixart")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("reader", "--parts", PIXART), "--parts must be given for a model only, got it for `reader`"),
        (("judges", "--from", PIXART), "--from must be given for a model only, got it for `judges`"),
        (("signpost-zimage", "--parts", "nowhere"), "must be a folder with `model_index.json`, got `nowhere`"),
        (("signpost-zimage", "--px", "128", "--parts", PIXART), "that its first stages are those of `signpost-zimage`"),
        (("signpost-sd3", "--parts", PIXART, "--from", PIXART), "one of start and parts must be given"),
    ],
)
def test_parts_are_for_models_and_must_be_of_the_recipe(asked: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["reference", "train", *asked, "--work", str(tmp_path)], env={"COLUMNS": "400"})
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert not list(tmp_path.iterdir())
