"""The reader: reads signs of one or two lines in four fonts, independently of the service's own readers.

A small recognition network of our own, trained on true pictures. The service loop never calls it: a figure on lettering
would mean little if the loop were judged by the reader that it optimises against.

It names the letter, if any, at each place of a picture. Places are 4 px high and 2 px wide. A line of lettering shows
as one row of places in which letters and blanks alternate. What a row names is collapsed to a string as in
connectionist temporal classification (Graves et al., 2006).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reference.loop import Schedule, fit
from reference.town.data import render_set
from reference.town.drawing.paint import paint
from reference.town.judge import held_out_scenes
from reference.town.layout import letter_boxes
from reference.town.letters import ALPHABET
from reference.town.network import disturb, rough
from reference.town.scenes import Scene

__all__ = [
    "READER",
    "READER_SCHEDULE",
    "Reader",
    "collapse",
    "letter_places",
    "lines_of",
    "train_reader",
]

READER_SCHEDULE = Schedule(steps=900, lr=2e-3, cooldown=0.6)
READER = Path(__file__).parent.parent / "data" / "reader"
_SIZE = 64  # pixels; larger pictures are looked at in this size
_HIGH, _WIDE = 4, 2  # pixels of a place
_FEWEST = 2  # places of a row that name a letter, or it is no line: single ones are specks


class _Network(nn.Module):
    """[b, 3, 64, 64] to logits [b, 35, 16, 32] over places; class 0 is the blank."""

    def __init__(self) -> None:
        super().__init__()

        def layer(a: int, b: int, kernel: int = 3, stride: tuple[int, int] = (1, 1)) -> nn.Module:
            pad = kernel // 2
            return nn.Sequential(nn.Conv2d(a, b, kernel, stride, pad, bias=False), nn.GroupNorm(8, b), nn.SiLU())

        self.body = nn.Sequential(
            layer(3, 24, stride=(2, 2)),
            layer(24, 48),
            layer(48, 64, stride=(2, 1)),
            layer(64, 64, 5),
            layer(64, 64, 5),
        )
        self.places = nn.Conv2d(64, len(ALPHABET) + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        told: Tensor = self.places(self.body(x))
        return told


class Reader:
    """A loaded reader for pictures of the town."""

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
        """What each picture's sign says, in capitals, its lines joined by a space; empty if it says nothing."""
        if not images:
            return []
        named = self.network(rough(_seen(images))).argmax(1)
        return [" ".join(lines_of(places.tolist())) for places in named]


def _seen(images: Sequence[Image.Image]) -> Tensor:
    """The pictures as the network looks at them, uint8 [n, 64, 64, 3]."""
    return torch.stack([torch.from_numpy(np.array(i.convert("RGB").resize((_SIZE, _SIZE)))) for i in images])


def lines_of(places: Sequence[Sequence[int]]) -> list[str]:
    """The lines that 16 x 32 places say, from above; of rows nearer than a letter is high the fuller one counts."""
    full = [sum(c > 0 for c in row) for row in places]
    taken: list[int] = []
    for row in sorted(range(len(places)), key=lambda r: -full[r]):
        if full[row] >= _FEWEST and all(abs(row - other) > 2 for other in taken):
            taken.append(row)
    return [collapse(places[row]) for row in sorted(taken)]


def collapse(classes: Sequence[int]) -> str:
    """The string of a best path: repeats merged, blanks dropped."""
    kept = [c for i, c in enumerate(classes) if c and (i == 0 or classes[i - 1] != c)]
    return "".join(ALPHABET[c - 1] for c in kept)


def letter_places(scene: Scene) -> Tensor:
    """The class of each place [16, 32] of a 64 px picture: a letter in the middle of its cell, else blank."""
    target = torch.zeros(_SIZE // _HIGH, _SIZE // _WIDE, dtype=torch.long)
    for line, boxes in zip(scene.lines, letter_boxes(scene, _SIZE), strict=True):
        for letter, (left, top, right, bottom) in zip(line, boxes, strict=True):
            quarter = (right - left) // 4
            row = (top + bottom) // 2 // _HIGH
            target[row, (left + quarter) // _WIDE : (right - quarter) // _WIDE] = ALPHABET.index(letter) + 1
    return target


def train_reader(
    folder: Path, *, work: Path, schedule: Schedule = READER_SCHEDULE, count: int = 20000, seed: int = 25
) -> float:
    """Writes a reader into `folder`, and returns the share of 1,000 held-out signs that it reads exactly."""
    torch.manual_seed(seed)
    network = _Network()
    scenes, pictures = render_set(count, seed=seed, size=_SIZE)
    targets = torch.stack([letter_places(s).to(torch.uint8) for s in scenes])

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, count, (64,), generator=generator)
        told = network(disturb(rough(pictures[rows]), generator))
        target = targets[rows].long()
        each = F.cross_entropy(told, target, reduction="none")
        return each[target > 0].mean() + each[target == 0].mean()

    fit({"reader": network}, loss, schedule, folder=work, name="reader", every=250)
    tests = [s for s in held_out_scenes(1200, seed=seed) if s.lines][:1000]
    read = Reader(network).read([paint(s) for s in tests])
    exact = sum(a == s.lettering for a, s in zip(read, tests, strict=True)) / len(tests)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, folder / "reader.safetensors")
    (folder / "reader.json").write_text(json.dumps({"seed": seed, "held_out_exact": exact}) + "\n", "utf-8")
    return exact
