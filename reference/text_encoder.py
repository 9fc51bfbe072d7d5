"""Trains the text encoder on captions alone: a byte-level T5 encoder that can tell every fact of a caption.

A denoiser that has to learn to spell and to read at once learns neither (measured in a first trial). So the encoder
is taught to read first: at every byte it says which letter of the sign this is and where on the sign that letter will
stand, and through a few learned queries it says what the subject, the colours, the style and the sign are. The heads
are thrown away; the encoder is frozen in all that follows.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

from reference.captions import sample_caption
from reference.loop import Schedule, fit
from reference.world import ALPHABET, CHARACTERS, COLOURS, SHAPES, STYLES, Scene, sample_scene

__all__ = ["Reader", "build_text_encoder", "facts", "letter_marks", "normalise_text", "tokenize", "train_text_encoder"]

SUBJECTS = SHAPES + CHARACTERS
NAMES = tuple(COLOURS)
# what the queries tell, and how many answers each has; 0 means that the caption has none
FACTS = {
    "subject": len(SUBJECTS),
    "colour": len(NAMES) + 1,
    "background": len(NAMES),
    "style": len(STYLES) + 1,
    "sign": 7,
    "place": 3,
    "font": 3,
}
_SLOTS = 11  # a letter's place on the sign in half cells from its centre: -5 ... 5 for six letters


def build_text_encoder(width: int = 128, layers: int = 4) -> T5EncoderModel:
    """A small T5 encoder with untrained weights over the bytes of `ByT5Tokenizer`."""
    return T5EncoderModel(
        T5Config(
            vocab_size=384,
            d_model=width,
            d_kv=32,
            d_ff=2 * width,
            num_layers=layers,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            relative_attention_num_buckets=64,  # exact distances for letters counted from a quote
            relative_attention_max_distance=160,
            is_encoder_decoder=False,
            use_cache=False,
            tie_word_embeddings=False,
        )
    )


def tokenize(captions: list[str], *, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Token ids and mask [b, l] as the pipeline makes them: lower case, padded to `length` or to the longest."""
    pad = "longest" if length is None else "max_length"
    batch = ByT5Tokenizer()(
        [c.lower().strip() for c in captions],
        padding=pad,
        max_length=length,
        truncation=length is not None,
        return_tensors="pt",
    )
    return batch.input_ids, batch.attention_mask


def facts(scene: Scene) -> list[int]:
    """The scene's answers, one for each of `FACTS`."""
    signed = bool(scene.lettering)
    return [
        SUBJECTS.index(scene.subject),
        0 if scene.colour is None else NAMES.index(scene.colour) + 1,
        NAMES.index(scene.background),
        0 if scene.style is None else STYLES.index(scene.style) + 1,
        len(scene.lettering),
        (1 + (scene.place == "top")) * signed,
        (1 + (scene.font == "serif")) * signed,
    ]


def letter_marks(caption: str, scene: Scene) -> list[tuple[int, int, int]]:
    """(byte position, letter index, place on the sign 0..10) of every letter of the lettering in the caption."""
    if not scene.lettering:
        return []
    # the lettering may also stand inside another word (`A` in `star`): the grammar knows which one is meant
    start = _find(caption.lower(), scene.lettering.lower())
    n = len(scene.lettering)
    return [(start + k, ALPHABET.index(c), 5 + 2 * k - (n - 1)) for k, c in enumerate(scene.lettering)]


def _find(caption: str, word: str) -> int:
    for lead in ("says ", "saying ", "reading ", "reads ", "the word ", "labelled "):
        if (at := caption.find(lead)) >= 0:
            at += len(lead)
            at += 1 if caption[at] in "\"'“" else 0
            assert caption.startswith(word, at), f"`{word}` not at {at} in `{caption}`"
            return len(caption[:at].encode())
    raise AssertionError(f"no lettering in `{caption}`")


class Reader(nn.Module):
    """The heads that make the encoder's output tell the caption's facts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(len(FACTS), width) * 0.5)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.head_facts = nn.ModuleList(nn.Linear(width, n) for n in FACTS.values())
        self.head_letter = nn.Linear(width, len(ALPHABET) + 1)
        self.head_slot = nn.Linear(width, _SLOTS + 1)

    def forward(self, hidden: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Logits of each fact [b, n], of each byte's letter [b, l, 35] and of its slot [b, l, 12]; 0 is none."""
        told = self.attention(
            self.query.expand(len(hidden), -1, -1), hidden, hidden, key_padding_mask=mask == 0, need_weights=False
        )[0]
        return (
            [head(told[:, i]) for i, head in enumerate(self.head_facts)],
            self.head_letter(hidden),
            self.head_slot(hidden),
        )


def _batch(rng: random.Random, count: int, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    scenes = [sample_scene(rng, size=size) for _ in range(count)]
    captions = [sample_caption(scene, rng) for scene in scenes]
    ids, mask = tokenize(captions)
    letters, slots = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (caption, scene) in enumerate(zip(captions, scenes, strict=True)):
        for at, letter, slot in letter_marks(caption, scene):
            letters[row, at], slots[row, at] = letter + 1, slot + 1
    return ids, mask, torch.tensor([facts(s) for s in scenes]), letters, slots


def train_text_encoder(
    schedule: Schedule, *, folder: Path, batch: int = 64, size: int = 64, seed: int = 1
) -> T5EncoderModel:
    """A frozen, trained text encoder; the accuracy on fresh captions is printed and stands in `text_encoder.json`."""
    encoder = build_text_encoder()
    reader = Reader(encoder.config.d_model)

    def losses(ids: Tensor, mask: Tensor, answers: Tensor, letters: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        told, letter, slot = reader(hidden.float(), mask)
        # bytes of the lettering are few among all bytes, so they are averaged apart
        on, off = letters > 0, (letters == 0) & (mask > 0)
        parts = [F.cross_entropy(t, answers[:, i]) for i, t in enumerate(told)]
        for logits, target in ((letter, letters), (slot, slots)):
            each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
            parts += [each[on].mean(), each[off].mean()]
        right = torch.stack(
            [(t.argmax(-1) == answers[:, i]).float().mean() for i, t in enumerate(told)]
            + [(letter.argmax(-1) == letters)[on].float().mean(), (slot.argmax(-1) == slots)[on].float().mean()]
        )
        return torch.stack(parts).mean(), right

    def loss(step: int) -> Tensor:
        value, right = losses(*_batch(random.Random(f"{seed}/{step}"), batch, size))
        if (step + 1) % 100 == 0:
            print(
                "  "
                + " ".join(
                    f"{name} {v:.3f}" for name, v in zip((*FACTS, "letter", "slot"), right.tolist(), strict=True)
                ),
                flush=True,
            )
        return value

    fit({"encoder": encoder, "reader": reader}, loss, schedule, folder=folder, name="text_encoder")
    return encoder.eval().requires_grad_(False)


@torch.no_grad()
def normalise_text(encoder: T5EncoderModel) -> None:
    """Scales the encoder's last normalisation, in place, so that its output has a deviation of 1 over captions."""
    rng = random.Random("normalise")
    ids, mask = tokenize([sample_caption(sample_scene(rng), rng) for _ in range(256)])
    hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    encoder.encoder.final_layer_norm.weight.div_(hidden[mask > 0].std())
