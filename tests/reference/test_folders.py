"""Which folders hold a model of ours, and that the service has our judge."""

from __future__ import annotations

import json

import pytest

from reference.folders import MODELS, draws_town, packs_of
from service.reading.detectors import build_detection
from service.settings import SettingsError, load_settings


def test_a_model_of_ours_says_that_it_draws_the_town_and_others_say_nothing(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert not draws_town(tmp_path)
    (tmp_path / "recipe.json").write_text("{}")
    assert not draws_town(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps({"world": "town"}))
    assert draws_town(tmp_path)
    (tmp_path / "recipe.json").write_text(json.dumps({"world": "moon"}))
    with pytest.raises(ValueError, match="got `moon`"):
        draws_town(tmp_path)


def test_the_packs_of_a_model_of_ours_lie_in_its_folder() -> None:
    assert (MODELS / "signpost-pixart" / "model_index.json").is_file()
    assert list(packs_of("signpost-pixart").glob("*.safetensors"))
    assert not packs_of("no-model-of-ours").exists()


def test_the_service_reads_pictures_for_every_concept_of_the_town() -> None:
    reads = build_detection(load_settings({}).settings).reads
    assert {"animal/cat", "place/beach", "harm/gun", "style/marlo", "lettering"} <= reads


def test_our_judge_is_not_asked_about_pictures_of_another_model(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "model_index.json").write_text("{}")
    assert build_detection(load_settings({"model": str(tmp_path)}).settings).reads == {"lettering"}


def test_a_judge_that_is_no_json_is_a_settings_error(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "judge.json").write_text("{")
    with pytest.raises(SettingsError, match=r"judge\.json"):
        build_detection(load_settings({"judge": str(tmp_path)}).settings)
