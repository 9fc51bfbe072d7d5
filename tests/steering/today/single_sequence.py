"""Builds tiny pipelines whose blocks read text and picture as one sequence: Z-Image, Lumina 2, Krea 2 and others.

`BUILD` makes them; `CALL` holds the arguments of a call that takes well under a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.steering import zoo_parts as parts
from tests.steering.today import language_models as language
from tests.steering.today.two_streams import flow, flux2_vae, qwen_vae

__all__ = ["BUILD", "CALL", "flux3_modular"]

_JITTER = 0.12
_NEW_TOKENS = 12  # that the rewriter of prompts may write


def _z_image() -> Any:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    tokens = language.tokenizer()
    denoiser = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=4,
        n_refiner_layers=2,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 6, 6],
        axes_lens=[160, 32, 32],
    )
    return ZImagePipeline(
        scheduler=flow(),
        vae=parts.vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=language.qwen3(tokens),
        tokenizer=tokens,
        transformer=parts.jitter(denoiser, _JITTER),
    )


def _qwen_image_21() -> Any:
    from diffusers import AutoencoderKLQwenImage21, QwenImage21Pipeline, QwenImage21Transformer2DModel

    vae = AutoencoderKLQwenImage21(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.1, -0.1, 0.2, 0.0],
        latents_std=[1.1, 0.9, 1.2, 1.0],
    )
    denoiser = QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=16,
        axes_dims_rope=(4, 6, 6),
    )
    tokens = language.tokenizer("Comprehend and analyze the provided prompt.")
    return QwenImage21Pipeline(
        scheduler=flow(),
        vae=parts.jitter(vae, 0.05),
        text_encoder=language.qwen3_vl(tokens),
        processor=language.qwen3_vl_processor(tokens),
        transformer=parts.jitter(denoiser, _JITTER),
    )


def _lumina2() -> Any:
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    tokens = parts.gemma_tokenizer()
    denoiser = Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=32,
        num_layers=4,
        num_refiner_layers=2,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 6, 6),
        axes_lens=(300, 32, 32),
        cap_feat_dim=16,
    )
    return Lumina2Pipeline(
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=flow(),
        vae=parts.vae(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=parts.gemma(tokens),
        tokenizer=tokens,
    )


def _ernie() -> Any:
    from diffusers import ErnieImagePipeline, ErnieImageTransformer2DModel

    tokens, writer = language.tokenizer(), language.tokenizer()
    writer.model_max_length = _NEW_TOKENS
    denoiser = ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=4,
        ffn_hidden_size=64,
        in_channels=16,
        out_channels=16,
        text_in_dim=16,
        rope_axes_dim=(4, 6, 6),
    )
    return ErnieImagePipeline(
        transformer=parts.jitter(denoiser, _JITTER),
        vae=flux2_vae(),
        text_encoder=language.mistral3(tokens, writes=False),
        tokenizer=tokens,
        scheduler=flow(shifted=False),
        pe=language.ministral3(writer),
        pe_tokenizer=writer,
    )


def _krea2() -> Any:
    from diffusers import Krea2Pipeline, Krea2Transformer2DModel

    tokens = language.tokenizer(language.DESCRIBE)
    denoiser = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        timestep_embed_dim=32,
        text_hidden_dim=16,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=32,
        axes_dims_rope=(4, 6, 6),
    )
    return Krea2Pipeline(
        scheduler=flow(),
        vae=qwen_vae(),
        text_encoder=language.qwen3_vl(tokens, writes=False),
        tokenizer=tokens,
        transformer=parts.jitter(denoiser, _JITTER),
        text_encoder_select_layers=(1, 2),
    )


def _flux3() -> Any:
    from steering.families.modular import as_pipeline

    return as_pipeline(flux3_modular())


def flux3_modular() -> Any:
    """FLUX.3's modular pipeline, with the block that rewrites prompts taken out of it."""
    from diffusers import ClassifierFreeGuidance, Flux3AutoBlocks, Flux3Transformer2DModel

    tokens = language.tokenizer()
    denoiser = Flux3Transformer2DModel(
        in_channels=16,
        cond_in_channels=16,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=128,
        timestep_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
    )
    blocks = Flux3AutoBlocks()
    blocks.sub_blocks.pop("prompt_upsampler")
    pipe = blocks.init_pipeline()
    pipe.update_components(
        text_encoder=language.qwen3_vl(tokens, layers=32),  # of which the states after 4, 8 to 32 are read
        tokenizer=language.qwen3_vl_processor(tokens),
        vae=flux2_vae(),
        transformer=parts.jitter(denoiser, _JITTER),
        scheduler=flow(shifted=False),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )
    return pipe


BUILD: dict[str, Callable[[], Any]] = {
    "z-image": _z_image,
    "qwen-image-21": _qwen_image_21,
    "lumina2": _lumina2,
    "ernie-image": _ernie,
    "krea2": _krea2,
    "flux3": _flux3,
}

_SIZE = {"height": 16, "width": 16, "num_inference_steps": 3}
_BIG = {"height": 64, "width": 64, "num_inference_steps": 3}
CALL: dict[str, dict[str, Any]] = {
    "z-image": _SIZE | {"guidance_scale": 3.0, "max_sequence_length": language.ROOM},
    "qwen-image-21": _BIG,
    "lumina2": _BIG | {"guidance_scale": 3.0, "system_prompt": "", "max_sequence_length": 48},
    "ernie-image": _SIZE | {"guidance_scale": 3.0, "use_pe": False},
    "krea2": _SIZE | {"guidance_scale": 3.0, "max_sequence_length": language.ROOM},
    "flux3": _SIZE,
}
