"""The verifier of one creature: a network that tells it from other creatures and from what else the town shows.

It is trained for that creature when a table is made, in about a minute, on true pictures only. No generated picture is
shown to it before it judges. Three in four of the other creatures that it learns from are sisters of its own, so its
features tell near creatures from far ones: the identity score is their cosine. Grounds and styles are paired as
`is_for_evaluation` leaves them, so that its accuracy can be stated on pictures of other pairs and of held-out words.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from reference.loop import Schedule, fit
from reference.town.drawing.paint import paint
from reference.town.drawing.unseen import Creature
from reference.town.letters import held_out_words
from reference.town.network import Network, disturb, rough, seen
from reference.town.prompts import is_for_evaluation
from reference.town.scenes import ANIMALS, Scene, sample_scene

__all__ = ["KINDS", "Example", "Kind", "Verifier", "VerifierRecipe", "examples", "held_out_accuracy", "train_verifier"]

Kind = Literal["subject", "sister", "creature", "town"]
KINDS: tuple[Kind, ...] = ("subject", "sister", "creature", "town")
_FEATURES = 64
_SHIFT = 4  # pixels: each batch is moved by up to as many, wrapping at the edges
# kinds in turn: those that are hard to tell come thrice as often
_ORDER: tuple[Kind, ...] = ("subject", "sister") * 3 + ("creature", "town")


@dataclass(frozen=True, slots=True)
class Example:
    """A true picture's content: the kind of its subject, and the creature that is drawn, if one is."""

    kind: Kind
    scene: Scene
    creature: Creature | None

    def paint(self, size: int) -> Image.Image:
        """The picture."""
        return paint(self.scene, size, drawing=self.creature.draw if self.creature else None)


@dataclass(frozen=True, slots=True)
class VerifierRecipe:
    """A verifier's shape and training."""

    widths: tuple[int, ...] = (24, 48, 64, 96)
    steps: int = 800
    count: int = 6000
    size: int = 64
    seed: int = 0


class Verifier:
    """A trained verifier; pictures of any size are looked at in the size it was trained on."""

    def __init__(self, creature: Creature, recipe: VerifierRecipe) -> None:
        self.creature, self.recipe = creature, recipe
        self.network = Network(recipe.widths, 3, {"features": _FEATURES})
        self.network(torch.zeros(1, 3, recipe.size, recipe.size))
        self.head = nn.Linear(_FEATURES, len(KINDS))

    def embed(self, x: Tensor) -> Tensor:
        """[b, 3, h, w] in [-1, 1] to features [b, 64] of length one."""
        return F.normalize(self.network(x)["features"], dim=-1)

    def tell(self, features: Tensor) -> Tensor:
        """The logits [b, 4] of `KINDS`."""
        told: Tensor = self.head(features * _FEATURES**0.5)
        return told

    @torch.inference_mode()
    def features(self, images: Sequence[Image.Image]) -> Tensor:
        """Features [n, 64] of length one: the cosine of two pictures is the product of theirs."""
        if not images:
            return torch.zeros(0, _FEATURES)
        return torch.cat(
            [self.embed(rough(seen(images[i : i + 256], self.recipe.size))) for i in range(0, len(images), 256)]
        )

    @torch.inference_mode()
    def kinds(self, images: Sequence[Image.Image]) -> list[Kind]:
        """What each picture shows: `subject` is the verifier's own creature."""
        return [KINDS[k] for k in self.tell(self.features(images)).argmax(-1).tolist()]


def examples(creature: Creature, count: int, *, seed: int, held_out: bool = False) -> list[Example]:
    """The contents of `count` true pictures of every kind.

    Those that are `held_out` share no pair of ground and style, and no word, with those that are not.
    """
    rng = random.Random(f"verifier/{seed}/{held_out}")
    words, sisters, made = held_out_words(), creature.sisters(), list[Example]()
    while len(made) < count:
        kind = _ORDER[len(made) % len(_ORDER)]
        lines = [rng.choice(words)] if held_out and rng.random() < 0.75 else () if held_out else None
        scene = sample_scene(rng, lines=lines, subject=None if kind == "town" else rng.choice(ANIMALS))
        other = Creature.of(rng.getrandbits(32))
        drawn = {"subject": creature, "sister": rng.choice(sisters), "creature": other}.get(kind)
        if is_for_evaluation(scene.ground, scene.style) == held_out and not (kind == "creature" and drawn == creature):
            made.append(Example(kind, scene, drawn))
    return made


def train_verifier(
    creature: Creature, recipe: VerifierRecipe = VerifierRecipe(), *, work: Path, log: Callable[[str], None] = print
) -> Verifier:
    """The verifier of a creature; `work` keeps its weights, by creature, drawing and recipe, for the next call."""
    torch.manual_seed(recipe.seed)
    verifier = Verifier(creature, recipe)

    @cache
    def data() -> tuple[Tensor, Tensor]:
        drawn = examples(creature, recipe.count, seed=recipe.seed)
        pictures = torch.from_numpy(np.stack([np.asarray(e.paint(recipe.size)) for e in drawn]))
        return pictures, torch.tensor([KINDS.index(e.kind) for e in drawn])

    def loss(step: int) -> Tensor:
        pictures, kinds = data()
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(0, len(pictures), (64,), generator=generator)
        moved = torch.randint(-_SHIFT, _SHIFT + 1, (2,), generator=generator).tolist()
        told = verifier.tell(verifier.embed(disturb(rough(pictures[rows]).roll(moved, (2, 3)), generator)))
        return F.cross_entropy(told, kinds[rows])

    portrait = examples(creature, 1, seed=0)[0].paint(recipe.size).tobytes()
    name = hashlib.sha256(repr((creature, recipe)).encode() + portrait).hexdigest()[:16]
    modules = {"network": verifier.network, "head": verifier.head}
    schedule = Schedule(steps=recipe.steps, lr=3e-3, cooldown=0.6)
    fit(modules, loss, schedule, folder=work, name=f"verifier-{name}", every=recipe.steps, log=log)
    return verifier


def held_out_accuracy(verifier: Verifier, *, count: int = 1000, seed: int = 1) -> dict[str, float]:
    """Of each kind of held-out pictures the share for which the verifier says rightly whether it is its creature."""
    drawn = examples(verifier.creature, count, seed=seed, held_out=True)
    told = verifier.kinds([e.paint(verifier.recipe.size) for e in drawn])
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for example, kind in zip(drawn, told, strict=True):
        right[example.kind].append((kind == "subject") == (example.kind == "subject"))
    return {kind: sum(values) / len(values) for kind, values in right.items()}
