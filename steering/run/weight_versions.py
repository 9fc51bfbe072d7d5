"""Cheap versions of a module's weights, for caches that must be dropped when the weights or adapters change."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import nn

__all__ = ["base_version", "weight_version"]


def weight_version(module: nn.Module | None) -> Hashable:
    """A value that changes when the module's weights, adapters or their scales change.

    It covers each tensor's identity and torch's in-place version counter, not the values: a change through `.data` that
    keeps storage and counter is not noticed.
    """
    if module is None:
        return None
    loras = hash(tuple(_tensor(t) for name, t in module.named_parameters() if ".lora_" in name))
    return base_version(module), loras, tuple(_adapter(m) for m in _adapted(module))


def base_version(module: nn.Module) -> Hashable:
    """A value that changes when the module's own weights change, or adapters are merged into them; not when adapters
    come, go, or are switched on and off beside them."""
    tensors = [t for name, t in module.named_parameters() if ".lora_" not in name]
    merged = tuple(n for n, m in enumerate(_adapted(module)) if getattr(m, "merged", False))
    return hash(tuple(_tensor(t) for t in (*tensors, *module.buffers()))), merged


def _adapted(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if hasattr(m, "active_adapters") and hasattr(m, "scaling")]


def _tensor(tensor: torch.Tensor) -> Hashable:
    return id(tensor), tensor.data_ptr() if tensor.device.type != "meta" else 0, _version(tensor)


def _version(tensor: torch.Tensor) -> int:
    try:
        return int(tensor._version)
    except RuntimeError:  # inference tensors keep no version
        return 0


def _adapter(layer: object) -> Hashable:
    active, scaling = layer.active_adapters, layer.scaling  # type: ignore[attr-defined]
    merged, off = getattr(layer, "merged", False), getattr(layer, "disable_adapters", False)
    return tuple(active), tuple(sorted(scaling.items())), bool(merged), bool(off)
