"""The judge: tells what a picture of the reference world shows.

A small convolutional classifier, trained on true pictures only, with noise and blur so that it does not live on exact
pixels. Two judges of other seed and shape are trained; the first one is used, the second says how far it can be
trusted.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reference.data import render_set
from reference.loop import Schedule, fit
from reference.world import CHARACTERS, COLOURS, SHAPES, STYLES, Scene, sample_scene

__all__ = [
    "CONCEPTS",
    "JUDGE",
    "JUDGE_RECIPES",
    "SECOND_JUDGE",
    "Judge",
    "JudgeRecipe",
    "Network",
    "Opinion",
    "disturb",
    "load_network",
    "look_at",
    "rough",
    "train_judge",
]

JUDGE = Path(__file__).parent / "judges" / "first"
SECOND_JUDGE = Path(__file__).parent / "judges" / "second"
VERSION = "1"
CONCEPTS = (
    *(f"shape/{s}" for s in SHAPES),
    *(f"character/{c}" for c in CHARACTERS),
    *(f"style/{s}" for s in STYLES),
    "lettering",
)
_ANSWERS: dict[str, tuple[str | None, ...]] = {
    "subject": SHAPES + CHARACTERS,
    "colour": (None, *COLOURS),
    "background": tuple(COLOURS),
    "style": (None, *STYLES),
    "sign": (None, "bottom", "top"),
}


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the judge sees in one picture, with the probability that it gives to each answer."""

    subject: str
    colour: str | None
    background: str
    style: str | None
    sign: str | None
    scores: dict[str, float]

    def agrees(self, scene: Scene) -> dict[str, bool]:
        """Which facts of the scene it sees as they are."""
        sign = scene.place if scene.lettering else None
        facts = {
            "subject": scene.subject,
            "colour": scene.colour,
            "background": scene.background,
            "style": scene.style,
            "sign": sign,
        }
        return {name: getattr(self, name) == value for name, value in facts.items()}


class Network(nn.Module):
    """Strided convolutions and one linear head a question; [b, 3, h, w] to logits by question."""

    def __init__(self, widths: Sequence[int], kernel: int, answers: Mapping[str, int]) -> None:
        super().__init__()
        channels = [3, *widths]
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


class Judge:
    """A loaded judge; pictures of any size are looked at in the size it was trained on."""

    def __init__(self, network: nn.Module, *, size: int) -> None:
        self.network, self.size = network.eval(), size

    @classmethod
    def load(cls, folder: Path = JUDGE) -> Judge:
        """The judge of a folder with `judge.json` and `judge.safetensors`."""
        network, size = load_network(folder, _build)
        return cls(network, size=size)

    @torch.inference_mode()
    def look(self, images: Sequence[Image.Image]) -> list[Opinion]:
        """One opinion a picture."""
        return [_opinion(told) for told in look_at(self.network, images, self.size)]

    def scores(self, images: Sequence[Image.Image]) -> list[dict[str, float]]:
        """Concept to probability: `character/<x>`, `style/<x>`, `shape/<x>`, and `lettering` (there is a sign)."""
        return [opinion.scores for opinion in self.look(images)]


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
    x = torch.stack([torch.from_numpy(np.array(i.convert("RGB").resize((size, size)))) for i in images])
    told = {name: logits.softmax(-1).tolist() for name, logits in network(rough(x)).items()}
    return [{name: rows[i] for name, rows in told.items()} for i in range(len(images))]


def _opinion(told: dict[str, list[float]]) -> Opinion:
    best = {name: _ANSWERS[name][int(np.argmax(p))] for name, p in told.items()}
    scores = dict(zip(CONCEPTS, (*told["subject"], *told["style"][1:], 1 - told["sign"][0]), strict=True))
    return Opinion(**best, scores=scores)  # type: ignore[arg-type]


def rough(images: Tensor) -> Tensor:
    """uint8 [b, h, w, 3] as float [b, 3, h, w] in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def disturb(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures with noise of up to a tenth of the range, half of them blurred as well."""
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    blurred = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    level = torch.rand(len(x), 1, 1, 1, generator=generator) * 0.2
    return torch.where(blurred, x.lerp(soft, 0.7), x) + level * torch.randn(x.shape, generator=generator)


def _build(widths: Sequence[int], kernel: int, size: int) -> Network:
    network = Network(widths, kernel, {name: len(answers) for name, answers in _ANSWERS.items()})
    network(torch.zeros(1, 3, size, size))
    return network


@dataclass(frozen=True, slots=True)
class JudgeRecipe:
    """A judge's shape, and what it is trained on."""

    folder: Path
    widths: tuple[int, ...]
    kernel: int
    seed: int
    steps: int = 1200
    size: int = 64
    count: int = 30000


JUDGE_RECIPES = (
    JudgeRecipe(JUDGE, widths=(24, 48, 64, 96), kernel=3, seed=11),
    JudgeRecipe(SECOND_JUDGE, widths=(32, 48, 64), kernel=5, seed=12),
)


def train_judge(recipe: JudgeRecipe, folder: Path, *, work: Path) -> dict[str, float]:
    """Writes a judge into `folder`, and returns its accuracy on 2,000 pictures of held-out words, per fact."""
    widths, kernel, seed, size, count = recipe.widths, recipe.kernel, recipe.seed, recipe.size, recipe.count
    torch.manual_seed(seed)
    network = _build(widths, kernel, size)
    scenes, pictures = render_set(count, seed=seed * 1000 + 7, size=size)
    answers = {name: torch.tensor([_index(name, scene) for scene in scenes]) for name in _ANSWERS}

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, count, (128,), generator=generator)
        told = network(disturb(rough(pictures[rows]), generator))
        return torch.stack([F.cross_entropy(logits, answers[name][rows]) for name, logits in told.items()]).sum()

    schedule = Schedule(steps=recipe.steps, lr=2e-3, cooldown=0.6)
    fit({"judge": network}, loss, schedule, folder=work, name=f"judge-{seed}", every=500)
    accuracy = _accuracy(Judge(network, size=size), seed=seed, size=size)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, folder / "judge.safetensors")
    shape = {
        "widths": list(widths),
        "kernel": kernel,
        "size": size,
        "seed": seed,
        "version": VERSION,
        "held_out_accuracy": accuracy,
    }
    (folder / "judge.json").write_text(json.dumps(shape, indent=1) + "\n", "utf-8")
    return accuracy


def _index(name: str, scene: Scene) -> int:
    value = (scene.place if scene.lettering else None) if name == "sign" else getattr(scene, name)
    return _ANSWERS[name].index(value)


def _accuracy(judge: Judge, *, seed: int, size: int, count: int = 2000) -> dict[str, float]:
    from reference.paint import paint
    from reference.world import held_out_words

    rng = random.Random(f"judge-test/{seed}")
    words = held_out_words()
    scenes = [
        sample_scene(rng, size=size, lettering=rng.choice(words) if rng.random() < 0.9 else "") for _ in range(count)
    ]
    right = [opinion.agrees(s) for opinion, s in zip(judge.look([paint(s, size) for s in scenes]), scenes, strict=True)]
    return {name: round(sum(r[name] for r in right) / count, 4) for name in _ANSWERS}
