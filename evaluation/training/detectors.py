"""Trains the small detectors that come with the package: `python -m evaluation.training.detectors reader | detoxify`.

`reader` is a recognition network for EasyOCR, on crops of true pictures of the town; `detoxify` a
checkpoint in Detoxify's format, on the generated texts of `evaluation.training.toxicity`. Both take minutes on one core
and are deterministic. They stand in this room because a detector may not know the town.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from detectors.detox import EMBEDDED as DETOXIFY
from detectors.detox import DetoxifyScorer
from detectors.images import EasyOcr, OcrEngine, RapidOcr
from detectors.images.easy import EMBEDDED
from detectors.text import TextScorer
from evaluation.metrics import Rate
from evaluation.training.toxicity import KINDS, TRAIN, Split
from reference.town.drawing.paint import paint
from reference.town.layout import Box, letter_boxes
from reference.town.letters import ALPHABET, held_out_words
from reference.town.scenes import Scene, sample_scene

__all__ = [
    "Crop",
    "labelled_texts",
    "main",
    "reads_signs",
    "sign_crops",
    "tells_abuse",
    "train_detoxify",
    "train_reader",
    "unseen_signs",
]

_TEXTS, _SEED = 40_000, 3  # what the checkpoint is trained on
CLASSES = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
_OBSCENE = ("shit", "ass", "dick", "cunt", "piss", "fuck", "butt", "crap", "twat", "prick", "wank")
_GROUPS = ("teachers", "neighbours", "foreigners", "women", "men", "refugees", "newcomers", "believers", "strangers")

_HEIGHT, _WIDTH, _STRIDE = 32, 224, 4  # of the crops that the network sees, and pixels of one of its columns
_COUNT, _STEPS, _BATCH = 8000, 1500, 64


@dataclass(frozen=True, slots=True)
class Crop:
    """A grey piece of a picture with a line of lettering; `letters` are (class, left, right) in pixels of it."""

    pixels: NDArray[np.uint8]
    letters: tuple[tuple[int, float, float], ...]


def sign_crops(scene: Scene, rng: random.Random) -> list[Crop]:
    """Each line of the scene's sign as a text detector may cut it out: with margins that are never the same."""
    grey = np.asarray(paint(scene).convert("L"))
    return [_crop(grey, line, cells, rng) for line, cells in zip(scene.lines, letter_boxes(scene, 64), strict=True)]


def _crop(grey: NDArray[np.uint8], line: str, cells: Sequence[Box], rng: random.Random) -> Crop:
    left, right = max(0, cells[0][0] - rng.randint(0, 8)), min(64, cells[-1][2] + rng.randint(0, 8))
    top, bottom = max(0, cells[0][1] - rng.randint(-1, 7)), min(64, cells[0][3] + rng.randint(-1, 7))
    letters = tuple(
        (ALPHABET.index(letter) + 1, float(a - left), float(b - left))
        for letter, (a, _, b, _) in zip(line, cells, strict=True)
    )
    return Crop(np.ascontiguousarray(grey[top:bottom, left:right]), letters)


def unseen_signs(count: int, *, seed: int = 0) -> list[tuple[Image.Image, str]]:
    """`count` pictures whose sign says a word that no training picture shows, with the word."""
    rng = random.Random(f"unseen-signs/{seed}")
    scenes = [sample_scene(rng, lines=(rng.choice(held_out_words()),)) for _ in range(count)]
    return [(paint(scene), scene.lettering) for scene in scenes]


def train_reader(folder: Path, *, steps: int = _STEPS, count: int = _COUNT, seed: int = 11) -> None:
    """Writes `signreader.safetensors` into `folder`, which holds the network's code."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    crops = [crop for _ in range(count) for crop in sign_crops(sample_scene(rng), rng)]
    inputs, targets = zip(*(_prepared(crop) for crop in crops), strict=True)
    x, y = torch.stack(inputs), torch.stack(targets)
    network = _network(folder)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (_BATCH,))
        told = network(_disturbed(x[rows]))
        each = F.cross_entropy(told.flatten(0, 1), y[rows].flatten(), reduction="none")
        named = y[rows].flatten() > 0
        loss = each[named].mean() + each[~named].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    state = {k: v.half().contiguous() for k, v in network.state_dict().items()}
    save_file(state, folder / "signreader.safetensors")


def _prepared(crop: Crop) -> tuple[Tensor, Tensor]:
    """A crop as EasyOCR hands it to a network, padded with its last column, and the class of each column."""
    from easyocr.utils import compute_ratio_and_resize

    height, width = crop.pixels.shape
    resized, _ = compute_ratio_and_resize(crop.pixels, width, height, _HEIGHT)
    if resized.shape[0] != _HEIGHT:  # taller than wide
        size = (math.ceil(_HEIGHT * resized.shape[1] / resized.shape[0]), _HEIGHT)
        resized = np.asarray(Image.fromarray(resized).resize(size, Image.Resampling.BICUBIC))
    x = torch.tensor(resized).float()[:, :_WIDTH] / 127.5 - 1
    x = torch.cat([x, x[:, -1:].expand(-1, _WIDTH - x.shape[1])], 1)
    scale = resized.shape[1] / width
    y = torch.zeros(_WIDTH // _STRIDE, dtype=torch.long)
    for kind, left, right in crop.letters:
        quarter = (right - left) / 4
        a, b = ((v * scale / _STRIDE) for v in (left + quarter, right - quarter))
        y[max(0, round(a)) : max(round(a) + 1, round(b))] = kind
    return x[None], y


def _disturbed(x: Tensor) -> Tensor:
    """Crops with noise, half of them blurred, with brightness and contrast changed."""
    b = len(x)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(torch.rand(b, 1, 1, 1) < 0.5, x.lerp(soft, 0.7), x)
    x = x * (0.6 + 0.6 * torch.rand(b, 1, 1, 1)) + 0.3 * (torch.rand(b, 1, 1, 1) - 0.5)
    return x + 0.2 * torch.rand(b, 1, 1, 1) * torch.randn_like(x)


def _network(folder: Path) -> Any:
    """The network as EasyOCR will make it, from its file."""
    spec = importlib.util.spec_from_file_location("signreader", folder / "signreader.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Model(num_class=len(ALPHABET) + 1, width=32)


def train_detoxify(folder: Path, *, count: int = _TEXTS, epochs: int = 3, seed: int = _SEED) -> None:
    """Writes a checkpoint in Detoxify's format into `folder`, with its configuration and tokenizer beside it."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    torch.manual_seed(seed)
    examples = list(labelled_texts(random.Random(seed), count, held_out=False))
    folder.mkdir(parents=True, exist_ok=True)
    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator((t for t, _ in examples), vocab_size=1600, min_frequency=2, show_progress=False)
    pieces.save_model(str(folder))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=pieces.get_vocab_size(), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=512, num_labels=len(CLASSES),
    )  # fmt: skip
    config.save_pretrained(folder)
    model = BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    steps = epochs * (count // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(count, generator=order).split(_BATCH)[: count // _BATCH]:
            batch = [examples[i] for i in rows.tolist()]
            inputs = tokenizer([t for t, _ in batch], return_tensors="pt", padding=True, truncation=True, max_length=64)
            target = torch.tensor([y for _, y in batch], dtype=torch.float)
            loss = F.binary_cross_entropy_with_logits(model(**inputs)[0], target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    arch = {
        "model_type": "bert-base-uncased", "model_name": "BertForSequenceClassification",
        "tokenizer_name": "BertTokenizer", "num_classes": len(CLASSES),
    }  # fmt: skip
    content = {"config": {"dataset": {"args": {"classes": list(CLASSES)}}, "arch": {"args": arch}}}
    torch.save({**content, "state_dict": model.half().state_dict()}, folder / "toxic-small.ckpt")


def labelled_texts(rng: random.Random, count: int, *, held_out: bool) -> Iterator[tuple[str, list[int]]]:
    """`count` texts with a label for each of Detoxify's classes; `held_out` ones are sentences never trained on."""
    split = Split("test", "train") if held_out else TRAIN
    bad = [k for k in KINDS if not k.startswith("innocent")]
    good = [k for k in KINDS if k.startswith("innocent")]
    for i in range(count):
        kind = rng.choice(bad if i % 2 else good)
        text = KINDS[kind](rng, split)
        threat = kind in ("threats by verb", "bad wishes")
        obscene = bool(i % 2) and any(w in text for w in _OBSCENE)
        insult = kind.split()[0] in ("insults", "compound", "scorn")
        about_groups = bool(i % 2) and any(g in text for g in _GROUPS)
        yield text, [i % 2, int(kind == "threats by verb"), int(obscene), int(threat), int(insult), int(about_groups)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.training.detectors", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("what", choices=("reader", "detoxify"))
    parser.add_argument("--out", type=Path, help="where to write; default: where the package keeps it")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.what == "reader":
        folder = options.out or EMBEDDED
        train_reader(folder)
        engine = EasyOcr(folder, network="signreader", networks=folder, finder=RapidOcr())
        print(f"unseen words read exactly: {reads_signs(engine, unseen_signs(200))}")
    else:
        folder = options.out or DETOXIFY
        train_detoxify(folder)
        scorer = DetoxifyScorer(folder)
        print(f"unseen texts told right: {tells_abuse(scorer, 200)}")
        print(f"of unseen sentences: {tells_abuse(scorer, 200, new_sentences=True)}")
    return 0


def reads_signs(engine: OcrEngine, signs: Sequence[tuple[Image.Image, str]]) -> Rate:
    """How many of `signs` the engine reads exactly: the word is one of the pieces that it reads."""
    return Rate.of(word in [r.text.strip().upper() for r in engine.read(picture)] for picture, word in signs)


def tells_abuse(scorer: TextScorer, count: int, *, seed: int = 0, new_sentences: bool = False) -> Rate:
    """How many of `count` texts the scorer classifies correctly; half are abusive, and none was trained on.

    With `new_sentences` not even their frames were trained on: what a small network finds hard.
    """
    rng = random.Random(f"unseen-texts/{seed}")
    known = set() if new_sentences else {t for t, _ in labelled_texts(random.Random(_SEED), _TEXTS, held_out=False)}
    drawn = labelled_texts(rng, 20 * count, held_out=new_sentences)
    texts = list(islice(((t, y) for t, y in drawn if t not in known), count))
    scores = scorer.scores([t for t, _ in texts])
    return Rate.of((s["toxicity"] >= 0.5) == bool(y[0]) for s, (_, y) in zip(scores, texts, strict=True))


if __name__ == "__main__":
    sys.exit(main())
