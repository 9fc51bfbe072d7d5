"""Builds tiny pipelines whose text comes from several encoders, some by ways of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.steering import zoo_parts as parts
from tests.steering.today import other_encoders as encoders

__all__ = ["BUILD", "CALL"]

_JITTER = 0.12


def _hunyuan_image() -> Any:
    from diffusers import (
        AdaptiveProjectedMixGuidance,
        AutoencoderKLHunyuanImage,
        FlowMatchEulerDiscreteScheduler,
        HunyuanImagePipeline,
        HunyuanImageTransformer2DModel,
    )
    from transformers import ByT5Tokenizer

    tokenizer = encoders.qwen_tokenizer()
    denoiser = HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=3,
        num_single_layers=3,
        num_refiner_layers=2,
        mlp_ratio=2.0,
        text_embed_dim=16,
        text_embed_2_dim=16,
        rope_axes_dim=(4, 4),
    )
    vae = AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32),  # in groups of 32
        layers_per_block=1,
        scaling_factor=0.5,
        spatial_compression_ratio=2,
        sample_size=16,
    )
    pipe = HunyuanImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        vae=parts.jitter(vae, 0.05),
        text_encoder=encoders.qwen25_vl(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=parts.t5(),
        tokenizer_2=ByT5Tokenizer(),
        transformer=parts.jitter(denoiser, _JITTER),
        guider=AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=2),
        ocr_guider=AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=1),
    )
    pipe.tokenizer_max_length = pipe.tokenizer_2_max_length = parts.TEXT
    pipe.prompt_template_encode_start_idx = encoders.template_length(tokenizer, pipe.prompt_template_encode)
    return pipe


def _hidream() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, HiDreamImagePipeline, HiDreamImageTransformer2DModel
    from transformers import ByT5Tokenizer

    first, second, llama = parts.clip_tokenizer(), parts.clip_tokenizer(), encoders.llama_tokenizer()
    denoiser = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=[16, 16],
        text_emb_dim=32,
        num_routed_experts=2,
        num_activated_experts=2,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(8, 8),
        llama_layers=(0, 1, 2, 3, 3),  # one layer's states for each block
    )
    pipe = HiDreamImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=parts.vae(shift_factor=0.1),
        text_encoder=parts.clip(first, projected=True, room=128),
        tokenizer=first,
        text_encoder_2=parts.clip(second, projected=True, room=128),
        tokenizer_2=second,
        text_encoder_3=parts.t5(),
        tokenizer_3=ByT5Tokenizer(),
        text_encoder_4=encoders.llama(llama, layers=4),
        tokenizer_4=llama,
        transformer=parts.jitter(denoiser, _JITTER),
    )
    pipe.default_sample_size = 8  # it makes pictures of this many latents, whatever size is asked for
    return pipe


BUILD: dict[str, Callable[[], Any]] = {
    "hunyuan-image": _hunyuan_image,
    "hidream": _hidream,
    "hidream-oblong": _hidream,
}
_BASE = {"height": 16, "width": 16, "num_inference_steps": 3}
_HIDREAM = _BASE | {"guidance_scale": 3.0, "max_sequence_length": parts.TEXT}
CALL: dict[str, dict[str, Any]] = {
    "hunyuan-image": _BASE,
    "hidream": _HIDREAM,
    "hidream-oblong": _HIDREAM | {"height": 12, "width": 20},  # padded to as many tokens as the largest picture has
}
