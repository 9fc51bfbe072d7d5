"""Builds tiny pipelines of videos; a call makes the fewest frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.steering import zoo_parts as parts
from tests.steering.today import other_encoders as encoders

__all__ = ["BUILD", "CALL"]

_JITTER = 0.12


def _wan(*, experts: int) -> Any:
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
    from transformers import ByT5Tokenizer

    def denoiser() -> Any:
        model = WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=16,
            freq_dim=16,
            ffn_dim=32,
            num_layers=4,
            rope_max_seq_len=32,
        )
        return parts.jitter(model, _JITTER)

    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        scale_factor_temporal=2,
        scale_factor_spatial=2,
    )
    return WanPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=encoders.umt5(),
        vae=parts.jitter(vae, 0.05),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=denoiser(),
        transformer_2=denoiser() if experts == 2 else None,
        boundary_ratio=0.8 if experts == 2 else None,
    )


def _ltx() -> Any:
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )
    from transformers import ByT5Tokenizer

    denoiser = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=4,
        caption_channels=16,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=4,
        block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        spatio_temporal_scaling=(True, False),
        decoder_spatio_temporal_scaling=(True, False),
        decoder_inject_noise=(False, False, False),
        down_block_types=("LTXVideoDownBlock3D",) * 2,
        upsample_residual=(False, False),
        upsample_factor=(1, 1),
        patch_size=1,
        spatial_compression_ratio=2,
        temporal_compression_ratio=2,
    )
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=parts.jitter(vae, 0.05),
        text_encoder=parts.t5(),
        tokenizer=ByT5Tokenizer(),
        transformer=parts.jitter(denoiser, _JITTER),
    )


BUILD: dict[str, Callable[[], Any]] = {
    "wan": lambda: _wan(experts=1),
    "wan22": lambda: _wan(experts=2),
    "ltx": _ltx,
}
_BASE = {"height": 16, "width": 16, "num_inference_steps": 3, "guidance_scale": 3.0, "max_sequence_length": parts.TEXT}
CALL: dict[str, dict[str, Any]] = {
    "wan": _BASE | {"num_frames": 3},
    "wan22": _BASE | {"num_frames": 3},
    "ltx": _BASE | {"height": 32, "width": 32, "num_frames": 3},
}
