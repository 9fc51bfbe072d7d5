"""`signpost-sdxl`: a cross-attention U-Net with two CLIP encoders, pooled text and time ids.

It has no T5, so its first CLIP encoder carries the spelling. Released SDXL predicts noise; ours predicts velocity, as
all our models do, under a scheduler for flows.
"""

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

__all__ = ["FAMILY", "SHAPE"]

SHAPE = ModelShape(width=80, heads=4, layers=2)
_TIME = 8  # width of the embedding of each of the six time ids
_LATENT = 4  # pixels


def _build(shape: ModelShape, texts: TextShape, side: int) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=side,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(shape.width // 5 * 3, shape.width),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=shape.layers,
        attention_head_dim=(shape.heads, shape.heads),  # diffusers' name for the number of heads
        use_linear_projection=True,
        norm_num_groups=8,
        cross_attention_dim=texts.letters[0] + texts.gist[0],
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME,
        projection_class_embeddings_input_dim=6 * _TIME + texts.gist[0],
    )


def _read(texts: Texts, captions: Sequence[str]) -> Conditions:
    length = texts.shape.clip_tokens
    spelled = texts.clip(texts.letters, captions, length=length)[0]
    gist, pooled, _ = texts.clip(texts.gist, captions, length=length)
    return {"text": torch.cat([spelled, gist], -1), "pooled": pooled}


def _velocity(denoiser: Any, x: Tensor, time: Tensor, given: Conditions, guidance: Tensor | None) -> Tensor:
    high, wide = (_LATENT * n for n in x.shape[-2:])
    ids = torch.tensor([high, wide, 0, 0, high, wide], device=x.device, dtype=torch.float32).expand(len(x), -1)
    added = {"text_embeds": given["pooled"], "time_ids": ids}
    v: Tensor = denoiser(x, time * 1000, given["text"], added_cond_kwargs=added, return_dict=False)[0]
    return v


def _pipeline(vae: Any, texts: Texts, denoiser: Any) -> Any:
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionXLPipeline

    length = texts.shape.clip_tokens
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=bare_clip(texts.letters),
        text_encoder_2=texts.gist,
        tokenizer=clip_tokenizer(length),
        tokenizer_2=clip_tokenizer(length),
        unet=denoiser,
        scheduler=DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        force_zeros_for_empty_prompt=False,  # no caption is an empty one, as in training
        add_watermarker=False,
    )


FAMILY = RecipeFamily(
    build=_build,
    read=_read,
    velocity=_velocity,
    middle=lambda denoiser: denoiser.mid_block,
    tokens=lambda out: out.flatten(2).transpose(1, 2),
    pipeline=_pipeline,
    encoders=MappingProxyType({"letters": "text_encoder", "gist": "text_encoder_2"}),
    defaults=MappingProxyType({"min_inference_steps": 2, "call": {}}),
)
