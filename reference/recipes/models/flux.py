"""`signpost-flux`: double and single blocks, embedded guidance, pooled CLIP text, a byte-level T5."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from reference.recipes.family import LATENT_CHANNELS, Conditions, RecipeFamily
from reference.recipes.shapes import ModelShape, TextShape
from reference.recipes.texts import Texts, bare_clip
from reference.recipes.tokens import clip_tokenizer
from reference.town.captions import CAPTION_BYTES

__all__ = ["FAMILY", "SHAPE"]

SHAPE = ModelShape(width=96, heads=3, layers=5, singles=8)


def _build(shape: ModelShape, texts: TextShape, side: int) -> Any:
    from diffusers import FluxTransformer2DModel

    head = shape.width // shape.heads
    rest = head // 8 * 3  # of each axis of the picture; the text's axis has what is left
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=shape.layers,
        num_single_layers=shape.singles,
        attention_head_dim=head,
        num_attention_heads=shape.heads,
        joint_attention_dim=texts.bytes_[0],
        pooled_projection_dim=texts.gist[0],
        axes_dims_rope=(head - 2 * rest, rest, rest),
        guidance_embeds=True,
    )


def _read(texts: Texts, captions: Sequence[str]) -> Conditions:
    pooled = texts.clip(texts.gist, captions, length=texts.shape.pooled_tokens)[2]
    return {"text": texts.padded_bytes(captions), "pooled": pooled}


def _velocity(denoiser: Any, x: Tensor, time: Tensor, given: Conditions, guidance: Tensor | None) -> Tensor:
    b, c, h, w = x.shape
    packed = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)
    rows, columns = torch.meshgrid(torch.arange(h // 2), torch.arange(w // 2), indexing="ij")
    places = torch.stack([torch.zeros_like(rows), rows, columns], -1).view(-1, 3).to(x)
    v: Tensor = denoiser(
        hidden_states=packed,
        encoder_hidden_states=given["text"],
        pooled_projections=given["pooled"],
        timestep=time,
        guidance=torch.ones_like(time) if guidance is None else guidance,
        img_ids=places,
        txt_ids=torch.zeros(given["text"].shape[1], 3).to(x),
        return_dict=False,
    )[0]
    return v.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)


def _pipeline(vae: Any, texts: Texts, denoiser: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
    from transformers import ByT5Tokenizer

    vae.register_to_config(shift_factor=0.0)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=bare_clip(texts.gist),
        tokenizer=clip_tokenizer(texts.shape.pooled_tokens),
        text_encoder_2=texts.bytes_,
        tokenizer_2=ByT5Tokenizer(),
        transformer=denoiser,
    )


FAMILY = RecipeFamily(
    build=_build,
    read=_read,
    velocity=_velocity,
    middle=lambda denoiser: denoiser.transformer_blocks[-1],
    tokens=lambda out: out[1],
    pipeline=_pipeline,
    encoders=MappingProxyType({"gist": "text_encoder", "bytes_": "text_encoder_2"}),
    defaults=MappingProxyType({"call": {"max_sequence_length": CAPTION_BYTES}}),
    guided=True,
)
