"""The denoisers of released checkpoints, as their constructors take them: data, for tests on the meta device.

`millions` is the size of the built denoiser; it agrees with what each release states, which is how we know that these
arguments are theirs. `sites` counts places where text enters a block, `pooled` names the module where it enters the
modulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["RELEASED", "Released"]


@dataclass(frozen=True, slots=True)
class Released:
    """One released denoiser: whose pipeline, of which class, with what arguments, and what discovery must find."""

    pipeline: str
    denoiser: str
    config: Mapping[str, Any]
    millions: float
    sites: int
    pooled: str | None = None


_DOWN, _UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
_IF_DOWN, _IF_UP = "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnUpBlock2D"
_SD3 = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}

RELEASED: dict[str, Released] = {
    "stable-diffusion-v1-5": Released(
        pipeline="StableDiffusionPipeline",
        denoiser="UNet2DConditionModel",
        config={
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "down_block_types": (_DOWN, _DOWN, _DOWN, "DownBlock2D"),
            "up_block_types": ("UpBlock2D", _UP, _UP, _UP),
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        millions=859.5,
        sites=16,
    ),
    "stable-diffusion-2-1": Released(
        pipeline="StableDiffusionPipeline",
        denoiser="UNet2DConditionModel",
        config={
            "sample_size": 96,
            "block_out_channels": (320, 640, 1280, 1280),
            "down_block_types": (_DOWN, _DOWN, _DOWN, "DownBlock2D"),
            "up_block_types": ("UpBlock2D", _UP, _UP, _UP),
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        millions=865.9,
        sites=16,
    ),
    "stable-diffusion-xl-base-1.0": Released(
        pipeline="StableDiffusionXLPipeline",
        denoiser="UNet2DConditionModel",
        config={
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", _DOWN, _DOWN),
            "up_block_types": (_UP, _UP, "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        millions=2567.5,
        sites=70,
        pooled="add_embedding",
    ),
    "stable-diffusion-xl-refiner-1.0": Released(
        pipeline="StableDiffusionXLImg2ImgPipeline",
        denoiser="UNet2DConditionModel",
        config={
            "sample_size": 128,
            "block_out_channels": (384, 768, 1536, 1536),
            "down_block_types": ("DownBlock2D", _DOWN, _DOWN, "DownBlock2D"),
            "up_block_types": ("UpBlock2D", _UP, _UP, "UpBlock2D"),
            "transformer_layers_per_block": 4,
            "attention_head_dim": (6, 12, 24, 24),
            "cross_attention_dim": 1280,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2560,
        },
        millions=2259.5,
        sites=44,
        pooled="add_embedding",
    ),
    "IF-I-XL-v1.0": Released(
        pipeline="IFPipeline",
        denoiser="UNet2DConditionModel",
        config={
            "sample_size": 64,
            "in_channels": 3,
            "out_channels": 6,
            "layers_per_block": 3,
            "block_out_channels": (704, 1408, 2112, 2816),
            "down_block_types": ("ResnetDownsampleBlock2D", _IF_DOWN, _IF_DOWN, _IF_DOWN),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "up_block_types": (_IF_UP, _IF_UP, _IF_UP, "ResnetUpsampleBlock2D"),
            "attention_head_dim": 64,
            "cross_attention_dim": 2816,
            "cross_attention_norm": "group_norm",
            "encoder_hid_dim": 4096,
            "encoder_hid_dim_type": "text_proj",
            "addition_embed_type": "text",
            "addition_embed_type_num_heads": 64,
            "act_fn": "gelu",
            "resnet_time_scale_shift": "scale_shift",
        },
        millions=4304.7,
        sites=22,
        pooled="add_embedding",
    ),
    "stable-diffusion-x4-upscaler": Released(
        pipeline="StableDiffusionUpscalePipeline",
        denoiser="UNet2DConditionModel",
        config={
            "sample_size": 128,
            "in_channels": 7,
            "block_out_channels": (256, 512, 512, 1024),
            "down_block_types": ("DownBlock2D", _DOWN, _DOWN, _DOWN),
            "up_block_types": (_UP, _UP, _UP, "UpBlock2D"),
            "only_cross_attention": (True, True, True, False),
            "attention_head_dim": 8,
            "cross_attention_dim": 1024,
            "use_linear_projection": True,
            "num_class_embeds": 1000,
        },
        millions=473.4,
        sites=26,  # 16 second attentions, and 10 first ones that read text in place of the picture
    ),
    "PixArt-XL-2-1024-MS": Released(
        pipeline="PixArtAlphaPipeline",
        denoiser="PixArtTransformer2DModel",
        config={"sample_size": 128, "use_additional_conditions": True, "caption_channels": 4096},
        millions=611.3,
        sites=28,
    ),
    "Sana_600M_1024px": Released(
        pipeline="SanaPipeline",
        denoiser="SanaTransformer2DModel",
        config={
            "num_layers": 28,
            "num_attention_heads": 36,
            "num_cross_attention_heads": 16,
            "cross_attention_head_dim": 72,
            "cross_attention_dim": 1152,
        },
        millions=591.7,
        sites=28,
    ),
    "Sana_1600M_1024px": Released(
        pipeline="SanaPipeline",
        denoiser="SanaTransformer2DModel",
        config={"num_layers": 20},
        millions=1604.5,
        sites=20,
    ),
    "Sana_Sprint_1600M_1024px": Released(
        pipeline="SanaSprintPipeline",
        denoiser="SanaTransformer2DModel",
        config={"num_layers": 20, "guidance_embeds": True, "qk_norm": "rms_norm_across_heads"},
        millions=1610.2,
        sites=20,
    ),
    "stable-diffusion-3-medium": Released(
        pipeline="StableDiffusion3Pipeline",
        denoiser="SD3Transformer2DModel",
        config=_SD3,
        millions=2028.3,
        sites=24,
        pooled="time_text_embed",
    ),
    "stable-diffusion-3.5-medium": Released(
        pipeline="StableDiffusion3Pipeline",
        denoiser="SD3Transformer2DModel",
        config=_SD3 | {"pos_embed_max_size": 384, "qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13))},
        millions=2243.2,
        sites=24,
        pooled="time_text_embed",
    ),
    "stable-diffusion-3.5-large": Released(
        pipeline="StableDiffusion3Pipeline",
        denoiser="SD3Transformer2DModel",
        config=_SD3
        | {"num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432, "qk_norm": "rms_norm"},
        millions=8056.6,
        sites=38,
        pooled="time_text_embed",
    ),
    "FLUX.1-dev": Released(
        pipeline="FluxPipeline",
        denoiser="FluxTransformer2DModel",
        config={"guidance_embeds": True},
        millions=11901.4,
        sites=57,
        pooled="time_text_embed",
    ),
    "FLUX.1-schnell": Released(
        pipeline="FluxPipeline",
        denoiser="FluxTransformer2DModel",
        config={"guidance_embeds": False},
        millions=11891.2,
        sites=57,
        pooled="time_text_embed",
    ),
}
