"""Any transformers image classifier looks for concepts: run for real, on a tiny one that is trained here."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from detectors.images import ConceptLooker, FolderClassifier, look

LABELS = ("tabby", "siamese", "lake")


def picture(label, shade=0):
    bright = 200 - shade
    colours = {"tabby": (bright, 30, 30), "siamese": (30, bright, 30), "lake": (30, 30, bright)}
    return Image.new("RGB", (32, 32), colours[label])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A ViT of 16 features in an ordinary folder, trained for a moment to tell three colours apart."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifier")
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)},
    )  # fmt: skip
    model = ViTForImageClassification(config).train()
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    batch = processor(images=[picture(label, s) for label in LABELS for s in (0, 40)], return_tensors="pt")
    target = torch.tensor([0, 0, 1, 1, 2, 2])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        loss = model(**batch, labels=target).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "concepts.json").write_text(json.dumps({"animal/cat": ["tabby", "siamese"], "place/lake": ["lake"]}))
    return folder


def test_labels_that_mean_one_concept_are_counted_together(folder):
    classifier = FolderClassifier(folder)
    assert classifier.concepts == {"animal/cat", "place/lake"}
    cats, siamese, lake = classifier.scores([picture("tabby", 20), picture("siamese", 20), picture("lake", 20)])
    assert cats["animal/cat"] > 0.8
    assert siamese["animal/cat"] > 0.8
    assert lake["place/lake"] > 0.8
    assert abs(sum(cats.values()) - 1) < 1e-4


def test_it_is_a_picture_detector_like_the_reference_judge(folder):
    classifier = FolderClassifier(folder)
    looker = ConceptLooker(classifier, classifier.concepts, classifier.name, "1", budget=60)
    seen = look(picture("lake", 10), [looker], reads=frozenset({"place/lake"}))
    (signal,) = seen.of("picture", "place/lake")
    assert signal.score > 0.8
    assert signal.detector.startswith("classifier-")


@pytest.mark.parametrize("bias", [float("nan"), float("-inf")])
@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification"])
def test_a_classifier_whose_outputs_are_no_numbers_fails_and_has_not_seen_nothing(folder, tmp_path, bias, kind):
    from safetensors.torch import load_file, save_file

    damaged = copied(folder, tmp_path / "damaged")
    weights = load_file(damaged / "model.safetensors")
    weights["classifier.bias"][0] = bias
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((damaged / "config.json").read_text()) | {"problem_type": kind}
    (damaged / "config.json").write_text(json.dumps(config))
    classifier = FolderClassifier(damaged)
    looker = ConceptLooker(classifier, classifier.concepts, "judge", "1", budget=60)
    seen = look(picture("tabby"), [looker], reads=classifier.concepts)
    assert seen.error("picture", "animal/cat") == "judge: error: NotFinite"


def copied(folder, target, **files):
    import shutil

    shutil.copytree(folder, target)
    for name, content in files.items():
        path = target / name.replace("__", ".")
        path.unlink() if content is None else path.write_text(content)
    return target


@pytest.mark.parametrize(
    "table", ["[]", "{}", '{"animal/dog": ["poodle"]}', '{"animal/dog": []}', '{"animal/dog": "lake"}']
)
def test_a_table_that_does_not_fit_the_labels_is_refused(folder, tmp_path, table):
    with pytest.raises(ValueError, match="must"):
        FolderClassifier(copied(folder, tmp_path / "c", concepts__json=table))


def test_without_a_table_labels_must_be_written_like_concepts(folder, tmp_path):
    with pytest.raises(ValueError, match="none of its labels has the form of a concept"):
        FolderClassifier(copied(folder, tmp_path / "c", concepts__json=None))


def test_weights_that_would_be_unpickled_are_no_weights(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        FolderClassifier(copied(folder, tmp_path / "c", model__safetensors=None))
