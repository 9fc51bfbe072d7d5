"""The real engines, on pictures and checkpoints that the tests make: RapidOCR, EasyOCR from local weights, Detoxify
offline."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from detectors.detox import DetoxifyScorer
from detectors.images import EasyOcr, LetteringLooker, RapidOcr, look

FONT = Path(__file__).parents[2] / "reference" / "fonts" / "DejaVuSansMono-Bold.ttf"


def sign(word, seed=0):
    """A 64 px picture with a sign that says `word`."""
    rng = random.Random(seed)
    image = Image.new("RGB", (64, 64), tuple(rng.randrange(60, 220) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    draw.rectangle([3, 41, 60, 61], fill=(250, 250, 245), outline=(30, 30, 30))
    font = next(f for s in range(16, 6, -1) if (f := ImageFont.truetype(str(FONT), s)).getlength(word) <= 54)
    draw.text((32, 51), word, font=font, fill=(10, 10, 10), anchor="mm")
    return image


def test_rapidocr_reads_small_signs_and_nothing_where_there_is_nothing():
    reader = LetteringLooker(RapidOcr(), budget=60)
    words = ("IDIOT", "HELLO", "STUPID", "MORON", "GARDEN", "XK7P", "SALE", "SCUM")
    reads = frozenset({"lettering"})
    read = [
        [s.text for s in look(sign(w, i), [reader], reads=reads).of("picture", "lettering")]
        for i, w in enumerate(words)
    ]
    assert read == [[w] for w in words]
    (signal,) = look(sign("IDIOT"), [reader], reads=reads).of("picture", "lettering")
    assert 0 <= signal.box.left < 16
    assert 35 < signal.box.top < 50
    assert 50 < signal.box.bottom <= 64
    for colour in ("red", "white"):
        seen = look(Image.new("RGB", (64, 64), colour), [reader], reads=reads)
        assert seen.items == ()
        assert seen.covered


def test_finding_where_text_stands_leaves_reading_as_it_was():
    engine = RapidOcr()
    (before,) = engine.read(sign("HELLO"))
    (box,) = engine.find(sign("HELLO"))
    assert box == before.box
    assert [r.text for r in engine.read(sign("HELLO"))] == ["HELLO"]
    assert engine.find(Image.new("RGB", (64, 64), "red")) == []


def test_the_embedded_easyocr_network_and_detoxify_checkpoint_are_right_on_more_than_nine_of_ten_unseen_items(capsys):
    from detectors.detox import EMBEDDED
    from evaluation.training.detectors import reads_signs, tells_abuse, unseen_signs

    read = reads_signs(EasyOcr.embedded(finder=RapidOcr()), unseen_signs(100, seed=1))
    told = tells_abuse(DetoxifyScorer(EMBEDDED), 100, seed=1)
    with capsys.disabled():
        print(f"\nEasyOCR, signs with unseen words read exactly: {read}; Detoxify's code, unseen texts: {told}")
    assert read.share > 0.9
    assert told.share > 0.9


def test_weights_of_a_users_network_that_would_run_code_are_refused(tmp_path):
    import shutil

    from detectors.images.easy import EMBEDDED

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    for kind in (".py", ".yaml"):
        shutil.copy(EMBEDDED / f"signreader{kind}", tmp_path)
    with open(tmp_path / "signreader.pth", "wb") as file:
        pickle.dump({"module.x": Evil()}, file)
    engine = EasyOcr(tmp_path, network="signreader", networks=tmp_path, whole=True)
    with pytest.raises(ValueError, match="must contain tensors only"):
        engine.read(sign("HELLO"))
    assert not (tmp_path / "ran").exists()


def test_rapidocr_refuses_senseless_sizes():
    with pytest.raises(ValueError, match="`side` must be at least 64"):
        RapidOcr(side=10)


def test_easyocr_names_the_weights_that_are_missing_and_downloads_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"english_g2\.pth.*craft_mlt_25k\.pth.*nothing is downloaded"):
        EasyOcr(tmp_path)
    (tmp_path / "craft_mlt_25k.pth").write_bytes(b"not the weights")
    (tmp_path / "english_g2.pth").write_bytes(b"not the weights")
    engine = EasyOcr(tmp_path)
    seen = look(sign("IDIOT"), [LetteringLooker(engine, budget=120)], reads=frozenset({"lettering"}))
    assert "FileNotFoundError" in seen.error("picture", "lettering")
    assert (tmp_path / "english_g2.pth").exists()


def test_easyocr_runs_a_network_of_our_own_from_local_weights(tmp_path):
    import torch

    (tmp_path / "ownreader.yaml").write_text(
        "imgH: 32\nlang_list: ['en']\nnetwork_params: {width: 8}\n"
        "character_list: 0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ\n"
    )
    (tmp_path / "ownreader.py").write_text(
        "import torch\n"
        "class Model(torch.nn.Module):\n"
        "    def __init__(self, num_class, width):\n"
        "        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(1, width, 3, stride=2, padding=1)\n"
        "        self.out = torch.nn.Linear(width, num_class)\n"
        "    def forward(self, x, text):\n"
        "        return self.out(self.conv(x).mean(2).transpose(1, 2))\n"
    )
    torch.manual_seed(0)
    state = {"module.conv.weight": torch.randn(8, 1, 3, 3), "module.conv.bias": torch.randn(8)}
    state |= {"module.out.weight": torch.randn(37, 8), "module.out.bias": torch.randn(37)}
    torch.save(state, tmp_path / "ownreader.pth")
    engine = EasyOcr(tmp_path, network="ownreader", networks=tmp_path, whole=True)
    (reading,) = engine.read(sign("HELLO"))
    assert set(reading.text) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert (reading.box.left, reading.box.top, reading.box.right, reading.box.bottom) == (0, 0, 64, 64)
    assert engine.version.endswith("/ownreader")


@pytest.fixture(scope="module")
def detox(tmp_path_factory):
    """A folder in Detoxify's layout with a tiny BERT, trained for a moment to tell two words apart."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("detox")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "you", "are", "stupid", "lovely", "people"]
    (folder / "vocab.txt").write_text("\n".join(words))
    classes = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, num_labels=len(classes),
    )  # fmt: skip
    config.save_pretrained(folder)
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).train()
    batch = tokenizer(
        ["you are stupid", "you are lovely", "stupid people", "lovely people"], return_tensors="pt", padding=True
    )
    target = torch.tensor([[1.0] * 6, [0.0] * 6] * 2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(**batch)[0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # `model_type` names the hub, as in the real checkpoints: loading must not go there
    arch = {
        "model_type": "bert-base-uncased", "model_name": "BertForSequenceClassification",
        "tokenizer_name": "BertTokenizer", "num_classes": len(classes),
    }  # fmt: skip
    config = {"dataset": {"args": {"classes": classes}}, "arch": {"args": arch}}
    torch.save({"config": config, "state_dict": model.state_dict()}, folder / "toxic.ckpt")
    return folder


def test_detoxify_loads_from_a_folder_offline_and_scores_its_categories(detox):
    scorer = DetoxifyScorer(detox)
    bad, good = scorer.scores(["you are stupid", "you are lovely"])
    assert set(bad) == {"toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack"}
    assert bad["toxicity"] > 0.9
    assert good["toxicity"] < 0.1
    assert scorer.scores([]) == []
    assert scorer.version == "toxic"


def test_detoxify_beside_the_lexicon_makes_toxicity_signals(detox):
    from detectors.text import TextDetectors, default_detectors
    from policies import Request

    default = default_detectors()
    signals = TextDetectors(default.concepts, default.lexicon, (DetoxifyScorer(detox),))(Request("you are stupid"))
    found = {s.label: s for s in signals.of("prompt", "toxicity")}
    assert found["toxicity"].detector == "detoxify"
    assert found["insult"].score > 0.9


def test_a_checkpoint_that_would_run_code_is_refused(detox, tmp_path):
    import shutil

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    shutil.copytree(detox, tmp_path / "detox")
    with open(tmp_path / "detox" / "toxic.ckpt", "wb") as file:
        pickle.dump({"config": Evil()}, file)
    with pytest.raises(pickle.UnpicklingError):
        DetoxifyScorer(tmp_path / "detox").scores(["x"])
    assert not (tmp_path / "ran").exists()


def test_detoxify_says_what_is_missing_or_does_not_fit(detox, tmp_path):
    import shutil

    import torch

    with pytest.raises(FileNotFoundError, match="exactly one Detoxify checkpoint"):
        DetoxifyScorer(tmp_path)
    torch.save({"weights": 1}, tmp_path / "a.ckpt")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        DetoxifyScorer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a Detoxify checkpoint"):
        DetoxifyScorer(tmp_path).scores(["x"])
    shutil.copytree(detox, tmp_path / "other")
    config = (tmp_path / "other" / "config.json").read_text()
    checkpoint = torch.load(tmp_path / "other" / "toxic.ckpt", weights_only=True)
    checkpoint["config"]["dataset"]["args"]["classes"] = ["toxic"]
    torch.save(checkpoint, tmp_path / "other" / "toxic.ckpt")
    assert config
    with pytest.raises(ValueError, match="must set num_labels to 1"):
        DetoxifyScorer(tmp_path / "other").scores(["x"])
