"""How much memory the weights of a model take."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from steering import Host

__all__ = ["bytes_of", "free_caches"]


def bytes_of(host: Host) -> int:
    """The bytes of all parameters and buffers of a host's pipelines, wherever they lie; what is shared counts once."""
    from torch import nn

    parts = [part for pipe in host.pipes for part in pipe.components.values() if isinstance(part, nn.Module)]
    tensors = (t for part in parts for each in (*part.parameters(), *part.buffers()) for t in _inner(each))
    storages = {t.untyped_storage().data_ptr() or id(t): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _inner(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The plain tensors of which one is made: a quantized one has several."""
    if hasattr(type(tensor), "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
        for name in names:
            yield from _inner(getattr(tensor, name))
    else:
        yield tensor


def free_caches() -> None:
    """Frees memory that nothing uses, on the host and on the device."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
