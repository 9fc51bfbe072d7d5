"""Builds tiny pipelines of videos; a call makes the fewest frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.steering import zoo_parts as parts
from tests.steering.today import other_encoders as encoders
from tests.steering.today.cross import kandinsky5

__all__ = ["BUILD", "CALL"]

_JITTER = 0.12


def _wan_vae() -> Any:
    from diffusers import AutoencoderKLWan

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
    return parts.jitter(vae, 0.05)


_WAN: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 4,
    "rope_max_seq_len": 32,
}


def _wan(*, experts: int) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
    from transformers import ByT5Tokenizer

    def denoiser() -> Any:
        model = WanTransformer3DModel(**_WAN)
        return parts.jitter(model, _JITTER)

    return WanPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=encoders.umt5(),
        vae=_wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=denoiser(),
        transformer_2=denoiser() if experts == 2 else None,
        boundary_ratio=0.8 if experts == 2 else None,
    )


def _skyreels() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SkyReelsV2Pipeline, SkyReelsV2Transformer3DModel
    from diffusers.pipelines.skyreels_v2 import pipeline_skyreels_v2
    from transformers import ByT5Tokenizer

    if not hasattr(pipeline_skyreels_v2, "ftfy"):
        pipeline_skyreels_v2.ftfy = _Unmended

    denoiser = SkyReelsV2Transformer3DModel(**_WAN)
    return SkyReelsV2Pipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=encoders.umt5(),
        transformer=parts.jitter(denoiser, _JITTER),
        vae=_wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


class _Unmended:
    """Stands for ftfy, which SkyReels calls even where it is not installed; it leaves text as it is."""

    @staticmethod
    def fix_text(text: str) -> str:
        return text


def _anyflow() -> Any:
    from diffusers import AnyFlowPipeline, AnyFlowTransformer3DModel, FlowMapEulerDiscreteScheduler
    from transformers import ByT5Tokenizer

    denoiser = AnyFlowTransformer3DModel(**_WAN)
    return AnyFlowPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=encoders.umt5(),
        transformer=parts.jitter(denoiser, _JITTER),
        vae=_wan_vae(),
        scheduler=FlowMapEulerDiscreteScheduler(shift=3.0),
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


def _hunyuan_video_vae() -> Any:
    from diffusers import AutoencoderKLHunyuanVideo

    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        layers_per_block=1,
        norm_num_groups=4,
    )
    return parts.jitter(vae, 0.05)


def _hunyuan_video() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline, HunyuanVideoTransformer3DModel
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    words, letters = encoders.llama_tokenizer(), parts.clip_tokenizer()
    # what stands before a prompt has as many tokens as the pipeline cuts off: one that begins every text, then bytes
    before, cut = DEFAULT_PROMPT_TEMPLATE["template"].partition("{}")[0], DEFAULT_PROMPT_TEMPLATE["crop_start"]
    words.add_tokens([before[cut - 2 :]])
    assert len(words(before)["input_ids"]) == cut
    denoiser = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=3,
        num_single_layers=3,
        num_refiner_layers=2,
        mlp_ratio=2.0,
        patch_size=2,
        text_embed_dim=16,
        pooled_projection_dim=16,
        rope_axes_dim=(2, 2, 4),
    )
    return HunyuanVideoPipeline(
        text_encoder=encoders.llama(words, layers=3).model,
        tokenizer=words,
        transformer=parts.jitter(denoiser, _JITTER),
        vae=_hunyuan_video_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder_2=parts.clip(letters, room=77),
        tokenizer_2=letters,
    )


def _hunyuan_video15() -> Any:
    from diffusers import (
        AutoencoderKLHunyuanVideo15,
        ClassifierFreeGuidance,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideo15Pipeline,
        HunyuanVideo15Transformer3DModel,
    )
    from transformers import ByT5Tokenizer

    tokenizer = encoders.qwen_chat_tokenizer()
    denoiser = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=4,
        num_refiner_layers=2,
        mlp_ratio=2.0,
        text_embed_dim=16,
        text_embed_2_dim=16,
        image_embed_dim=8,
        rope_axes_dim=(2, 2, 4),
        target_size=16,
        task_type="t2v",
    )
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(16, 16),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=2,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    pipe = HunyuanVideo15Pipeline(
        text_encoder=encoders.qwen25_vl(tokenizer).model.language_model,
        tokenizer=tokenizer,
        transformer=parts.jitter(denoiser, _JITTER),
        vae=parts.jitter(vae, 0.05),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        text_encoder_2=parts.t5(),
        tokenizer_2=ByT5Tokenizer(),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )
    pipe.tokenizer_max_length = 2 * parts.TEXT
    pipe.tokenizer_2_max_length = parts.TEXT
    pipe.vision_num_semantic_tokens = 4  # zeros, where another task has a picture
    pipe.prompt_template_encode_start_idx = encoders.chat_length(tokenizer, pipe.system_message)
    return pipe


def _sana_video() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SanaVideoPipeline, SanaVideoTransformer3DModel

    tokenizer = parts.gemma_tokenizer()
    denoiser = SanaVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=16,
        sample_size=8,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    return SanaVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=parts.gemma(tokenizer),
        vae=_wan_vae(),
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _cosmos2() -> Any:
    from diffusers import Cosmos2TextToImagePipeline, CosmosTransformer3DModel, FlowMatchEulerDiscreteScheduler
    from transformers import ByT5Tokenizer

    denoiser = CosmosTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=4,
        mlp_ratio=2,
        text_embed_dim=16,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        patch_size=(1, 2, 2),
    )
    return Cosmos2TextToImagePipeline(
        text_encoder=parts.t5(),
        tokenizer=ByT5Tokenizer(),
        transformer=parts.jitter(denoiser, _JITTER),
        vae=_wan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True),
        safety_checker=_Unchecked(),
    )


class _Unchecked:
    """Stands for the checker that Cosmos insists on; it finds nothing."""

    def to(self, *_: Any) -> None:
        pass

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


def _cogvideox() -> Any:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
    from transformers import ByT5Tokenizer

    denoiser = CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=16,
        num_layers=4,
        sample_width=8,
        sample_height=8,
        sample_frames=5,
    )
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8,) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
    )
    return CogVideoXPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=parts.t5(),
        vae=parts.jitter(vae, 0.05),
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=CogVideoXDDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"),
    )


def _kandinsky5_video() -> Any:
    from diffusers import Kandinsky5T2VPipeline

    return kandinsky5(Kandinsky5T2VPipeline, _hunyuan_video_vae(), visual_cond=True)


BUILD: dict[str, Callable[[], Any]] = {
    "wan": lambda: _wan(experts=1),
    "wan22": lambda: _wan(experts=2),
    "skyreels": _skyreels,
    "anyflow": _anyflow,
    "ltx": _ltx,
    "hunyuan-video": _hunyuan_video,
    "hunyuan-video15": _hunyuan_video15,
    "sana-video": _sana_video,
    "cosmos2": _cosmos2,
    "cogvideox": _cogvideox,
    "kandinsky5-video": _kandinsky5_video,
}
_BASE = {"height": 16, "width": 16, "num_inference_steps": 3, "guidance_scale": 3.0, "max_sequence_length": parts.TEXT}
CALL: dict[str, dict[str, Any]] = {
    "wan": _BASE | {"num_frames": 3},
    "wan22": _BASE | {"num_frames": 3},
    "skyreels": _BASE | {"num_frames": 3},
    "anyflow": _BASE | {"num_frames": 3},
    "ltx": _BASE | {"height": 32, "width": 32, "num_frames": 3},
    "hunyuan-video": {
        "height": 64,
        "width": 64,
        "num_frames": 1,
        "num_inference_steps": 3,
        "max_sequence_length": parts.TEXT,
        "prompt_template": {"template": "video: {}", "crop_start": 8},
    },
    "hunyuan-video15": {"height": 32, "width": 32, "num_frames": 3, "num_inference_steps": 3},
    "sana-video": _BASE
    | {"height": 32, "width": 32, "frames": 3, "use_resolution_binning": False, "complex_human_instruction": None},
    "cosmos2": _BASE,
    "cogvideox": _BASE | {"height": 64, "width": 64, "num_frames": 1, "max_sequence_length": 226},
    "kandinsky5-video": _BASE | {"height": 64, "width": 64, "num_frames": 5},
}
