"""How a pack's file holds its sentinel: directions as float16 tensors, the rest in the header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from steering.errors import BadPack
from steering.families.fingerprint import Fingerprint, Likeness
from steering.plans import Window
from steering.sentinel import Sentinel

__all__ = ["sentinel_from", "sentinel_header", "sentinel_tensors"]


def sentinel_tensors(sentinel: Sentinel) -> dict[str, torch.Tensor]:
    """The tensors of a sentinel by their names in the file."""
    path = torch.cat(list(sentinel.path.values()))
    named = {"keys": sentinel.keys, "values": sentinel.values, "path": path}
    named |= {} if sentinel.pooled is None else {"pooled": sentinel.pooled}
    return {f"sentinel.{name}": t.to("cpu", torch.float16).clone().contiguous() for name, t in named.items()}


def sentinel_header(sentinel: Sentinel) -> dict[str, Any]:
    """What is no tensor, as plain values; concept and host are the pack's."""
    return {
        "path": [[name, len(direction)] for name, direction in sentinel.path.items()],
        "window": [sentinel.window.start, sentinel.window.end],
        "text_bias": sentinel.text_bias,
        "path_bias": sentinel.path_bias,
        "evidence": dict(sentinel.evidence),
    }


def sentinel_from(
    header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], host: Fingerprint | Likeness
) -> Sentinel | None:
    """The sentinel of a pack's header and tensors; None, when it has none. Raises: KeyError, BadPack, BadPlan."""
    held = header.get("sentinel")
    if held is None:
        return None
    sites, widths = zip(*held["path"], strict=True)
    path = tensors["sentinel.path"]
    if path.shape != (sum(widths),):
        raise BadPack(f"path of a sentinel must be [{sum(widths)}], as wide as its sites, got {list(path.shape)}")
    return Sentinel(
        concept=header["concept"],
        made_for=host.digest if isinstance(host, Fingerprint) else "",
        keys=tensors["sentinel.keys"],
        values=tensors["sentinel.values"],
        text_bias=float(held["text_bias"]),
        path=dict(zip(sites, path.split(widths), strict=True)),
        path_bias=float(held["path_bias"]),
        window=Window(*held["window"]),
        evidence=held["evidence"],
        pooled=tensors.get("sentinel.pooled"),
    )
