"""`signpost-sd3`: joint attention; two CLIP encoders give pooled text and tokens, a byte-level T5 the spelling."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from reference.recipes.family import LATENT_CHANNELS, Conditions, RecipeFamily
from reference.recipes.shapes import ModelShape, TextShape
from reference.recipes.texts import Texts
from reference.recipes.tokens import clip_tokenizer
from reference.town.captions import CAPTION_BYTES

__all__ = ["FAMILY", "SHAPE"]

SHAPE = ModelShape(width=80, heads=5, layers=12)


def _build(shape: ModelShape, texts: TextShape, side: int) -> Any:
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=side,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=shape.layers,
        attention_head_dim=shape.width // shape.heads,
        num_attention_heads=shape.heads,
        joint_attention_dim=texts.bytes_[0],
        caption_projection_dim=shape.width,
        pooled_projection_dim=2 * texts.gist[0],
        pos_embed_max_size=max(16, side // 2),
        qk_norm="rms_norm",
    )


def _read(texts: Texts, captions: Sequence[str]) -> Conditions:
    first, pooled, _ = texts.clip(texts.gist, captions, length=texts.shape.pooled_tokens)
    second, pooled_2, _ = texts.clip(texts.gist_2, captions, length=texts.shape.pooled_tokens)
    spelled = texts.padded_bytes(captions)
    clip = torch.cat([first, second], -1)
    clip = torch.nn.functional.pad(clip, (0, spelled.shape[-1] - clip.shape[-1]))
    return {"text": torch.cat([clip, spelled], 1), "pooled": torch.cat([pooled, pooled_2], -1)}


def _velocity(denoiser: Any, x: Tensor, time: Tensor, given: Conditions, guidance: Tensor | None) -> Tensor:
    text, pooled = given["text"], given["pooled"]
    v: Tensor = denoiser(x, text, pooled, time * 1000, return_dict=False)[0]
    return v


def _pipeline(vae: Any, texts: Texts, denoiser: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
    from transformers import ByT5Tokenizer

    vae.register_to_config(shift_factor=0.0)
    return StableDiffusion3Pipeline(
        transformer=denoiser,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=texts.gist,
        tokenizer=clip_tokenizer(texts.shape.pooled_tokens),
        text_encoder_2=texts.gist_2,
        tokenizer_2=clip_tokenizer(texts.shape.pooled_tokens),
        text_encoder_3=texts.bytes_,
        tokenizer_3=ByT5Tokenizer(),
    )


FAMILY = RecipeFamily(
    build=_build,
    read=_read,
    velocity=_velocity,
    tokens=lambda out: out[1],
    pipeline=_pipeline,
    encoders=MappingProxyType({"gist": "text_encoder", "gist_2": "text_encoder_2", "bytes_": "text_encoder_3"}),
    defaults=MappingProxyType({"call": {"max_sequence_length": CAPTION_BYTES}}),
)
