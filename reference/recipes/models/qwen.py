"""`signpost-qwen`: text and picture in one causal sequence, whose text keys and values are kept between the steps.

Its autoencoder of films makes one latent of 16 x 16 pixels, so it draws the town at twice the recipe's side. No other
model has autoencoders or text encoders of these kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from reference.recipes.causal import CausalTexts, build_causal, build_processor, teach_causal
from reference.recipes.family import Conditions, OwnParts, RecipeFamily
from reference.recipes.shapes import ModelShape, TextShape

__all__ = ["FAMILY", "SHAPE"]

SHAPE = ModelShape(width=72, heads=3, layers=12, text=(72, 4))
_CHANNELS = 32  # of a latent, which stands for 16 x 16 pixels


def _autoencoder() -> Any:
    from diffusers import AutoencoderKLQwenImage21

    return AutoencoderKLQwenImage21(
        base_dim=20,
        decoder_base_dim=26,
        z_dim=_CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, False],
        latents_mean=[0.0] * _CHANNELS,
        latents_std=[1.0] * _CHANNELS,
        in_channels=48,  # of a patch of 4 x 4 pixels
        out_channels=48,
        patch_size=4,
    )


def _build(shape: ModelShape, _texts: TextShape, _side: int) -> Any:
    from diffusers import QwenImage21Transformer2DModel

    assert shape.text is not None
    head = shape.width // shape.heads
    rest = head // 6 * 2  # of each axis of the picture; the order of the text has what is left
    return QwenImage21Transformer2DModel(
        in_channels=_CHANNELS,
        out_channels=_CHANNELS,
        num_layers=shape.layers,
        attention_head_dim=head,
        num_attention_heads=shape.heads,
        context_in_dim=shape.text[0],
        mlp_ratio=2,
        axes_dims_rope=(head - 2 * rest, rest, rest),
    )


def _read(texts: CausalTexts, captions: Sequence[str]) -> Conditions:
    states, mask = texts.states(captions)
    return {"text": states, "mask": mask}


def _velocity(denoiser: Any, x: Tensor, time: Tensor, given: Conditions, guidance: Tensor | None) -> Tensor:
    rows, (high, wide) = len(x), x.shape[-2:]
    mask = given["mask"] > 0
    told = denoiser(
        hidden_states=x.flatten(2).mT,
        encoder_hidden_states=given["text"],
        encoder_hidden_states_mask=mask,
        timestep=time,
        img_shapes=[[(1, high, wide)]] * rows,
        img_mask=torch.cat([torch.zeros_like(mask), mask.new_ones(rows, high * wide // 4)], 1),
        return_dict=False,
    )[0]
    return told[:, -high * wide :].mT.unflatten(2, (high, wide))


def _pipeline(vae: Any, texts: CausalTexts, denoiser: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, QwenImage21Pipeline

    return QwenImage21Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=texts.model,
        processor=build_processor(texts.tokens),
        transformer=denoiser,
    )


FAMILY = RecipeFamily(
    build=_build,
    read=_read,
    velocity=_velocity,
    pipeline=_pipeline,
    encoders=MappingProxyType({"model": "text_encoder"}),
    defaults=MappingProxyType({"guidance_scale": None, "call": {"true_cfg_scale": 3.0}}),
    text_first=True,
    own=OwnParts(autoencoder=_autoencoder, texts=build_causal, teach=teach_causal, zoom=2),
)
