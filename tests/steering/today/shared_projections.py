"""Builds tiny pipelines in which one pair of projections reads text and picture, as two streams or one sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.steering import zoo_parts as parts
from tests.steering.today import other_encoders as encoders

__all__ = ["BUILD", "CALL"]

_JITTER = 0.12


def _cogview4() -> Any:
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel, FlowMatchEulerDiscreteScheduler

    tokenizer = encoders.glm_tokenizer()
    denoiser = CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=4,
        attention_head_dim=8,
        num_attention_heads=4,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=4,
        sample_size=8,
        rope_axes_dim=(8, 8),
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True, time_shift_type="linear"
    )
    return CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=encoders.glm(tokenizer),
        vae=parts.vae(),
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=scheduler,
    )


def _cogview3() -> Any:
    from diffusers import CogVideoXDDIMScheduler, CogView3PlusPipeline, CogView3PlusTransformer2DModel
    from transformers import ByT5Tokenizer

    denoiser = CogView3PlusTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=4,
        attention_head_dim=8,
        num_attention_heads=4,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=4,
        pos_embed_max_size=8,
        sample_size=8,
    )
    return CogView3PlusPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=parts.t5(),
        vae=parts.vae(),
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=CogVideoXDDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"),
    )


def _ideogram4() -> Any:
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Ideogram4Pipeline,
        Ideogram4Transformer2DModel,
    )
    from diffusers.pipelines.ideogram4.pipeline_ideogram4 import QWEN3_VL_ACTIVATION_LAYERS as LAYERS

    tokenizer = encoders.qwen_chat_tokenizer()

    def denoiser() -> Any:
        model = Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=4,
            attention_head_dim=8,
            num_attention_heads=4,
            intermediate_size=64,
            adaln_dim=16,
            llm_features_dim=8 * len(LAYERS),
            rope_theta=10000,
            mrope_section=(2, 1, 1),
        )
        return parts.jitter(model, _JITTER)

    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    return Ideogram4Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=parts.jitter(vae, 0.05),
        text_encoder=encoders.qwen3_vl(tokenizer, layers=LAYERS[-1] + 1, width=8).model,
        tokenizer=tokenizer,
        transformer=denoiser(),
        unconditional_transformer=denoiser(),
    )


BUILD: dict[str, Callable[[], Any]] = {
    "cogview3": _cogview3,
    "cogview4": _cogview4,
    "ideogram4": _ideogram4,
}
_BASE = {"height": 16, "width": 16, "num_inference_steps": 3, "guidance_scale": 3.0, "max_sequence_length": parts.TEXT}
CALL: dict[str, dict[str, Any]] = {
    "cogview3": _BASE,
    "cogview4": _BASE,
    "ideogram4": _BASE | {"guidance_schedule": None, "max_sequence_length": 3 * parts.TEXT},
}
