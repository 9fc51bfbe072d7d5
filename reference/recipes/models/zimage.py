"""`signpost-zimage`: one sequence of picture and text, the text read from before the byte encoder's last layer."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from reference.recipes.family import LATENT_CHANNELS, Conditions, RecipeFamily
from reference.recipes.shapes import ModelShape, TextShape
from reference.recipes.texts import Texts
from reference.town.captions import CAPTION_BYTES

__all__ = ["FAMILY", "SHAPE"]

SHAPE = ModelShape(width=72, heads=3, layers=12)
_CHAT = "{{ messages[0]['content'] }}"  # a caption is asked as it is, without a role or a mark


def _build(shape: ModelShape, texts: TextShape, side: int) -> Any:
    from diffusers import ZImageTransformer2DModel

    head = shape.width // shape.heads
    rest = head // 6 * 2  # of each axis of the picture; the text's axis has what is left
    return ZImageTransformer2DModel(
        in_channels=LATENT_CHANNELS,
        dim=shape.width,
        n_layers=shape.layers,
        n_refiner_layers=1,
        n_heads=shape.heads,
        n_kv_heads=shape.heads,
        cap_feat_dim=texts.bytes_[0],
        axes_dims=[head - 2 * rest, rest, rest],
        axes_lens=[256, side, side],  # 160 bytes at most, and the picture stands after them
    )


def _read(texts: Texts, captions: Sequence[str]) -> Conditions:
    states, mask = texts.early_bytes(captions)
    return {"text": states, "mask": mask}


def _velocity(denoiser: Any, x: Tensor, time: Tensor, given: Conditions, guidance: Tensor | None) -> Tensor:
    captions = [states[mask > 0] for states, mask in zip(given["text"], given["mask"], strict=True)]
    told = denoiser(list(x.unsqueeze(2)), 1 - time, captions, return_dict=False)[0]
    return -torch.stack(told)[:, :, 0]  # it is asked for the way from noise to picture


def _pipeline(vae: Any, texts: Texts, denoiser: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
    from transformers import ByT5Tokenizer

    vae.register_to_config(shift_factor=0.0)
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=texts.bytes_,
        tokenizer=ByT5Tokenizer(chat_template=_CHAT),
        transformer=denoiser,
    )


FAMILY = RecipeFamily(
    build=_build,
    read=_read,
    velocity=_velocity,
    middle=lambda denoiser: denoiser.layers[len(denoiser.layers) // 2 - 1],
    pipeline=_pipeline,
    encoders=MappingProxyType({"bytes_": "text_encoder"}),
    defaults=MappingProxyType(
        {
            "guidance_scale": 2.0,  # this pipeline adds it to the plain answer, so it is one less than the others'
            "call": {"max_sequence_length": CAPTION_BYTES},
        }
    ),
)
