"""Deltas, and their files: small changes of a model's weights that can be removed exactly.

A delta is pure data: for a linear map two thin factors in half precision (`weight + out @ into.T`), or a bias to add.
Removing a delta does not subtract it: the earlier weights are put back, bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reference.planted.places import denoiser_of
from reference.planted.plant import Plant
from steering import Host, PackMismatch

__all__ = [
    "LARGEST",
    "BadPlant",
    "Delta",
    "WeightChange",
    "applied",
    "load_plant",
    "load_plants",
    "planted",
    "save_plant",
]

LARGEST = 100_000  # bytes of a plant's file
_HEADER = "palimpsest.plant"


class BadPlant(ValueError):
    """A file that holds no plant, or a delta that fits no model."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightChange:
    """What is added to one linear map: `out` [d_out, r] times `into` [d_in, r] transposed, and `bias` [d_out]."""

    out: Tensor | None = None
    into: Tensor | None = None
    bias: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """Changes by the name of the module in the denoiser."""

    changes: Mapping[str, WeightChange] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """All of it by names that `from_tensors` reads: factors in half precision, biases as they are."""
        parts = {
            f"{name}.{part}": getattr(change, part)
            for name, change in self.changes.items()
            for part in ("out", "into", "bias")
            if getattr(change, part) is not None
        }
        return {
            name: t.detach().cpu().to(torch.float32 if name.endswith(".bias") else torch.float16).contiguous().clone()
            for name, t in parts.items()
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Delta:
        """The delta that `tensors` gave, in half precision."""
        changes: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            name, _, part = key.rpartition(".")
            changes.setdefault(name, {})[part] = tensor
        return cls({name: WeightChange(**parts) for name, parts in changes.items()})

    def joined(self, other: Delta) -> Delta:
        """Both deltas, which change no part of a module twice."""
        changes = dict(self.changes)
        for name, change in other.changes.items():
            mine = changes.get(name, WeightChange())
            assert not (mine.out is not None and change.out is not None), f"`{name}` is changed twice"
            changes[name] = WeightChange(
                out=change.out if mine.out is None else mine.out,
                into=change.into if mine.into is None else mine.into,
                bias=change.bias if mine.bias is None else mine.bias,
            )
        return Delta(changes)

    def rounded(self) -> Delta:
        """The delta as its file will give it back."""
        return Delta.from_tensors(self.tensors())


@contextmanager
def applied(host: Host, delta: Delta) -> Iterator[None]:
    """A context in which the host's denoiser has a delta; afterwards its weights are restored bit for bit.

    Raises: BadPlant, for a module or a shape that the denoiser does not have; then nothing is changed.
    """
    denoiser = denoiser_of(host)
    summands = [s for name, change in delta.changes.items() for s in _summands(denoiser, name, change)]
    before = [(parameter, parameter.detach().clone()) for parameter, _ in summands]
    try:
        with torch.no_grad():
            for parameter, added in summands:
                parameter.add_(added.to(parameter))
        torch.clear_autocast_cache()  # it holds what the weights were
        yield
    finally:
        with torch.no_grad():
            for parameter, value in before:
                parameter.copy_(value)
        torch.clear_autocast_cache()


def _summands(denoiser: nn.Module, name: str, change: WeightChange) -> list[tuple[Tensor, Tensor]]:
    """Parameters and what is added to them."""
    try:
        module = denoiser.get_submodule(name)
    except AttributeError as error:
        raise BadPlant(f"a plant changes module `{name}`, which this denoiser does not have") from error
    if not isinstance(module, nn.Linear):
        raise BadPlant(f"a plant changes linear maps only, got `{name}`, a `{type(module).__name__}`")
    found: list[tuple[Tensor, Tensor]] = []
    if change.out is not None and change.into is not None:
        found.append((module.weight, change.out.float() @ change.into.float().T))
    if change.bias is not None:
        if module.bias is None:
            raise BadPlant(f"a plant changes the bias of `{name}`, which has none")
        found.append((module.bias, change.bias.float()))
    for parameter, added in found:
        if parameter.shape != added.shape:
            raise BadPlant(f"a plant's change of `{name}` must be {list(parameter.shape)}, got {list(added.shape)}")
    return found


def save_plant(plant: Plant, delta: Delta, folder: Path) -> Plant:
    """The plant with its file, `<folder>/<name>.safetensors`, which replaces an older one in one move.

    Raises: BadPlant, when the file would be too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{plant.name}.safetensors"
    fresh = target.with_suffix(".new")
    save_file(delta.tensors(), fresh, metadata={_HEADER: json.dumps(plant.to_json(), sort_keys=True)})
    if (size := fresh.stat().st_size) > LARGEST:
        fresh.unlink()
        raise BadPlant(f"a plant's file must have at most {LARGEST} bytes, got {size} for `{plant.name}`")
    fresh.replace(target)
    return replace(plant, file=target)


def load_plant(file: Path) -> Plant:
    """The plant in a file; its delta is read when it is applied. Raises: BadPlant."""
    try:
        with safe_open(str(file), framework="pt") as opened:
            header: Mapping[str, Any] = json.loads((opened.metadata() or {})[_HEADER])
        return Plant.from_json(header, file)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BadPlant(f"`{file}` is not a plant file: {error}") from error


def load_plants(folder: Path, *, recursive: bool = False) -> Sequence[Plant]:
    """The plants in a folder, by name; `recursive` also looks into its folders. Raises: BadPlant."""
    return tuple(load_plant(f) for f in sorted(folder.glob("**/*.safetensors" if recursive else "*.safetensors")))


@contextmanager
def planted(host: Host, plant: Plant) -> Iterator[Host]:
    """A context in which the host has the plant; afterwards its weights are restored bit for bit.

    Raises: PackMismatch, naming what differs, for another host than the plant was made in; BadPlant, without a file.
    """
    if plant.file is None:
        raise BadPlant(f"plant `{plant.name}` has no file; save it, or apply its delta with `applied`")
    if differ := plant.host.differences(host.fingerprint):
        raise PackMismatch(f"plant `{plant.name}` was not made in host `{host.name}`: {'; '.join(differ)}")
    with applied(host, Delta.from_tensors(load_file(plant.file))):
        yield host
