"""The released models that papers measured, as data: what is certain of their configurations, and their sites.

The weights' digests are unknown here. So `facts` has the entries by which a checkpoint is told from others of its
pipeline's class, and none that a release may write differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steering.plans import Pooled, Source

__all__ = ["FLUX", "IF", "PIXART", "SANA", "SD3", "SDXL", "Checkpoint"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A released model that a paper measured: what is certain of its configuration, and its sites in execution order.

    `pooled`, `source`: how a swap is made on it, as the paper did.
    """

    name: str
    pipeline: str
    denoiser: str
    facts: Mapping[str, Any]
    sites: tuple[str, ...]
    pooled: Pooled = "keep"
    source: Source = "text"


def _unet(*parts: tuple[str, int, int]) -> tuple[str, ...]:
    """Names of cross-attentions: of each part, its attentions, each with so many layers; 0: the attention itself."""
    return tuple(
        f"{part}.attentions.{a}" + (f".transformer_blocks.{t}.attn2" if layers else "")
        for part, attentions, layers in parts
        for a in range(attentions)
        for t in range(layers or 1)
    )


def _blocks(list_name: str, count: int, attention: str) -> tuple[str, ...]:
    return tuple(f"{list_name}.{i}.{attention}" for i in range(count))


SDXL = Checkpoint(
    name="stable-diffusion-xl-base-1.0",
    pipeline="StableDiffusionXLPipeline",
    denoiser="UNet2DConditionModel",
    facts={
        "sample_size": 128,
        "block_out_channels": [320, 640, 1280],
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
    },
    sites=_unet(
        ("down_blocks.1", 2, 2),
        ("down_blocks.2", 2, 10),
        ("mid_block", 1, 10),
        ("up_blocks.0", 3, 10),
        ("up_blocks.1", 3, 2),
    ),
)

IF = Checkpoint(
    name="IF-I-XL-v1.0",
    pipeline="IFPipeline",
    denoiser="UNet2DConditionModel",
    facts={
        "sample_size": 64,
        "layers_per_block": 3,
        "block_out_channels": [704, 1408, 2112, 2816],
        "cross_attention_dim": 2816,
        "encoder_hid_dim": 4096,
    },
    sites=_unet(
        *((f"down_blocks.{i}", 3, 0) for i in (1, 2, 3)),
        ("mid_block", 1, 0),
        *((f"up_blocks.{i}", 4, 0) for i in (0, 1, 2)),
    ),
)

SD3 = Checkpoint(
    name="stable-diffusion-3-medium",
    pipeline="StableDiffusion3Pipeline",
    denoiser="SD3Transformer2DModel",
    facts={
        "sample_size": 128,
        "num_layers": 24,
        "num_attention_heads": 24,
        "caption_projection_dim": 1536,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 2048,
        "qk_norm": None,  # 3.5 has one, and second attentions in some blocks
        "dual_attention_layers": [],
    },
    sites=_blocks("transformer_blocks", 24, "attn"),
    source="twin",
)

PIXART = Checkpoint(
    name="PixArt-XL-2-1024-MS",
    pipeline="PixArtAlphaPipeline",
    denoiser="PixArtTransformer2DModel",
    facts={
        "sample_size": 128,
        "num_layers": 28,
        "num_attention_heads": 16,
        "attention_head_dim": 72,
        "cross_attention_dim": 1152,
    },
    sites=_blocks("transformer_blocks", 28, "attn2"),
)

SANA = Checkpoint(
    name="Sana_1600M_1024px_BF16",
    pipeline="SanaPipeline",
    denoiser="SanaTransformer2DModel",
    facts={
        "sample_size": 32,
        "num_layers": 20,
        "num_attention_heads": 70,
        "num_cross_attention_heads": 20,
        "cross_attention_dim": 2240,
        "caption_channels": 2304,
        "qk_norm": None,  # SANA 1.5 has one
    },
    sites=_blocks("transformer_blocks", 20, "attn2"),
)

FLUX = Checkpoint(
    name="FLUX.1-dev",
    pipeline="FluxPipeline",
    denoiser="FluxTransformer2DModel",
    facts={
        "num_layers": 19,
        "num_single_layers": 38,
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": True,  # schnell has none
    },
    sites=_blocks("transformer_blocks", 19, "attn") + _blocks("single_transformer_blocks", 38, "attn"),
    pooled="donor",
    source="twin",
)
