"""Hosts of the embedded models that tests load once.

A command, a page's block and a service each load their model, which takes more time than what many of them then do.
Tests that do not ask how a model is loaded get the host that an earlier one loaded, if that left it as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["LOADING", "kept_hosts"]

# the settings that say what is loaded, and how
LOADING = (
    "model", "models", "revision", "base", "variant", "app_dir", "plugins", "adapters", "device", "dtype",
    "quantization", "offload", "compile", "attention_backend", "vae_tiling", "vae_slicing", "threads",
)  # fmt: skip


@contextmanager
def kept_hosts() -> Iterator[None]:
    """In this block, loading an embedded model as it is gives the host of before, unless something has changed it."""
    from reference.folders import MODELS
    from steering import Host

    kept: dict[Any, tuple[Any, Host]] = {}
    load = Host.load

    def loaded(model: str | Path, *, dtype: Any = "own", place: Any = None, digests: Any = None, **more: Any) -> Host:
        options = {"place": place, "digests": digests, **more} | ({} if dtype == "own" else {"dtype": dtype})
        changed = {k for k, v in more.items() if v not in (None, (), True, "cpu")}
        if Path(model).resolve().parent != MODELS or changed or not _only_moves(place):
            return load(model, **options)
        key = (Path(model).resolve(), dtype)
        if key not in kept or _state(kept[key][1]) != kept[key][0]:
            host = load(model, **options)
            kept[key] = (_state(host), host)
        return kept[key][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Host, "load", loaded)
        yield


def _only_moves(place: Any) -> bool:
    """Whether settings leave a pipeline as it is read."""
    if place is None:
        return True
    settings = place.keywords["settings"]
    own = [n for n in LOADING if n not in ("model", "models", "threads")]
    return all(getattr(settings, n) in (None, (), False, "auto", "cpu", "none") for n in own)


def _state(host: Any) -> Any:
    """What of a host's networks a caller may have changed: weights, layers, hooks, modes."""
    from torch import nn

    networks = {name: part for name, part in host.pipe.components.items() if isinstance(part, nn.Module)}
    return (
        type(host.pipe.scheduler),
        [(n, k, float(t.double().sum()), t.dtype) for n, net in networks.items() for k, t in net.state_dict().items()],
        [(type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m))
         for net in networks.values() for m in net.modules()],
        [p.requires_grad for net in networks.values() for p in net.parameters()],
    )  # fmt: skip
