"""Builds tiny pipelines of packed rows: text, picture and padding lie in one sequence, told apart by numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.steering import zoo_parts as parts
from tests.steering.today import other_encoders as encoders

__all__ = ["BUILD", "CALL"]

_JITTER = 0.12


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


BUILD: dict[str, Callable[[], Any]] = {"ideogram4": _ideogram4}
CALL: dict[str, dict[str, Any]] = {
    "ideogram4": {
        "height": 16,
        "width": 16,
        "num_inference_steps": 3,
        "guidance_scale": 3.0,
        "guidance_schedule": None,
        "max_sequence_length": 3 * parts.TEXT,
    }
}
