"""Owns stamps: cheap answers to "are these still the same weights", for caches that must never change a result."""

from __future__ import annotations

from collections.abc import Hashable

from torch import nn

__all__ = ["stamp"]


def stamp(module: nn.Module | None) -> Hashable:
    """Equal for equal calls only while nothing has changed the module's weights, adapters or their scales.

    Looks at each tensor's identity and torch's in-place version counter, not at values; a change through `.data` that
    keeps storage and counter is not seen.
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
