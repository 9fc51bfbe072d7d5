"""The reader: reads the lettering of a picture, independently of every reader that the service uses.

A small recognition network of our own that names the letter, if any, in each column of a picture. Where every letter
of a true picture stands is known, so it is trained on that directly; what it names is collapsed to a string as in
connectionist temporal classification (Graves et al., 2006): repeats merged, blanks dropped.
The service loop never calls it: figures on lettering would mean little if the loop were judged by the reader that it
optimises against.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluation.town_reader import collapse, filled, seen
from reference.data import render_set
from reference.judge import disturb, rough
from reference.loop import Schedule, fit
from reference.paint import letter_boxes, paint
from reference.world import ALPHABET, Scene, held_out_words, sample_scene

__all__ = ["READER", "READER_SCHEDULE", "Reader", "train_reader"]

READER_SCHEDULE = Schedule(steps=1200, lr=2e-3, cooldown=0.6)
READER = Path(__file__).parent / "data" / "reader"


class _Network(nn.Module):
    """[b, 3, 64, 64] to log-probabilities [32, b, 35] over columns two pixels wide; class 0 is the blank."""

    def __init__(self) -> None:
        super().__init__()

        def layer(a: int, b: int, stride: tuple[int, int]) -> nn.Module:
            return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.GroupNorm(8, b), nn.SiLU())

        self.body = nn.Sequential(
            layer(3, 24, (2, 2)),
            layer(24, 48, (2, 1)),
            layer(48, 64, (2, 1)),
            layer(64, 64, (1, 1)),
            layer(64, 64, (2, 1)),
        )
        self.columns = nn.Sequential(
            nn.Conv1d(256, 128, 5, 1, 2), nn.SiLU(), nn.Conv1d(128, len(ALPHABET) + 1, 3, 1, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return self.columns(h.flatten(1, 2)).log_softmax(1).permute(2, 0, 1)


class Reader:
    """A loaded reader for pictures of the reference world."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    @classmethod
    def load(cls, folder: Path = READER) -> Reader:
        """The reader of a folder with `reader.safetensors`."""
        return cls(filled(_Network(), folder))

    @torch.inference_mode()
    def read(self, images: Sequence[Image.Image]) -> list[str]:
        """What each picture's sign says, in capitals; empty if it says nothing."""
        if not images:
            return []
        return [collapse(row) for row in self.network(rough(seen(images))).argmax(-1).T.tolist()]


def _columns(scene: Scene) -> Tensor:
    """The class of each of the 32 columns of a 64 px picture: a letter in the middle half of its cell, else blank."""
    target = torch.zeros(32, dtype=torch.long)
    for letter, (left, _, right, _) in zip(scene.lettering, letter_boxes(scene, 64), strict=True):
        quarter = (right - left) // 4
        target[(left + quarter) // 2 : (right - quarter) // 2] = ALPHABET.index(letter) + 1
    return target


def train_reader(folder: Path, *, work: Path, schedule: Schedule, count: int = 30000, seed: int = 5) -> float:
    """Writes a reader into `folder`, and returns the share of 1,000 held-out words that it reads exactly."""
    torch.manual_seed(seed)
    network = _Network()
    scenes, pictures = render_set(count, seed=seed * 1000 + 7)
    columns = torch.stack([_columns(s) for s in scenes])

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, count, (96,), generator=generator)
        told = network(disturb(rough(pictures[rows]), generator)).permute(1, 2, 0)
        target = columns[rows]
        each = F.nll_loss(told, target, reduction="none")
        return each[target > 0].mean() + each[target == 0].mean()

    fit({"reader": network}, loss, schedule, folder=work, name="reader", every=500)
    rng = random.Random(f"reader-test/{seed}")
    tests = [sample_scene(rng, lettering=rng.choice(held_out_words())) for _ in range(1000)]
    read = Reader(network).read([paint(s) for s in tests])
    exact = sum(a == s.lettering for a, s in zip(read, tests, strict=True)) / len(tests)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, folder / "reader.safetensors")
    (folder / "reader.json").write_text(json.dumps({"seed": seed, "held_out_exact": exact}) + "\n", "utf-8")
    return exact
