"""The text encoders that all models share, and what each gives a denoiser, computed exactly as the pipelines do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reference.recipes.shapes import TextShape
from reference.recipes.tokens import byte_ids, clip_ids, clip_tokenizer
from reference.town.captions import CAPTION_BYTES

__all__ = ["Texts", "bare_clip", "build_bytes", "build_clip", "build_texts"]


@dataclass(frozen=True, slots=True)
class Texts:
    """Frozen text encoders; each method takes captions and computes on the encoders' device."""

    bytes_: Any
    letters: Any
    gist: Any
    gist_2: Any
    shape: TextShape

    def to(self, device: str) -> Texts:
        """The same encoders, moved to `device` in place."""
        for encoder in (self.bytes_, self.letters, self.gist, self.gist_2):
            encoder.to(device)
        return self

    def masked_bytes(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States [b, l, d] and mask of lower-cased captions, as the PixArt pipeline asks its T5."""
        ids, mask = byte_ids([c.lower().strip() for c in captions])
        extra = -ids.shape[1] % 32  # few lengths, so that a compiled denoiser has few graphs
        ids, mask = (torch.nn.functional.pad(t, (0, extra)).to(self.bytes_.device) for t in (ids, mask))
        return self.bytes_(input_ids=ids, attention_mask=mask).last_hidden_state, mask

    def early_bytes(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States [b, l, d] before the last layer, and mask, of captions as they are, as Z-Image asks its encoder."""
        ids, mask = (t.to(self.bytes_.device) for t in byte_ids(captions))
        return self.bytes_(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-2], mask

    def padded_bytes(self, captions: Sequence[str]) -> Tensor:
        """States [b, 160, d] without a mask, as the SD3 and FLUX pipelines ask their T5."""
        ids = byte_ids(captions, length=CAPTION_BYTES)[0].to(self.bytes_.device)
        return self.bytes_(input_ids=ids).last_hidden_state

    def clip(self, encoder: Any, captions: Sequence[str], *, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """States before the last layer [b, length, d], projected pooled text [b, d], pooled text as it is [b, d]."""
        ids = clip_ids(captions, length=length).to(encoder.device)
        told = encoder(ids, output_hidden_states=True)
        return told.hidden_states[-2], told.text_embeds, _at_end(told.last_hidden_state, ids)


def _at_end(states: Tensor, ids: Tensor) -> Tensor:
    """The states of each text's first end token: what a CLIP text model without projection calls pooled."""
    end = (ids == ids.max()).int().argmax(-1)
    return states[torch.arange(len(ids), device=ids.device), end]


def build_bytes(width: int, layers: int) -> Any:
    """A small T5 encoder with untrained weights over the bytes of `ByT5Tokenizer`."""
    from transformers import T5Config, T5EncoderModel

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


def build_clip(width: int, layers: int, *, tokens: int) -> Any:
    """A small CLIP text encoder with untrained weights over letters, pooled text projected to its own width."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    size = len(clip_tokenizer(tokens))
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=size,
            bos_token_id=size - 2,
            eos_token_id=size - 1,  # where the pooled text is read
            pad_token_id=size - 1,
            hidden_size=width,
            intermediate_size=4 * width,
            num_attention_heads=max(1, width // 32),
            num_hidden_layers=layers,
            max_position_embeddings=tokens,
            projection_dim=width,
            initializer_factor=2.0,
        )
    )


def bare_clip(encoder: Any) -> Any:
    """A copy of the encoder without its projection, as SDXL's first and FLUX's are."""
    from transformers import CLIPTextModel

    bare = CLIPTextModel(encoder.config)
    known = bare.state_dict().keys()  # whether names begin with `text_model.` changed between versions
    weights = {n if n in known else n.removeprefix("text_model."): v for n, v in encoder.state_dict().items()}
    bare.load_state_dict({n: v for n, v in weights.items() if n in known})
    return bare.eval()


def build_texts(shape: TextShape) -> Texts:
    """The four encoders with untrained weights."""
    return Texts(
        bytes_=build_bytes(*shape.bytes_),
        letters=build_clip(*shape.letters, tokens=shape.clip_tokens),
        gist=build_clip(*shape.gist, tokens=shape.clip_tokens),
        gist_2=build_clip(*shape.gist, tokens=shape.clip_tokens),
        shape=shape,
    )
