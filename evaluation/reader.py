"""The reader: reads the lettering of a picture, independently of every reader that the service uses.

A small recognition network of our own, trained on true pictures with the loss of connectionist temporal
classification (Graves et al., 2006).
The service loop never calls it: figures on lettering would mean little if the loop were judged by the reader that it
optimises against.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reference.data import render_set
from reference.judge import disturb, rough
from reference.loop import Schedule, fit
from reference.paint import paint
from reference.world import ALPHABET, held_out_words, sample_scene

__all__ = ["READER", "Reader", "train_reader"]

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
        network = _Network()
        network.load_state_dict({k: v.float() for k, v in load_file(folder / "reader.safetensors").items()})
        return cls(network)

    @torch.inference_mode()
    def read(self, images: Sequence[Image.Image]) -> list[str]:
        """What each picture's sign says, in capitals; empty if it says nothing."""
        if not images:
            return []
        x = torch.stack([torch.from_numpy(np.asarray(i.convert("RGB").resize((64, 64)))) for i in images])
        return [_collapse(row) for row in self.network(rough(x)).argmax(-1).T.tolist()]


def _collapse(classes: list[int]) -> str:
    """The string of a best path: repeats merged, blanks dropped."""
    kept = [c for i, c in enumerate(classes) if c and (i == 0 or classes[i - 1] != c)]
    return "".join(ALPHABET[c - 1] for c in kept)


def train_reader(folder: Path, *, work: Path, schedule: Schedule, count: int = 40000, seed: int = 5) -> float:
    """Writes a reader into `folder`, and returns the share of 1,000 held-out words that it reads exactly."""
    torch.manual_seed(seed)
    network = _Network()
    scenes, pictures = render_set(count, seed=seed * 1000 + 7)
    codes = [torch.tensor([ALPHABET.index(c) + 1 for c in s.lettering], dtype=torch.long) for s in scenes]

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, count, (96,), generator=generator)
        out = network(disturb(rough(pictures[rows]), generator))
        targets = [codes[i] for i in rows.tolist()]
        lengths = torch.tensor([len(t) for t in targets])
        return F.ctc_loss(out, torch.cat(targets), torch.full((len(rows),), len(out)), lengths, zero_infinity=True)

    fit({"reader": network}, loss, schedule, folder=work, name="reader", every=500)
    rng = random.Random(f"reader-test/{seed}")
    tests = [sample_scene(rng, lettering=rng.choice(held_out_words())) for _ in range(1000)]
    read = Reader(network).read([paint(s) for s in tests])
    exact = sum(a == s.lettering for a, s in zip(read, tests, strict=True)) / len(tests)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, folder / "reader.safetensors")
    (folder / "reader.json").write_text(json.dumps({"seed": seed, "held_out_exact": exact}) + "\n", "utf-8")
    return exact
