"""The training loop of all denoisers: flow matching, with frozen text encoders and latents made once.

During training, tokens in the middle of the network must also predict which letter and which subject they will show.
Spelling from pixels alone is learned very late. The extra question gives each image token a reason to look up its
letter in the text from the start. The heads that ask are discarded afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.batches import deal_captions
from reference.loop import fit
from reference.recipes.attention import plain_attention
from reference.recipes.family import Conditions, RecipeFamily
from reference.recipes.marks import token_marks
from reference.recipes.shapes import Recipe
from reference.town.captions import sample_caption
from reference.town.letters import ALPHABET
from reference.town.scenes import SUBJECTS, Scene

__all__ = ["Guide", "Pictures", "guided_target", "train_denoiser"]

_TOKEN = 8  # pixels of an image token's side
_ASK = 0.15  # weight of the questions beside the flow
_SUBJECT = 2.0  # what the subject's tokens weigh beyond the others
_GUIDED = 0.5  # share of the rows that learn what embedded guidance does, once the flow is known
_GUIDED_FROM = 0.6  # of the run


@dataclass(frozen=True, slots=True)
class Pictures:
    """The training set: scenes, and the latents [n, c, h, w] of their pictures."""

    scenes: Sequence[Scene]
    latents: Tensor

    def rows(self, rows: Sequence[int]) -> Pictures:
        """These rows, in this order, with repeats."""
        return Pictures([self.scenes[i] for i in rows], self.latents[torch.tensor(rows)])


class Guide(nn.Module):
    """A denoiser with the extra prediction heads in its middle."""

    def __init__(self, denoiser: Any, family: RecipeFamily, width: int, *, picture: int) -> None:
        """`picture` is the number of the picture's tokens, which in a single sequence stand beside the text's."""
        super().__init__()
        self.picture = picture
        self.denoiser = denoiser
        self.family = family
        self.head_letters = nn.Linear(width, 2 * (len(ALPHABET) + 1))
        self.head_subject = nn.Linear(width, len(SUBJECTS) + 1)
        self._middle: list[Any] = []
        self.hook = family.middle(denoiser).register_forward_hook(lambda _m, _a, out: self._middle.append(out))

    def forward(
        self, x: Tensor, time: Tensor, given: Conditions, guidance: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The velocity [b, 8, h, w] and the answers: letters [b, n, 2, 35], subject [b, n, 27]; `time` in [0, 1]."""
        self._middle.clear()
        v = self.family.velocity(self.denoiser, x, time, given, guidance)
        middle = self.family.tokens(self._middle.pop())
        middle = middle[:, -self.picture :] if self.family.text_first else middle[:, : self.picture]
        return v, self.head_letters(middle).unflatten(-1, (2, -1)), self.head_subject(middle)


def guided_target(v: Tensor, told: Tensor, empty: Tensor, guidance: Tensor) -> Tensor:
    """The velocity that embedded guidance stands for: `v` moved along what the caption changes, g - 1 times.

    `told` and `empty` are the model's own velocities with the caption and without (Tang et al., 2025, "Diffusion
    models without classifier-free guidance"); rows with guidance 1 keep the plain target.
    """
    return v + (guidance - 1)[:, None, None, None] * (told - empty)


def train_denoiser(
    recipe: Recipe,
    family: RecipeFamily,
    pictures: Pictures,
    texts: Any,
    *,
    folder: Path,
    device: str = "cpu",
    compiled: bool = False,
    every: int = 250,
    start: Mapping[str, Tensor] | None = None,
    stage: int = 1,
) -> Any:
    """A trained denoiser, on the device; resumes from `folder`.

    Args:
        texts: frozen, on the device; captions are drawn afresh at every step.
        start: weights of a finished denoiser, which is trained on and learns embedded guidance from its first step.
        stage: the later stage that this is, from 1; the run of each has a name of its own.
    """
    torch.manual_seed(recipe.seed)
    side = pictures.latents.shape[-1]
    denoiser = family.build(recipe.shape, recipe.shared.shape, side)
    if start is not None:
        denoiser.load_state_dict(start)
    denoiser.to(device).train()
    guided_from = _GUIDED_FROM * recipe.denoiser.steps if start is None else 0
    tokens = recipe.shared.px // _TOKEN
    guide = Guide(denoiser, family, recipe.shape.width, picture=tokens**2).to(device)
    run = torch.compile(guide) if compiled else guide
    attention = plain_attention if device == "cpu" else nullcontext
    marks = torch.stack([token_marks(s, size=recipe.shared.px, side=tokens) for s in pictures.scenes]).to(torch.int16)

    with torch.no_grad():
        empty = family.read(texts, [""])

    def caption(row: int, rng: random.Random) -> str:
        return sample_caption(pictures.scenes[row], rng).text

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows, captions = deal_captions(len(pictures.scenes), caption, step, batch=recipe.batch, seed=recipe.seed)
        z = pictures.latents[rows].float().to(device)
        time = torch.sigmoid(torch.randn(recipe.batch, generator=generator) * 1.1 + 0.5).to(device)
        noise = torch.randn(z.shape, generator=generator).to(device)
        at = time[:, None, None, None]
        x, flow = (1 - at) * z + at * noise, noise - z
        with torch.autocast(device, torch.bfloat16):
            with torch.no_grad():
                given = family.read(texts, captions)
            guidance = None
            with attention():
                if family.guided:
                    guidance = _strengths(recipe.batch, step, guided_from).to(device)
                    flow = _guided(run, x, time, given, empty, flow, guidance)
                v, letters, subject = run(x, time, given, guidance)
        target = marks[rows].long().to(device)
        return _flow_loss(v.float(), flow, target) + _ASK * _asked(letters, subject, target, step)

    name = "denoiser" if start is None else "onward" if stage == 1 else f"onward-{stage}"
    fit({"guide": guide}, loss, recipe.denoiser, folder=folder, name=f"{recipe.name}-{name}", every=every)
    guide.hook.remove()
    return denoiser.eval()


def _flow_loss(v: Tensor, flow: Tensor, marks: Tensor) -> Tensor:
    """The squared error, where ink counts twice and the subject three times.

    Ink is a tenth of the picture and all of the spelling; the subject is a fifth, and its outline, which varies most,
    is learned last.
    """
    side = round(marks.shape[1] ** 0.5)
    scale = v.shape[-1] // side
    weight = 1.0 + (marks[..., :2] > 0).any(-1) + _SUBJECT * (marks[..., 2] > 0)
    weight = weight.view(len(v), 1, side, side).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return ((v - flow).square() * weight).mean()


def _asked(letters: Tensor, subject: Tensor, target: Tensor, step: int) -> Tensor:
    """The loss of the questions; letters are few among all tokens, so they are averaged apart."""
    right = target[..., :2]
    each = F.cross_entropy(letters.float().flatten(0, 2), right.flatten(), reduction="none").view(right.shape)
    on = right > 0
    if (step + 1) % 50 == 0 and on.any():
        print(f"  letters known {(letters.argmax(-1) == right)[on].float().mean().item():.3f}", flush=True)
    spelled = (each * on).sum() / on.sum().clamp(min=1) + (each * ~on).sum() / (~on).sum().clamp(min=1)
    return spelled + F.cross_entropy(subject.float().flatten(0, 1), target[..., 2].flatten())


def _strengths(batch: int, step: int, known: float) -> Tensor:
    """Guidance of each row: 1 until step `known`, when the flow is known, then for a share of the rows up to 5."""
    generator = torch.Generator().manual_seed(step + 1_000_000)
    drawn = torch.ones(batch)
    if step >= known:
        chosen = torch.randperm(batch, generator=generator)[: round(_GUIDED * batch)]
        drawn[chosen] += 4 * torch.rand(len(chosen), generator=generator)
    return drawn


@torch.no_grad()
def _guided(
    run: Any, x: Tensor, time: Tensor, given: Conditions, empty: Conditions, flow: Tensor, guidance: Tensor
) -> Tensor:
    """The flow that each row's guidance asks for, by the model's own answers at strength 1; `empty` is one row."""
    rows = (guidance > 1).nonzero()[:, 0]
    if not len(rows):
        return flow
    plain, at = torch.ones(len(rows), device=x.device), (x[rows], time[rows])
    told = run(*at, {name: t[rows] for name, t in given.items()}, plain)[0].float()
    bare = run(*at, {name: t.expand(len(rows), *t.shape[1:]) for name, t in empty.items()}, plain)[0].float()
    return flow.index_copy(0, rows, guided_target(flow[rows], told, bare, guidance[rows]))
