"""The network of a judge, and how pictures are prepared for our own networks: as they are, or disturbed for training.

Strided convolutions and one head per question: small enough to judge every picture of a service on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["Network", "disturb", "load_network", "look_at", "rough", "seen"]


class Network(nn.Module):
    """Strided convolutions and one linear head per question; [b, 3, h, w] to logits by question."""

    def __init__(self, widths: Sequence[int], kernel: int, answers: Mapping[str, int]) -> None:
        super().__init__()
        channels = [3, *widths]
        self.width = widths[-1]
        self.body = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, kernel, 2, kernel // 2, bias=False), nn.GroupNorm(8, b), nn.SiLU())
                for a, b in pairwise(channels)
            )
        )
        self.heads = nn.ModuleDict({name: nn.LazyLinear(count) for name, count in answers.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.body(x).flatten(1)
        return {name: head(h) for name, head in self.heads.items()}


def load_network(folder: Path, build: Callable[[Sequence[int], int, int], Network]) -> tuple[Network, int]:
    """The network of a folder with `judge.json` and `judge.safetensors`, and the side of the pictures it looks at."""
    shape = json.loads((folder / "judge.json").read_text("utf-8"))
    network = build(shape["widths"], shape["kernel"], shape["size"])
    network.load_state_dict({k: v.float() for k, v in load_file(folder / "judge.safetensors").items()})
    return network, shape["size"]


def look_at(network: nn.Module, images: Sequence[Image.Image], size: int) -> list[dict[str, list[float]]]:
    """For each picture the probabilities of each head's answers."""
    if not images:
        return []
    told = {name: logits.softmax(-1).tolist() for name, logits in network(rough(seen(images, size))).items()}
    return [{name: rows[i] for name, rows in told.items()} for i in range(len(images))]


def seen(images: Sequence[Image.Image], size: int) -> Tensor:
    """The pictures as a network of `size` pixels looks at them, uint8 [b, size, size, 3]."""
    return torch.stack([torch.from_numpy(np.array(i.convert("RGB").resize((size, size)))) for i in images])


def rough(images: Tensor) -> Tensor:
    """uint8 [b, h, w, 3] as float [b, 3, h, w] in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def disturb(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures with noise of up to a tenth of the range, half of them blurred as well."""
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    blurred = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    level = torch.rand(len(x), 1, 1, 1, generator=generator) * 0.2
    return torch.where(blurred, x.lerp(soft, 0.7), x) + level * torch.randn(x.shape, generator=generator)
