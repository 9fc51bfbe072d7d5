"""Concepts are found by meaning: nearer to examples than to counter-examples, by a margin; on real encoders.

| mutation | law that turned red |
|---|---|
| counter-examples are ignored | what_only_looks_like_the_concept_is_left_alone |
| the margin is not subtracted | the_margin_decides |
| only the whole text is judged | a_clause_of_a_long_prompt_is_not_averaged_away |
| a failing finder covers its concepts | a_finder_that_fails_is_an_error |
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from detectors.running import Watch, WatchedFinder
from detectors.semantic import Anchors, FolderEncoder, SemanticConcepts, load_anchors
from detectors.text import TextDetectors, default_detectors
from policies import Request

TOPICS = {
    "arms": ("rifle", "pistol", "grenade", "bullet", "missile", "bayonet"),
    "kitchen": ("knife", "pan", "oven", "chef", "spoon", "bread"),
    "nature": ("lake", "forest", "river", "bird", "meadow", "cloud"),
}
FRAMES = ("a photo of a {} and a {}", "the {} beside the {}", "{} with {}", "one old {} near a {}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT in an ordinary folder, trained for a moment to put sentences of one topic together."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    words = sorted({w for of in TOPICS.values() for w in of} | set(" ".join(FRAMES).replace("{}", "").split()))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", *words]))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words) + 6, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, hidden_dropout_prob=0.0,
    )  # fmt: skip
    model = BertModel(config).train()
    generator = np.random.default_rng(0)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        topics = generator.integers(0, 3, 24)
        texts = [str(generator.choice(FRAMES)).format(*generator.choice(list(TOPICS.values())[t], 2)) for t in topics]
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        mask = inputs["attention_mask"][..., None].float()
        means = (model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
        vectors = torch.nn.functional.normalize(means, dim=1)
        same = torch.from_numpy(topics[:, None] == topics[None]).float()
        loss = ((vectors @ vectors.T - same) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return FolderEncoder(folder)


def weapons(encoder, **limits):
    examples = ("a photo of a rifle and a pistol", "the grenade beside the bullet")
    unless = ("the knife beside the bread", "a photo of a chef and a pan")
    return SemanticConcepts(encoder, {"harm/weapons": Anchors(examples, unless, **limits)})


def best(finder, text):
    return max((s.score for s in finder.find((), "prompt", text)), default=0.0)


def test_words_that_no_example_holds_are_found_by_what_they_mean(encoder):
    finder = weapons(encoder)
    (signal,) = finder.find((), "prompt", "one old missile near a bayonet")
    assert signal.name == "harm/weapons"
    assert signal.detector == "semantic"
    assert signal.score > 0.9
    assert signal.span.of("one old missile near a bayonet") == signal.text


def test_what_only_looks_like_the_concept_is_left_alone(encoder):
    assert best(weapons(encoder), "knife with oven") < 0.1
    assert best(weapons(encoder), "lake with bird") < 0.5
    blind = SemanticConcepts(encoder, {"harm/weapons": Anchors(("knife with rifle",), floor=-1.0)})
    assert best(blind, "knife with oven") > 0.5


def test_the_margin_decides(encoder):
    text = "pistol with missile"
    scores = [best(weapons(encoder, margin=m, floor=-1.0), text) for m in (0.0, 0.5, 1.0, 2.0)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 0.1


def test_a_clause_of_a_long_prompt_is_not_averaged_away(encoder):
    calm = "a photo of a lake and a forest, the river beside the meadow, one old bird near a cloud"
    assert best(weapons(encoder), calm) < 0.5
    prompt = calm + ", rifle with grenade"
    (signal,) = weapons(encoder).find((), "prompt", prompt)
    assert signal.span.of(prompt) == "rifle with grenade"


def test_beside_the_table_of_names_it_covers_its_concepts_and_speaks_for_them(encoder):
    default = default_detectors()
    detectors = TextDetectors(default.concepts, default.lexicon, (), (weapons(encoder),))
    signals = detectors(Request("the missile beside the rifle"))
    assert ("prompt", "harm/weapons") in signals.covered
    assert [s.detector for s in signals.of("prompt", "harm/weapons")] == ["semantic"]


class Broken:
    version = "x"

    def encode(self, texts):
        raise RuntimeError("no weights: secret prompt")


def test_a_finder_that_fails_is_an_error(encoder):
    default = default_detectors()
    finder = WatchedFinder(weapons(Broken()), Watch("semantic", 5.0))
    signals = TextDetectors(default.concepts, default.lexicon, (), (finder,))(Request("a lake"))
    assert signals.error("prompt", "harm/weapons") == "semantic: error: RuntimeError"
    assert ("prompt", "harm/weapons") not in signals.covered
    assert ("prompt", "character/pip") in signals.covered


def test_vectors_that_are_no_numbers_are_an_error_and_not_far_from_everything(encoder):
    class Damaged:
        version = "x"

        def encode(self, texts):
            vectors = encoder.encode(texts)
            vectors[-1, 0] = float("nan")
            return vectors

    default = default_detectors()
    signals = TextDetectors(default.concepts, default.lexicon, (), (weapons(Damaged()),))(Request("a lake"))
    assert signals.error("prompt", "harm/weapons") == "semantic: error: NotFinite"


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"must hold `model\.safetensors`"):
        FolderEncoder(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        [],
        {"a/b": {"examples": []}},
        {"a/b": {"examples": ["x"], "unles": []}},
        {"a/b": {"examples": ["x"], "floor": 3}},
    ],
)
def test_a_broken_table_of_anchors_is_refused(tmp_path, table):
    (tmp_path / "anchors.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match="must"):
        load_anchors(tmp_path / "anchors.json")


def test_a_table_is_read_as_it_is_written(tmp_path):
    (tmp_path / "anchors.json").write_text('{"harm/x": {"examples": ["a b"], "unless": ["c"], "margin": 0.2}}')
    assert load_anchors(tmp_path / "anchors.json") == {"harm/x": Anchors(("a b",), ("c",), 0.2, 0.35)}
