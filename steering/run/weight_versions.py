"""Cheap versions of a module's weights, for caches that must be dropped when the weights or adapters change."""

from __future__ import annotations

from collections.abc import Hashable

from torch import nn

__all__ = ["weight_version"]


def weight_version(module: nn.Module | None) -> Hashable:
    """A value that changes when the module's weights, adapters or their scales change.

    It covers each tensor's identity and torch's in-place version counter, not the values: a change through `.data` that
    keeps storage and counter is not noticed.
    """
    if module is None:
        return None
    tensors = [*module.parameters(), *module.buffers()]
    weights = hash(tuple((id(t), t.data_ptr() if t.device.type != "meta" else 0, _version(t)) for t in tensors))
    adapters = tuple(_adapter(m) for m in module.modules() if hasattr(m, "active_adapters") and hasattr(m, "scaling"))
    return weights, adapters


def _version(tensor: object) -> int:
    try:
        return int(tensor._version)  # type: ignore[attr-defined]
    except RuntimeError:  # inference tensors keep no version
        return 0


def _adapter(layer: object) -> Hashable:
    active, scaling = layer.active_adapters, layer.scaling  # type: ignore[attr-defined]
    merged, off = getattr(layer, "merged", False), getattr(layer, "disable_adapters", False)
    return tuple(active), tuple(sorted(scaling.items())), bool(merged), bool(off)
