"""Teaches the shared text encoders to read captions, before any denoiser uses them.

A denoiser that must learn to spell and to read at once learns neither. Every encoder is therefore first trained on what
its readers will need. The byte encoder predicts, for every byte, which letter of the sign it is and in which column and
row of the picture it will stand, and the facts through learned queries. A CLIP encoder predicts the facts from its
pooled text. It cannot look ahead, so the last sixteen tokens, which pad the text, predict the letters in turn and where
each stands. The heads are discarded afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.loop import fit
from reference.recipes.marks import FACTS, HALF_STEP, caption_facts, caption_letters
from reference.recipes.shapes import LETTERS, SharedRecipe
from reference.recipes.texts import Texts, build_texts
from reference.recipes.tokens import byte_ids
from reference.town.captions import CAPTION_BYTES, Caption, sample_caption
from reference.town.letters import ALPHABET
from reference.town.scenes import Scene, sample_scene

__all__ = ["Batch", "Quiz", "caption_batch", "graded", "normalise_bytes", "teach_texts"]

Batch = tuple[list[Scene], list[Caption]]


class Quiz(nn.Module):
    """Heads that predict the caption's facts and letters from states: which letter, in which column and row."""

    def __init__(self, width: int, size: int, *, pooled: bool) -> None:
        super().__init__()
        places = size // HALF_STEP + 1
        self.query = None if pooled else nn.Parameter(torch.randn(len(FACTS), width) * 0.5)
        self.attention = None if pooled else nn.MultiheadAttention(width, 4, batch_first=True)
        self.head_facts = nn.ModuleList(nn.Linear(width, n) for n in FACTS.values())
        self.head_letters = nn.ModuleList(nn.Linear(width, n) for n in (len(ALPHABET) + 1, places, places))

    def facts(self, states: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Logits of each fact, from pooled text [b, d] or from all states [b, l, d]."""
        if self.query is None or self.attention is None:
            return [head(states) for head in self.head_facts]
        hidden = None if mask is None else mask == 0
        asked = self.query.expand(len(states), -1, -1)
        told = self.attention(asked, states, states, key_padding_mask=hidden, need_weights=False)[0]
        return [head(told[:, i]) for i, head in enumerate(self.head_facts)]

    def letters(self, states: Tensor) -> list[Tensor]:
        """Logits of letter, column and row of each state; 0 is none."""
        return [head(states) for head in self.head_letters]


def teach_texts(recipe: SharedRecipe, *, folder: Path, device: str = "cpu", every: int = 200) -> Texts:
    """The shared text encoders, trained and frozen, on the device; resumes from `folder`."""
    torch.manual_seed(recipe.seed)
    texts = build_texts(recipe.shape)
    size = recipe.px
    plans: tuple[tuple[str, Any, Any, Callable[[Any, Quiz, Batch], tuple[Tensor, Tensor]]], ...] = (
        ("bytes", texts.bytes_, recipe.text, lambda e, q, b: _bytes_loss(e, q, b, size)),
        ("letters", texts.letters, recipe.text, lambda e, q, b: _clip_loss(e, q, b, texts, size, spelled=True)),
        ("gist", texts.gist, recipe.gist, lambda e, q, b: _clip_loss(e, q, b, texts, size, spelled=False)),
        ("gist_2", texts.gist_2, recipe.gist, lambda e, q, b: _clip_loss(e, q, b, texts, size, spelled=False)),
    )
    for name, encoder, schedule, ask in plans:
        width = encoder.config.d_model if name == "bytes" else encoder.config.hidden_size
        encoder.to(device).train()
        quiz = Quiz(width, size, pooled=name != "bytes").to(device)

        def loss(step: int, e: Any = encoder, q: Quiz = quiz, a: Any = ask, n: str = name) -> Tensor:
            value, right = a(e, q, caption_batch(random.Random(f"{recipe.seed}/{n}/{step}"), recipe.text_batch, size))
            if (step + 1) % 100 == 0:
                print("  right: " + " ".join(f"{v:.3f}" for v in right.tolist()), flush=True)
            return value

        fit({"encoder": encoder, "quiz": quiz}, loss, schedule, folder=folder, name=f"text-{name}", every=every)
        encoder.eval().requires_grad_(False)
    normalise_bytes(texts, size)
    return texts


def caption_batch(rng: random.Random, count: int, size: int) -> Batch:
    """Scenes and a caption of each, lower-cased in half of the batches."""
    scenes = [sample_scene(rng, size=size) for _ in range(count)]
    captions = [sample_caption(scene, rng) for scene in scenes]
    if rng.random() < 0.5:  # some pipelines lower-case a prompt, others do not
        captions = [Caption(c.text.lower(), c.lettering, c.vague) for c in captions]
    return scenes, captions


def _bytes_loss(encoder: Any, quiz: Quiz, batch: Batch, size: int) -> tuple[Tensor, Tensor]:
    """Loss, and shares of right answers; half of the batches are padded and unmasked, as some pipelines ask."""
    scenes, captions = batch
    bare = len(captions[0].text) % 2 == 0
    ids, mask = byte_ids([c.text for c in captions], length=CAPTION_BYTES if bare else None)
    ids, mask = ids.to(encoder.device), mask.to(encoder.device)
    with torch.autocast(encoder.device.type, torch.bfloat16):
        states = encoder(input_ids=ids, attention_mask=None if bare else mask).last_hidden_state.float()
    answers = torch.zeros(*ids.shape, 3, dtype=torch.long)
    for row, (scene, caption) in enumerate(zip(scenes, captions, strict=True)):
        for at, letter, column, line in caption_letters(scene, caption, size):
            answers[row, at] = torch.tensor([letter, column, line]) + 1
    facts = quiz.facts(states, None if bare else mask)
    return graded(facts, quiz.letters(states), scenes, captions, answers.to(ids.device), mask > 0)


def _clip_loss(
    encoder: Any, quiz: Quiz, batch: Batch, texts: Texts, size: int, *, spelled: bool
) -> tuple[Tensor, Tensor]:
    """Loss, and shares of right answers; texts are cut short half of the time unless they are to be spelled."""
    scenes, captions = batch
    shape = texts.shape
    length = shape.clip_tokens if spelled or len(captions[0].text) % 2 else shape.pooled_tokens
    with torch.autocast(encoder.device.type, torch.bfloat16):
        states, projected, pooled = texts.clip(encoder, [c.text for c in captions], length=length)
    answers = torch.zeros(len(scenes), LETTERS, 3, dtype=torch.long)
    for row, (scene, caption) in enumerate(zip(scenes, captions, strict=True)):
        for k, (_, letter, column, line) in enumerate(caption_letters(scene, caption, size)):
            answers[row, k] = torch.tensor([letter, column, line]) + 1
    last = states[:, -LETTERS:].float()
    told = quiz.letters(last) if spelled else []
    everywhere = torch.ones(last.shape[:2], dtype=torch.bool, device=last.device)
    parts = [
        graded(quiz.facts(p.float()), told, scenes, captions, answers.to(last.device), everywhere)
        for p in (projected, pooled)
    ]
    return (parts[0][0] + parts[1][0]) / 2, parts[0][1]


def graded(
    facts: list[Tensor],
    letters: list[Tensor],
    scenes: list[Scene],
    captions: list[Caption],
    answers: Tensor,
    where: Tensor,
) -> tuple[Tensor, Tensor]:
    """The mean of all questions' losses, and the share of right answers to each."""
    right = torch.tensor([caption_facts(s, c) for s, c in zip(scenes, captions, strict=True)]).to(answers.device)
    losses = [F.cross_entropy(told, right[:, i]) for i, told in enumerate(facts)]
    grades = [(told.argmax(-1) == right[:, i]).float().mean() for i, told in enumerate(facts)]
    on, off = answers[..., 0] > 0, (answers[..., 0] == 0) & where
    for i, told in enumerate(letters):
        each = F.cross_entropy(told.flatten(0, 1), answers[..., i].flatten(), reduction="none").view(on.shape)
        # letters are few among all tokens, so they are averaged apart; a batch may have none
        losses += [(each * part).sum() / part.sum().clamp(min=1) for part in (on, off)]
        grades.append((told.argmax(-1) == answers[..., i])[on].float().mean())
    return torch.stack(losses).mean(), torch.stack(grades)


@torch.no_grad()
def normalise_bytes(texts: Texts, size: int = 64) -> None:
    """Scales the byte encoder's last normalisation, in place, so that its states have a deviation of 1."""
    _, captions = caption_batch(random.Random("normalise"), 256, size)
    states, mask = texts.masked_bytes([c.text for c in captions])
    texts.bytes_.encoder.final_layer_norm.weight.div_(states[mask > 0].std())
