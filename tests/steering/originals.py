"""Weights in the layouts that models were first published in, from diffusers' own: the inverse of what diffusers reads.

`ldm_unet`, `ldm_vae`, `ldm_text`: Stable Diffusion's. `mmdit`: Stable Diffusion 3's transformer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["ldm_text", "ldm_unet", "ldm_vae", "mmdit"]

_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0"}
_RESNET |= {"conv2": "out_layers.3", "conv_shortcut": "skip_connection"}


def _renamed(state: Mapping[str, torch.Tensor], prefix: str, *rules: tuple[str, Any]) -> dict[str, torch.Tensor]:
    """`state` with each rule, a pattern and what stands in its place, applied once to every name."""
    found = {}
    for name, tensor in state.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[prefix + name] = tensor.clone().contiguous()
    return found


def ldm_unet(unet: Any) -> dict[str, torch.Tensor]:
    n = unet.config.layers_per_block + 1
    kinds = unet.config.up_block_types
    return _renamed(
        unet.state_dict(),
        "model.diffusion_model.",
        (r"\.resnets\.(\d)\.(\w+)", lambda m: f".resnets.{m[1]}.{_RESNET[m[2]]}"),
        (r"^time_embedding\.linear_1", "time_embed.0"),
        (r"^time_embedding\.linear_2", "time_embed.2"),
        (r"^conv_in", "input_blocks.0.0"),
        (r"^conv_norm_out", "out.0"),
        (r"^conv_out", "out.2"),
        (r"^down_blocks\.(\d)\.resnets\.(\d)", lambda m: f"input_blocks.{1 + int(m[1]) * n + int(m[2])}.0"),
        (r"^down_blocks\.(\d)\.attentions\.(\d)", lambda m: f"input_blocks.{1 + int(m[1]) * n + int(m[2])}.1"),
        (r"^down_blocks\.(\d)\.downsamplers\.0\.conv", lambda m: f"input_blocks.{1 + int(m[1]) * n + n - 1}.0.op"),
        (r"^mid_block\.resnets\.(\d)", lambda m: f"middle_block.{2 * int(m[1])}"),
        (r"^mid_block\.attentions\.0", "middle_block.1"),
        (r"^up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"output_blocks.{int(m[1]) * n + int(m[2])}.0"),
        (r"^up_blocks\.(\d)\.attentions\.(\d)", lambda m: f"output_blocks.{int(m[1]) * n + int(m[2])}.1"),
        (
            r"^up_blocks\.(\d)\.upsamplers\.0\.conv",
            lambda m: f"output_blocks.{int(m[1]) * n + n - 1}.{2 if 'CrossAttn' in kinds[int(m[1])] else 1}.conv",
        ),
    )


def ldm_vae(vae: Any) -> dict[str, torch.Tensor]:
    last = len(vae.config.block_out_channels) - 1
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    return _renamed(
        vae.state_dict(),
        "first_stage_model.",
        (r"conv_shortcut", "nin_shortcut"),
        (r"conv_norm_out", "norm_out"),
        (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
        (r"mid_block\.attentions\.0\.(\w+(\.0)?)(?=\.)", lambda m: f"mid.attn_1.{attention[m[1]]}"),
        (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
        (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
        (r"up_blocks\.(\d)\.resnets", lambda m: f"up.{last - int(m[1])}.block"),
        (r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample"),
    )


def ldm_text(encoder: Any) -> dict[str, torch.Tensor]:
    state = {
        name if name.startswith("text_model.") else f"text_model.{name}": t for name, t in encoder.state_dict().items()
    }
    return _renamed(state, "cond_stage_model.transformer.")


def mmdit(transformer: Any) -> dict[str, torch.Tensor]:
    state = dict(transformer.state_dict())
    final = len(transformer.transformer_blocks) - 1
    swapped = [f"transformer_blocks.{final}.norm1_context.linear", "norm_out.linear"]
    for name in (f"{base}.{kind}" for base in swapped for kind in ("weight", "bias")):
        state[name] = torch.cat(state[name].chunk(2)[::-1])
    for base in [
        name.removesuffix(".weight") for name in state if re.search(r"attn\d?\.(to_q|add_q_proj)\.weight$", name)
    ]:
        q, k, v = ([base.replace("to_q", f"to_{c}").replace("add_q", f"add_{c}")] for c in "qkv")
        for kind in ("weight", "bias"):
            parts = [state.pop(f"{each[0]}.{kind}") for each in (q, k, v)]
            state[f"{base}.{kind}"] = torch.cat(parts)
    return _renamed(
        state,
        "model.diffusion_model.",
        (r"^pos_embed\.pos_embed", "pos_embed"),
        (r"^pos_embed\.proj", "x_embedder.proj"),
        (r"^time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
        (r"^time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
        (r"^time_text_embed\.text_embedder\.linear_1", "y_embedder.mlp.0"),
        (r"^time_text_embed\.text_embedder\.linear_2", "y_embedder.mlp.2"),
        (r"^proj_out", "final_layer.linear"),
        (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
        (
            r"^transformer_blocks\.(\d+)\.attn\.(add_q_proj|to_add_out|norm_added_\w)",
            r"joint_blocks.\1.context_block.attn.\2",
        ),
        (r"^transformer_blocks\.(\d+)\.(attn\d?)\.", r"joint_blocks.\1.x_block.\2."),
        (r"\.(add_q_proj|to_q)\.", ".qkv."),
        (r"\.(to_add_out|to_out\.0)\.", ".proj."),
        (r"^transformer_blocks\.(\d+)\.norm1\.linear", r"joint_blocks.\1.x_block.adaLN_modulation.1"),
        (r"^transformer_blocks\.(\d+)\.norm1_context\.linear", r"joint_blocks.\1.context_block.adaLN_modulation.1"),
        (r"^transformer_blocks\.(\d+)\.ff\.net", r"joint_blocks.\1.x_block.mlp"),
        (r"^transformer_blocks\.(\d+)\.ff_context\.net", r"joint_blocks.\1.context_block.mlp"),
        (r"\.mlp\.0\.proj\.", ".mlp.fc1."),
        (r"_block\.mlp\.2\.", "_block.mlp.fc2."),
    )
