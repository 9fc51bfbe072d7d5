"""`signpost-pixart`: a cross-attention transformer that reads one byte-level text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from reference.recipes.family import LATENT_CHANNELS, Conditions, RecipeFamily
from reference.recipes.shapes import ModelShape, TextShape
from reference.recipes.texts import Texts
from reference.town.captions import CAPTION_BYTES

__all__ = ["FAMILY", "SHAPE"]

SHAPE = ModelShape(width=128, heads=4, layers=12)


def _build(shape: ModelShape, texts: TextShape, side: int) -> Any:
    from diffusers import PixArtTransformer2DModel

    return PixArtTransformer2DModel(
        num_attention_heads=shape.heads,
        attention_head_dim=shape.width // shape.heads,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=shape.layers,
        cross_attention_dim=shape.width,
        sample_size=side,
        patch_size=2,
        caption_channels=texts.bytes_[0],
        use_additional_conditions=False,
        attention_bias=True,
    )


def _read(texts: Texts, captions: Sequence[str]) -> Conditions:
    states, mask = texts.masked_bytes(captions)
    return {"text": states, "mask": mask}


def _velocity(denoiser: Any, x: Tensor, time: Tensor, given: Conditions, guidance: Tensor | None) -> Tensor:
    sizes = {"resolution": None, "aspect_ratio": None}
    text, mask = given["text"], given["mask"]
    v: Tensor = denoiser(x, text, time * 1000, sizes, encoder_attention_mask=mask, return_dict=False)[0]
    return v


def _pipeline(vae: Any, texts: Texts, denoiser: Any) -> Any:
    from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline
    from transformers import ByT5Tokenizer

    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return PixArtAlphaPipeline(
        tokenizer=ByT5Tokenizer(), text_encoder=texts.bytes_, vae=vae, transformer=denoiser, scheduler=scheduler
    )


FAMILY = RecipeFamily(
    build=_build,
    read=_read,
    velocity=_velocity,
    pipeline=_pipeline,
    encoders=MappingProxyType({"bytes_": "text_encoder"}),
    defaults=MappingProxyType(
        {
            "min_inference_steps": 2,  # PixArt's pipeline treats a single step as a consistency model's
            "call": {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": CAPTION_BYTES},
        }
    ),
)
