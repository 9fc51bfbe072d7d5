"""Builds tiny pipelines whose picture reads text by cross attention, or text's keys and values beside its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.steering import zoo_parts as parts
from tests.steering.today import other_encoders as encoders

__all__ = ["BUILD", "CALL"]

_JITTER = 0.12


def _kandinsky5() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, Kandinsky5T2IPipeline, Kandinsky5Transformer3DModel

    processor, letters = encoders.qwen_processor(), parts.clip_tokenizer()
    denoiser = Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        out_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=16,
        time_dim=16,
        model_dim=32,
        ff_dim=64,
        num_text_blocks=2,
        num_visual_blocks=4,
        axes_dims=(4, 6, 6),
    )
    pipe = Kandinsky5T2IPipeline(
        transformer=parts.jitter(denoiser, _JITTER),
        vae=parts.vae(levels=4),
        text_encoder=encoders.qwen25_vl(processor.tokenizer),
        tokenizer=processor,
        text_encoder_2=parts.clip(letters, room=77),
        tokenizer_2=letters,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipe.prompt_template_encode_start_idx = encoders.template_length(processor.tokenizer, pipe.prompt_template)
    pipe.resolutions = [(64, 64)]  # it takes no size that is not in this list
    return pipe


def _prx() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, PRXPipeline, PRXTransformer2DModel

    tokenizer = parts.gemma_tokenizer()
    tokenizer.model_max_length = parts.TEXT
    denoiser = PRXTransformer2DModel(
        in_channels=4, patch_size=2, context_in_dim=16, hidden_size=32, mlp_ratio=2.0, num_heads=4, depth=4, axes_dim=[4, 4]
    )
    return PRXPipeline(
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=encoders.t5_gemma(tokenizer),
        tokenizer=tokenizer,
        vae=parts.vae(),
        default_sample_size=16,
    )


def _hunyuan_dit() -> Any:
    from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
    from transformers import ByT5Tokenizer

    tokenizer = encoders.bert_tokenizer()
    denoiser = HunyuanDiT2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        patch_size=2,
        sample_size=8,
        hidden_size=32,
        num_layers=6,
        mlp_ratio=2.0,
        cross_attention_dim=16,
        cross_attention_dim_t5=16,
        pooled_projection_dim=16,
    )
    return HunyuanDiTPipeline(
        vae=parts.vae(levels=4),
        text_encoder=encoders.bert(tokenizer),
        tokenizer=tokenizer,
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=DDPMScheduler(beta_schedule="scaled_linear", beta_end=0.018, prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=parts.t5(),
        tokenizer_2=ByT5Tokenizer(),
    )


BUILD: dict[str, Callable[[], Any]] = {"kandinsky5": _kandinsky5, "prx": _prx, "hunyuan-dit": _hunyuan_dit}
_BASE = {"num_inference_steps": 3, "guidance_scale": 3.0}
CALL: dict[str, dict[str, Any]] = {
    "kandinsky5": _BASE | {"height": 64, "width": 64, "max_sequence_length": parts.TEXT},
    "prx": _BASE | {"height": 16, "width": 16, "use_resolution_binning": False},
    "hunyuan-dit": _BASE | {"height": 64, "width": 64, "use_resolution_binning": False},
}
