"""What the service makes of its settings: which detectors it has, and that what fails is an error that heals."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from detectors.detox import EMBEDDED as DETOXIFY
from detectors.images.easy import EMBEDDED as EASYOCR
from policies import Request
from service.reading.detectors import build_detection
from service.settings import SettingsError, load_settings


def build(**options):
    return build_detection(load_settings(options).settings)


def test_every_picture_reader_of_the_service_is_watched_and_none_is_loaded_yet():
    detection = build()
    names = [h.name for h in detection.health]
    assert names[0] == "rapidocr"
    assert all(h.ok and h.stuck == 0 for h in detection.health)
    assert {"lettering", "character/pip"} <= detection.reads


def test_settings_that_name_folders_add_detectors_behind_watches():
    detection = build(detoxify=str(DETOXIFY), easyocr=str(EASYOCR))
    assert [h.name for h in detection.health][:3] == ["detoxify", "rapidocr", "easyocr"]
    signals = detection.sense(Request('a sign that says "you are a worthless idiot"'))
    assert signals.error("prompt", "toxicity") is None
    assert signals.of("prompt", "toxicity")


def test_an_easyocr_folder_with_a_network_of_ones_own_reads_where_rapidocr_finds_text():
    from evaluation.training.detectors import unseen_signs

    detection = build(easyocr=str(EASYOCR))
    ((picture, word),) = unseen_signs(1, seed=5)
    seen = detection.look(picture, frozenset({"lettering"}))
    readers = {s.detector for s in seen.of("picture", "lettering") if s.text == word}
    assert readers == {"rapidocr", "easyocr"}


def test_a_detector_that_broke_for_good_is_an_error_and_left_alone(tmp_path):
    import shutil

    shutil.copytree(DETOXIFY, tmp_path / "broken")
    (tmp_path / "broken" / "toxic-small.ckpt").write_bytes(b"no checkpoint")
    detection = build(detoxify=str(tmp_path / "broken"))
    errors = [detection.sense(Request("a lake")).error("prompt", "toxicity") for _ in range(4)]
    assert all(e.startswith("detoxify: error: ") for e in errors[:3])
    assert errors[3].startswith("detoxify: open: failed 3 times in a row")
    assert not detection.health[0].ok


@pytest.mark.parametrize("name", ["detoxify", "easyocr", "semantic", "judge"])
def test_a_folder_that_is_missing_or_empty_is_a_settings_error_that_names_it(name, tmp_path):
    with pytest.raises(SettingsError, match=f"`{name}`"):
        build(**{name: str(tmp_path / "nowhere")})
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError):
        build(**{name: str(tmp_path / "empty")})


def classifier_in(folder, concept):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16, patch_size=8,
        id2label={0: "tabby", 1: "lake"}, label2id={"tabby": 0, "lake": 1},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    (folder / "concepts.json").write_text(json.dumps({concept: ["tabby"]}))
    return folder


def test_judges_join_the_one_of_the_embedded_models_and_may_cover_the_same_concept(tmp_path):
    cats, logos = (classifier_in(tmp_path / name, concept) for name, concept in
                   (("cats", "animal/cat"), ("logos", "logo/acme")))  # fmt: skip
    detection = build(judge=f"{cats},{logos}")
    assert {"lettering", "character/pip", "animal/cat", "logo/acme"} <= detection.reads
    seen = detection.look(Image.new("RGB", (16, 16)), frozenset({"animal/cat", "logo/acme"}))
    assert {s.detector for s in seen.of("picture", "animal/cat")} == {"reference-judge", "classifier-cats"}
    assert {s.detector for s in seen.of("picture", "logo/acme")} == {"classifier-logos"}
    assert all(0 <= s.score <= 1 for s in (*seen.of("picture", "animal/cat"), *seen.of("picture", "logo/acme")))


def test_two_judges_of_one_name_are_refused(tmp_path):
    one, two = (classifier_in(tmp_path / name / "cats", "animal/cat") for name in ("a", "b"))
    with pytest.raises(SettingsError, match="two detectors are called `classifier-cats`"):
        build(judge=f"{one},{two}")


def test_a_judge_that_is_no_classifier_is_not_passed_over(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(SettingsError, match=r"must contain `config\.json`"):
        build(judge=str(tmp_path))


def test_a_model_of_another_world_has_no_embedded_judge(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    assert build(model=str(tmp_path)).reads == {"lettering"}


def test_the_embedded_judge_may_be_named_for_another_model_and_is_asked_once_for_an_embedded_one(tmp_path):
    from reference.folders import JUDGES

    (tmp_path / "model_index.json").write_text("{}")
    named = build(model=str(tmp_path), judge=str(JUDGES / "first"))
    assert {"lettering", "character/pip"} <= named.reads
    assert [h.name for h in build(judge=str(JUDGES / "first")).health].count("reference-judge") == 1
