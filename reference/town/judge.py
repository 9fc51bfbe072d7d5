"""The judges: they tell what a picture of the town shows, in every category at once.

They are small convolutional classifiers, trained on true pictures only, with noise and blur so that they do not depend
on exact pixels. There are two, of another seed and shape. The service asks the first one. The second one shows how far
the first can be trusted, and reports print how often they differ.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from reference.folders import JUDGES
from reference.loop import Schedule, fit
from reference.town.data import render_set
from reference.town.drawing.paint import paint
from reference.town.letters import held_out_words
from reference.town.network import Network, disturb, load_network, look_at, rough, seen
from reference.town.scenes import CATEGORIES, COLOURS, GROUNDS, PLACES, SPOTS, STYLES, SUBJECTS, Scene, sample_scene

__all__ = [
    "ANSWERS",
    "CONCEPTS",
    "JUDGE",
    "JUDGE_RECIPES",
    "SECOND_JUDGE",
    "Judge",
    "JudgeRecipe",
    "Sight",
    "held_out_scenes",
    "train_judge",
    "truth",
]

JUDGE = JUDGES / "first"
SECOND_JUDGE = JUDGES / "second"
VERSION = "1"
CONCEPTS = (*(f"{category}/{name}" for category, names in CATEGORIES.items() for name in names), "lettering")
# what is asked, and the answers; None: it has none
ANSWERS: Mapping[str, tuple[str | None, ...]] = MappingProxyType(
    {
        "subject": SUBJECTS,
        "colour": (None, *COLOURS),
        "ground": GROUNDS,
        "style": (None, *STYLES),
        "sign": (None, *SPOTS),
    }
)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a judge sees in one picture.

    Attributes:
        answers: the likeliest answer to each question of `ANSWERS`.
        scores: concept to probability, for each of `CONCEPTS`.
    """

    answers: Mapping[str, str | None]
    scores: Mapping[str, float]

    def agrees(self, scene: Scene) -> dict[str, bool]:
        """Whether it sees each fact of the scene correctly."""
        return {name: self.answers[name] == value for name, value in truth(scene).items()}


def truth(scene: Scene) -> dict[str, str | None]:
    """The right answer to each question."""
    return {
        "subject": scene.subject,
        "colour": scene.colour,
        "ground": scene.ground,
        "style": scene.style,
        "sign": scene.spot if scene.lines else None,
    }


class Judge:
    """A loaded judge; pictures of any size are looked at in the size it was trained on."""

    def __init__(self, network: Network, *, size: int) -> None:
        self.network, self.size = network.eval(), size

    @classmethod
    def load(cls, folder: Path = JUDGE) -> Judge:
        """The judge of a folder with `judge.json` and `judge.safetensors`."""
        network, size = load_network(folder, _build)
        return cls(network, size=size)

    @torch.inference_mode()
    def look(self, images: Sequence[Image.Image]) -> list[Sight]:
        """What the judge sees in each picture."""
        return [_sight(told) for told in look_at(self.network, images, self.size)]

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image]) -> Tensor:
        """The last layer before the answers, averaged over each quarter of the picture: [n, 4 x width].

        Not over the whole picture, as Inception's layer is for FID: a lost sign would hardly be noticed.
        """
        parts = [rough(seen(images[i : i + 256], self.size)) for i in range(0, len(images), 256)]
        told = [F.adaptive_avg_pool2d(self.network.body(x), 2).flatten(1) for x in parts]
        return torch.cat(told) if told else torch.zeros(0, 4 * self.network.width)

    def scores(self, images: Sequence[Image.Image]) -> list[dict[str, float]]:
        """Concept to probability, one mapping a picture: `animal/<x>`, `place/<x>`, ..., and `lettering`."""
        return [dict(sight.scores) for sight in self.look(images)]


def _sight(told: Mapping[str, Sequence[float]]) -> Sight:
    best = {name: ANSWERS[name][int(np.argmax(p))] for name, p in told.items()}
    known = {
        answer: p
        for name in ("subject", "ground", "style")
        for answer, p in zip(ANSWERS[name], told[name], strict=True)
    }
    scores = {concept: known[concept.partition("/")[2]] for concept in CONCEPTS[:-1]}
    return Sight(best, scores | {"lettering": 1 - told["sign"][0]})


def _build(widths: Sequence[int], kernel: int, size: int) -> Network:
    network = Network(widths, kernel, {name: len(answers) for name, answers in ANSWERS.items()})
    network(torch.zeros(1, 3, size, size))
    return network


@dataclass(frozen=True, slots=True)
class JudgeRecipe:
    """A judge's shape and training; each batch is shifted by up to `shift` pixels, wrapping at the edges."""

    folder: Path
    widths: tuple[int, ...]
    kernel: int
    seed: int
    steps: int = 1600
    shift: int = 0
    size: int = 64
    count: int = 20000


JUDGE_RECIPES = (
    JudgeRecipe(JUDGE, widths=(24, 48, 64, 96), kernel=3, seed=21),
    JudgeRecipe(SECOND_JUDGE, widths=(24, 48, 96), kernel=3, seed=22, steps=2400, shift=3),
)


def train_judge(recipe: JudgeRecipe, folder: Path, *, work: Path) -> dict[str, float]:
    """Writes a judge into `folder`, and returns its accuracy on 2,000 pictures of held-out words, per question."""
    torch.manual_seed(recipe.seed)
    network = _build(recipe.widths, recipe.kernel, recipe.size)
    scenes, pictures = render_set(recipe.count, seed=recipe.seed, size=recipe.size)
    right = [truth(scene) for scene in scenes]
    targets = {name: torch.tensor([ANSWERS[name].index(r[name]) for r in right]) for name in ANSWERS}

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, recipe.count, (128,), generator=generator)
        moved = (
            torch.randint(-recipe.shift, recipe.shift + 1, (2,), generator=generator).tolist()
            if recipe.shift
            else [0, 0]
        )
        told = network(disturb(rough(pictures[rows]).roll(moved, (2, 3)), generator))
        return torch.stack([F.cross_entropy(logits, targets[name][rows]) for name, logits in told.items()]).sum()

    schedule = Schedule(steps=recipe.steps, lr=2e-3, cooldown=0.6)
    fit({"judge": network}, loss, schedule, folder=work, name=f"judge-{recipe.seed}", every=400)
    accuracy = _accuracy(Judge(network, size=recipe.size), seed=recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in network.state_dict().items()}, folder / "judge.safetensors")
    shape = {
        "widths": list(recipe.widths),
        "kernel": recipe.kernel,
        "size": recipe.size,
        "seed": recipe.seed,
        "version": VERSION,
        "held_out_accuracy": accuracy,
    }
    (folder / "judge.json").write_text(json.dumps(shape, indent=1) + "\n", "utf-8")
    return accuracy


def held_out_scenes(count: int, *, seed: int, size: int = 64) -> list[Scene]:
    """Scenes that no training saw: nine in ten show held-out words, some on two lines."""
    rng = random.Random(f"town-test/{seed}")
    words = held_out_words()
    said = [rng.sample(words, 2 if rng.random() < 0.2 else 1) if rng.random() < 0.9 else [] for _ in range(count)]
    return [sample_scene(rng, size=size, lines=lines) for lines in said]


def _accuracy(judge: Judge, *, seed: int, count: int = 2000) -> dict[str, float]:
    scenes = held_out_scenes(count, seed=seed, size=judge.size)
    sights = judge.look([paint(s, judge.size) for s in scenes])
    agreed = [sight.agrees(scene) for sight, scene in zip(sights, scenes, strict=True)]
    rates = {name: round(sum(a[name] for a in agreed) / count, 4) for name in ANSWERS}
    places = [a["ground"] for a, s in zip(agreed, scenes, strict=True) if s.ground in PLACES]
    return rates | {"place": round(sum(places) / len(places), 4)}
