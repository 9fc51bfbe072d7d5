"""Trains a PixArt denoiser by flow matching, with a frozen text encoder and latents made once.

While it trains, the tokens in the middle of the network are also asked which letter and which subject they will show.
Spelling from pixels alone is learned very late (measured in a first trial: no held-out word after 2,300 steps); the
question gives each image token a reason to look up its letter in the text from the start. The heads that ask are
thrown away.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import PixArtTransformer2DModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from transformers import T5EncoderModel

from reference.batches import deal_captions
from reference.captions import sample_caption
from reference.loop import Schedule, fit
from reference.paint import letter_boxes
from reference.text_encoder import SUBJECTS, tokenize
from reference.world import ALPHABET, Scene

__all__ = ["Guide", "build_denoiser", "token_marks", "train_denoiser"]

_ASK_AT = 6  # blocks before the question


def build_denoiser(
    *, width: int = 128, layers: int = 12, latent_side: int = 16, text_width: int = 128
) -> PixArtTransformer2DModel:
    """A small PixArt transformer with untrained weights: 8 latent channels in and out, 2 x 2 latents a token."""
    return PixArtTransformer2DModel(
        num_attention_heads=width // 32,
        attention_head_dim=32,
        in_channels=8,
        out_channels=8,
        num_layers=layers,
        cross_attention_dim=width,
        sample_size=latent_side,
        patch_size=2,
        caption_channels=text_width,
        use_additional_conditions=False,
        attention_bias=True,
    )


def token_marks(scene: Scene, *, size: int, side: int) -> Tensor:
    """What each image token shows, [side * side, 3]: letters of its left and right half, subject; 0 is none."""
    marks = torch.zeros(side, side, 3, dtype=torch.long)
    pixels = size // side
    for letter, (left, top, right, bottom) in zip(scene.lettering, letter_boxes(scene, size), strict=True):
        rows = slice(top // pixels, -(-bottom // pixels))
        for half in range(left // (pixels // 2), right // (pixels // 2)):
            marks[rows, half // 2, half % 2] = ALPHABET.index(letter) + 1
    low = [max(0, int((v - scene.radius) * side)) for v in (scene.y, scene.x)]
    high = [min(side, int((v + scene.radius) * side) + 1) for v in (scene.y, scene.x)]
    marks[low[0] : high[0], low[1] : high[1], 2] = SUBJECTS.index(scene.subject) + 1
    return marks.view(-1, 3)


class Guide(nn.Module):
    """A denoiser with the questions asked in its middle."""

    def __init__(self, denoiser: PixArtTransformer2DModel) -> None:
        super().__init__()
        self.denoiser = denoiser
        width = denoiser.config.num_attention_heads * denoiser.config.attention_head_dim
        self.head_letters = nn.Linear(width, 2 * (len(ALPHABET) + 1))
        self.head_subject = nn.Linear(width, len(SUBJECTS) + 1)
        self._middle: list[Tensor] = []
        denoiser.transformer_blocks[_ASK_AT - 1].register_forward_hook(lambda _m, _a, out: self._middle.append(out))

    def forward(self, x: Tensor, time: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The velocity [b, 8, h, w] and the answers: letters [b, n, 2, 35], subject [b, n, 10]; `time` in [0, 1]."""
        self._middle.clear()
        conditions = {"resolution": None, "aspect_ratio": None}
        v = self.denoiser(x, text, time * 1000, conditions, encoder_attention_mask=mask, return_dict=False)[0]
        middle = self._middle.pop()
        return v, self.head_letters(middle).unflatten(-1, (2, -1)), self.head_subject(middle)


def train_denoiser(
    scenes: list[Scene],
    latents: Tensor,
    encoder: T5EncoderModel,
    schedule: Schedule,
    *,
    folder: Path,
    batch: int = 64,
    size: int = 64,
    seed: int = 1,
    compiled: bool = True,
    every: int = 250,
    on_checkpoint: Callable[[PixArtTransformer2DModel, int], None] | None = None,
) -> PixArtTransformer2DModel:
    """A trained denoiser.

    Args:
        latents: [n, 8, h, w] of the scenes' pictures, mean 0 and deviation 1 per channel.
        encoder: the frozen text encoder; captions are drawn afresh at every step.
    """
    side = latents.shape[-1] // 2
    denoiser = build_denoiser(latent_side=latents.shape[-1])
    guide = Guide(denoiser)
    _attend_by(denoiser, AttnProcessor())
    run = torch.compile(guide) if compiled else guide
    marks = torch.stack([token_marks(scene, size=size, side=side) for scene in scenes]).to(torch.int16)

    def caption(row: int, rng: random.Random) -> str:
        return sample_caption(scenes[row], rng)

    def loss(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        rows, captions = deal_captions(len(scenes), caption, step, batch=batch, seed=seed)
        ids, mask = tokenize(captions)
        ids, mask = (F.pad(t, (0, -t.shape[1] % 32)) for t in (ids, mask))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            text = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        z = latents[rows].float()
        time = torch.sigmoid(torch.randn(batch, generator=generator) * 1.1 + 0.5)
        noise = torch.randn(z.shape, generator=generator)
        at = time[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            v, letters, subject = run((1 - at) * z + at * noise, time, text, mask)
        target = marks[rows].long()
        # ink counts twice: it is a tenth of the picture, and all of the spelling
        inked = (target[..., :2] > 0).any(-1).view(batch, 1, side, side).repeat_interleave(2, 2).repeat_interleave(2, 3)
        flow = ((v.float() - (noise - z)).square() * (1 + inked)).mean()
        spelled = F.cross_entropy(letters.float().flatten(0, 2), target[..., :2].flatten(), reduction="none").view(
            batch, -1, 2
        )
        on = target[..., :2] > 0
        asked = (
            spelled[on].mean()
            + spelled[~on].mean()
            + F.cross_entropy(subject.float().flatten(0, 1), target[..., 2].flatten())
        )
        if (step + 1) % 50 == 0:
            right = (letters.argmax(-1) == target[..., :2])[on].float().mean().item()
            print(f"  flow {flow.item():.4f} letters known {right:.3f} asked {asked.item():.3f}", flush=True)
        return flow + 0.15 * asked

    def checkpoint(step: int) -> None:
        if on_checkpoint is not None:
            on_checkpoint(denoiser.eval(), step)
            denoiser.train()

    fit({"guide": guide}, loss, schedule, folder=folder, name="denoiser", every=every, on_checkpoint=checkpoint)
    denoiser.transformer_blocks[_ASK_AT - 1]._forward_hooks.clear()
    _attend_by(denoiser, AttnProcessor2_0())
    return denoiser.eval()


def _attend_by(denoiser: PixArtTransformer2DModel, processor: AttnProcessor | AttnProcessor2_0) -> None:
    """Chooses how attention is computed: on a CPU the fused kernel's backward pass is more than half of a step."""
    for block in denoiser.transformer_blocks:
        block.attn1.set_processor(processor)
        block.attn2.set_processor(processor)
