"""Which world a model draws, and that the service judges it by the judge of that world."""

from __future__ import annotations

import json

import pytest

from reference.worlds import world_of
from service.detection import build_detection
from service.settings import SettingsError, load_settings


def test_a_model_names_its_world_and_one_that_names_none_draws_the_first(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert world_of(tmp_path) == "first"
    (tmp_path / "recipe.json").write_text(json.dumps({"world": "town"}))
    assert world_of(tmp_path) == "town"
    (tmp_path / "recipe.json").write_text(json.dumps({"world": "moon"}))
    with pytest.raises(ValueError, match="got `moon`"):
        world_of(tmp_path)


def test_a_model_of_the_town_is_judged_by_the_towns_judge(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "model_index.json").write_text("{}")
    options = {"model": str(tmp_path)}
    assert "animal/cat" not in build_detection(load_settings(options).settings).reads
    (tmp_path / "recipe.json").write_text(json.dumps({"world": "town"}))
    reads = build_detection(load_settings(options).settings).reads
    assert {"animal/cat", "place/beach", "harm/gun", "style/marlo", "lettering"} <= reads


def test_a_judge_that_is_no_json_is_a_settings_error(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "judge.json").write_text("{")
    with pytest.raises(SettingsError, match=r"judge\.json"):
        build_detection(load_settings({"judge": str(tmp_path)}).settings)
