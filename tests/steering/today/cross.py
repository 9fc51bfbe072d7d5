"""Builds tiny pipelines whose picture reads text by cross attention, or text's keys and values beside its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.steering import zoo_parts as parts
from tests.steering.today import other_encoders as encoders

__all__ = ["BUILD", "CALL", "kandinsky5"]

_JITTER = 0.12


def kandinsky5(pipeline: Any, vae: Any, **config: Any) -> Any:
    """A pipeline of Kandinsky 5, for pictures or for films."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Kandinsky5Transformer3DModel

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
        **config,
    )
    pipe = pipeline(
        transformer=parts.jitter(denoiser, _JITTER),
        vae=vae,
        text_encoder=encoders.qwen25_vl(processor.tokenizer),
        tokenizer=processor,
        text_encoder_2=parts.clip(letters, room=77),
        tokenizer_2=letters,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipe.prompt_template_encode_start_idx = encoders.template_length(processor.tokenizer, pipe.prompt_template)
    return pipe


def _kandinsky5() -> Any:
    from diffusers import Kandinsky5T2IPipeline

    pipe = kandinsky5(Kandinsky5T2IPipeline, parts.vae(levels=4))
    pipe.resolutions = [(64, 64)]  # it takes no size that is not in this list
    return pipe


class _Plain:
    """Cleans no caption: diffusers' own cleaner needs ftfy."""

    def clean_text(self, text: str) -> str:
        return text

    basic_clean = clean_text


def _prx() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, PRXPipeline, PRXTransformer2DModel

    tokenizer = parts.gemma_tokenizer()
    tokenizer.model_max_length = parts.TEXT
    denoiser = PRXTransformer2DModel(
        in_channels=4,
        patch_size=2,
        context_in_dim=16,
        hidden_size=32,
        mlp_ratio=2.0,
        num_heads=4,
        depth=4,
        axes_dim=[4, 4],
    )
    pipe = PRXPipeline(
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder=encoders.t5_gemma(tokenizer),
        tokenizer=tokenizer,
        vae=parts.vae(shift_factor=0.0),
        default_sample_size=16,
    )
    pipe.text_preprocessor = _Plain()
    return pipe


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


def _lumina_next() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, LuminaNextDiT2DModel, LuminaPipeline

    tokenizer = parts.gemma_tokenizer()
    denoiser = LuminaNextDiT2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        num_layers=4,
        num_attention_heads=4,
        num_kv_heads=2,
        multiple_of=16,
        cross_attention_dim=16,
    )
    denoiser.pad_token.data.zero_()  # diffusers leaves it to a checkpoint
    return LuminaPipeline(
        transformer=parts.jitter(denoiser, 2 * _JITTER),  # text passes three gates that begin as zeros
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=parts.vae(levels=4),
        text_encoder=parts.gemma(tokenizer),
        tokenizer=tokenizer,
    )


def _kandinsky3() -> Any:
    from diffusers import DDPMScheduler, Kandinsky3Pipeline, Kandinsky3UNet, VQModel
    from transformers import ByT5Tokenizer

    denoiser = Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=16,
        groups=4,
        attention_head_dim=8,
        layers_per_block=2,
        block_out_channels=(16, 16, 32, 32),
        cross_attention_dim=16,
        encoder_hid_dim=16,
    )
    movq = VQModel(
        block_out_channels=(32, 32),  # in groups of 32
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=12,
        vq_embed_dim=4,
    )
    return Kandinsky3Pipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=parts.t5(),
        unet=parts.jitter(denoiser, _JITTER),
        scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=True),
        movq=parts.jitter(movq, 0.05),
    )


def _kolors() -> Any:
    from diffusers import EulerDiscreteScheduler, KolorsPipeline, UNet2DConditionModel

    tokenizer = encoders.chat_glm_tokenizer()
    denoiser = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        norm_num_groups=8,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4, 4),
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + 16,
        cross_attention_dim=32,
        encoder_hid_dim=16,
        encoder_hid_dim_type="text_proj",
    )
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.014, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )
    return KolorsPipeline(
        vae=parts.vae(),
        text_encoder=encoders.chat_glm(tokenizer),
        tokenizer=tokenizer,
        unet=parts.jitter(denoiser, _JITTER),
        scheduler=scheduler,
    )


def _nucleus() -> Any:
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        NucleusMoEImagePipeline,
        NucleusMoEImageTransformer2DModel,
    )

    processor = encoders.qwen3_processor()
    denoiser = NucleusMoEImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=6,
        attention_head_dim=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 2, 2),
        moe_enabled=True,  # in the fourth and fifth of the six blocks
        num_experts=4,
        moe_intermediate_dim=16,
        capacity_factors=2.0,
    )
    for name, parameter in denoiser.named_parameters():
        if ".experts." in name:
            parameter.data.zero_()  # diffusers leaves these to a checkpoint
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return NucleusMoEImagePipeline(
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=parts.jitter(vae, 0.05),
        text_encoder=encoders.qwen3_vl(processor.tokenizer, layers=8),  # the text is that of the last but seven
        processor=processor,
    )


BUILD: dict[str, Callable[[], Any]] = {
    "kandinsky5": _kandinsky5,
    "prx": _prx,
    "hunyuan-dit": _hunyuan_dit,
    "lumina-next": _lumina_next,
    "kandinsky3": _kandinsky3,
    "kolors": _kolors,
    "nucleus": _nucleus,
}
_BASE = {"num_inference_steps": 3, "guidance_scale": 3.0}
CALL: dict[str, dict[str, Any]] = {
    "kandinsky5": _BASE | {"height": 64, "width": 64, "max_sequence_length": parts.TEXT},
    "prx": _BASE | {"guidance_scale": 1.0} | {"height": 16, "width": 16, "use_resolution_binning": False},
    "hunyuan-dit": _BASE | {"height": 64, "width": 64, "use_resolution_binning": False},
    "lumina-next": _BASE | {"height": 64, "width": 64, "clean_caption": False},
    "kandinsky3": _BASE | {"height": 64, "width": 64},
    "kolors": _BASE | {"height": 16, "width": 16, "max_sequence_length": parts.TEXT},
    "nucleus": _BASE | {"height": 16, "width": 16},
}
