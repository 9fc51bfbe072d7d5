"""A LoRA merged into its model's weights, as a plain folder: for those who must ship weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steering import Host
from steering.packs.lora import Adapter
from tuning.errors import NotKept

__all__ = ["merge_lora"]

_NAME = "palimpsest"


def merge_lora(host: Host, lora: Mapping[str, Adapter], folder: Path, *, scale: float = 1.0) -> Path:
    """Writes the pipeline with the LoRA in its weights to a new folder; the host's own weights stay as they are.

    Raises: NotKept, when the folder holds something, or cannot be written.
    """
    from peft import LoraConfig, LoraModel

    if folder.exists() and any(folder.iterdir()):
        raise NotKept(f"the merged model's folder must be empty, got `{folder}`")
    denoiser = host.denoiser
    kept = {name: _linear(denoiser, name).weight.detach().clone() for name in lora}
    ranks = {name: len(own.a) for name, own in lora.items()}
    config = LoraConfig(
        r=max(ranks.values()), lora_alpha=max(ranks.values()), target_modules=list(lora),
        rank_pattern=ranks, alpha_pattern=ranks,
    )  # fmt: skip
    needed = {name: p.requires_grad for name, p in denoiser.named_parameters()}
    holder: Any = LoraModel(denoiser, {_NAME: config}, _NAME)
    try:
        with torch.no_grad():
            for name, own in lora.items():
                layer: Any = denoiser.get_submodule(name)
                layer.lora_A[_NAME].weight.copy_(own.a)
                layer.lora_B[_NAME].weight.copy_(own.b * own.scale * scale)
        holder.merge_and_unload()
        host.pipe.save_pretrained(folder, safe_serialization=True)
        told = {f.name: getattr(host.defaults, f.name) for f in fields(host.defaults)}
        told["call"] = dict(host.defaults.call)
        (folder / "defaults.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise NotKept(f"cannot write `{error.filename or folder}`: {error.strerror}") from error
    finally:
        with torch.no_grad():
            for name, weight in kept.items():
                _linear(denoiser, name).weight.copy_(weight)
        for name, p in denoiser.named_parameters():
            p.requires_grad_(needed[name])
    return folder


def _linear(denoiser: nn.Module, name: str) -> nn.Linear:
    module: Any = denoiser.get_submodule(name)
    found: nn.Linear = module
    return found
