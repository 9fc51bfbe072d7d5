"""Builds tiny pipelines whose first blocks keep text and picture as two streams: FLUX.2, Chroma, AuraFlow.

`BUILD` makes them; `CALL` holds the arguments of a call that takes well under a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.steering import zoo_parts as parts
from tests.steering.today import language_models as language

__all__ = ["BUILD", "CALL", "flow", "flux2_vae", "qwen_vae"]

_JITTER = 0.12
_TEXT = parts.TEXT


def flow(*, shifted: bool = True) -> Any:
    """Euler steps of a flow, with a shift that depends on the picture's size or without."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=shifted, shift=1.0)


def qwen_vae() -> Any:
    """Qwen-Image's autoencoder; its latents are two times smaller than its pictures."""
    from diffusers import AutoencoderKLQwenImage

    model = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.1, -0.1, 0.2, 0.0],
        latents_std=[1.1, 0.9, 1.2, 1.0],
    )
    return parts.jitter(model, 0.05)


def flux2_vae() -> Any:
    """FLUX.2's autoencoder; its latents are two times smaller than its pictures, before they are packed in fours."""
    from diffusers import AutoencoderKLFlux2

    model = AutoencoderKLFlux2(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    return parts.jitter(model, 0.05)


def _qwen_image() -> Any:
    from diffusers import QwenImagePipeline, QwenImageTransformer2DModel

    denoiser = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    tokens = language.tokenizer(language.DESCRIBE)
    return QwenImagePipeline(
        scheduler=flow(),
        vae=qwen_vae(),
        text_encoder=language.qwen25_vl(tokens),
        tokenizer=tokens,
        transformer=parts.jitter(denoiser, _JITTER),
    )


def _flux2_parts(guidance: bool, text: int) -> dict[str, Any]:
    from diffusers import Flux2Transformer2DModel

    denoiser = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=text,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    )
    return {"scheduler": flow(), "vae": flux2_vae(), "transformer": parts.jitter(denoiser, _JITTER)}


def _flux2() -> Any:
    from diffusers import Flux2Pipeline

    tokens = language.tokenizer(instruct=True)
    encoder = language.mistral3(tokens, layers=30)  # of which the states after 10, 20 and 30 are read
    return Flux2Pipeline(text_encoder=encoder, tokenizer=tokens, **_flux2_parts(guidance=True, text=48))


def _klein(kv: bool = False, **config: Any) -> Any:
    from diffusers import Flux2KleinKVPipeline, Flux2KleinPipeline

    tokens = language.tokenizer()
    encoder = language.qwen3(tokens, layers=27)  # of which the states after 9, 18 and 27 are read
    return (Flux2KleinKVPipeline if kv else Flux2KleinPipeline)(
        text_encoder=encoder, tokenizer=tokens, **_flux2_parts(guidance=False, text=48), **config
    )


def _chroma() -> Any:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel
    from transformers import ByT5Tokenizer

    denoiser = ChromaTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=16,
        approximator_hidden_dim=32,
        approximator_layers=2,
    )
    return ChromaPipeline(
        scheduler=flow(shifted=False),
        vae=parts.vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=parts.t5(),
        tokenizer=ByT5Tokenizer(),
        transformer=parts.jitter(denoiser, _JITTER),
    )


def _aura_flow() -> Any:
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel
    from transformers import ByT5Tokenizer

    denoiser = AuraFlowTransformer2DModel(
        sample_size=8,
        num_mmdit_layers=2,
        num_single_dit_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=32,
        pos_embed_max_size=64,
    )
    return AuraFlowPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=language.umt5(),
        vae=parts.vae(),
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=flow(shifted=False),
    )


def _longcat() -> Any:
    from diffusers import LongCatImagePipeline, LongCatImageTransformer2DModel

    tokens = language.tokenizer(
        "As an image captioning expert, generate a descriptive text prompt based on an image content, suitable for"
        " input to a text-to-image model."
    )
    denoiser = LongCatImageTransformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=[4, 6, 6],
    )
    pipe = LongCatImagePipeline(
        scheduler=flow(),
        vae=parts.vae(latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=language.qwen25_vl(tokens),
        tokenizer=tokens,
        text_processor=language.qwen25_vl_processor(tokens),
        transformer=parts.jitter(denoiser, _JITTER),
    )
    pipe.tokenizer_max_length = _TEXT  # no argument says it
    return pipe


def _ovis() -> Any:
    from diffusers import OvisImagePipeline, OvisImageTransformer2DModel

    tokens = language.tokenizer(language.DESCRIBE)
    denoiser = OvisImageTransformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    return OvisImagePipeline(
        scheduler=flow(),
        vae=parts.vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=language.qwen3(tokens, writes=False),
        tokenizer=tokens,
        transformer=parts.jitter(denoiser, _JITTER),
    )


def _fibo() -> Any:
    from diffusers import AutoencoderKLWan, BriaFiboPipeline, BriaFiboTransformer2DModel

    vae = AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.1, -0.1, 0.2, 0.0],
        latents_std=[1.1, 0.9, 1.2, 1.0],
        in_channels=12,
        out_channels=12,
        patch_size=2,
    )
    tokens = language.tokenizer()
    denoiser = BriaFiboTransformer2DModel(
        in_channels=4,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=[4, 6, 6],
        text_encoder_dim=16,
    )
    return BriaFiboPipeline(
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=flow(),
        vae=parts.jitter(vae, 0.05),
        text_encoder=language.smollm3(tokens),
        tokenizer=tokens,
    )


BUILD: dict[str, Callable[[], Any]] = {
    "qwen-image": _qwen_image,
    "flux2": _flux2,
    "flux2-klein": _klein,
    "flux2-klein-kv": lambda: _klein(kv=True),
    "chroma": _chroma,
    "aura-flow": _aura_flow,
    "longcat": _longcat,
    "ovis": _ovis,
    "bria-fibo": _fibo,
}

_SIZE = {"height": 16, "width": 16, "num_inference_steps": 3}
CALL: dict[str, dict[str, Any]] = {
    "qwen-image": _SIZE,
    "flux2": _SIZE | {"guidance_scale": 3.5, "max_sequence_length": _TEXT},
    "flux2-klein": _SIZE | {"guidance_scale": 3.0, "max_sequence_length": language.ROOM},
    "flux2-klein-kv": _SIZE | {"max_sequence_length": language.ROOM},
    "chroma": _SIZE | {"guidance_scale": 3.0, "max_sequence_length": _TEXT},
    "aura-flow": _SIZE | {"guidance_scale": 3.0, "max_sequence_length": _TEXT},
    "longcat": _SIZE | {"guidance_scale": 3.0, "enable_prompt_rewrite": False},
    "ovis": _SIZE | {"guidance_scale": 3.0, "max_sequence_length": language.ROOM},
    "bria-fibo": {"height": 64, "width": 64, "num_inference_steps": 3, "guidance_scale": 3.0},
}
