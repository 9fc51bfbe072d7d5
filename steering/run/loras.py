"""Ordinary LoRA files on a pipeline: loaded once, and off unless a block switches one on.

diffusers and peft load them and compute with them. A pipeline whose class has no `load_lora_weights` (PixArt), and keys
as peft itself saves them, go through peft alone. What is off costs nothing and changes nothing: peft then calls the
layer that was there before.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from palimpsest_base.suggest import did_you_mean, nearest
from steering.errors import BadLora
from steering.run.prepared import PreparedPipeline

__all__ = ["LORA_HEADER", "LoraFile", "check_lora", "find_lora", "load_lora", "lora_tensors", "switched"]

LORA_HEADER = "lora_adapter_metadata"  # diffusers' name of it

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_PEFT = "base_model.model."  # what peft puts before the names of modules
_OF_CONFIG = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias")
_Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA that a host has loaded. `digest`: sha256 of the file."""

    name: str
    file: Path
    digest: str


def find_lora(path: str | Path) -> Path:
    """The one safetensors file at a path, which is the file itself or the folder with it. Raises: BadLora."""
    place = Path(path)
    if place.is_dir():
        found = sorted(place.glob("*.safetensors"))
        if len(found) > 1:
            names = ", ".join(f"`{f.name}`" for f in found)
            raise BadLora(f"the folder `{place}` of an adapter must hold one safetensors file, got {names}")
        pickled = sorted(f for f in place.iterdir() if f.suffix in _PICKLED)
        if not found and not pickled:
            raise BadLora(f"the folder `{place}` of an adapter must hold a safetensors file, got none")
        place = found[0] if found else pickled[0]
    if place.suffix in _PICKLED:
        raise BadLora(
            f"an adapter must be a safetensors file, got `{place}`; a pickle may run code when it is read, so save it"
            " again as safetensors"
        )
    if not place.is_file():
        raise BadLora(f"there is no adapter at `{place}`")
    if place.suffix != ".safetensors":
        raise BadLora(f"an adapter must be a safetensors file, got `{place}`")
    return place


def check_lora(file: Path) -> None:
    """Nothing, when a file is whole and holds a LoRA, by its header. Raises: BadLora."""
    try:
        with safe_open(str(file), framework="pt") as held:
            keys = list(held.keys())
    except (OSError, SafetensorError) as error:
        raise BadLora(f"`{file}` is not a whole safetensors file: {error}") from error
    if not any(".lora_A." in k or ".lora_down." in k for k in keys):
        near = f", got `{keys[0]}` and others" if keys else ", got none"
        raise BadLora(f"`{file}` must hold the tensors of a LoRA (`...lora_A.weight`){near}")


def load_lora(prepared: PreparedPipeline, name: str, path: str | Path) -> LoraFile:
    """A LoRA on a pipeline, which is off, as are all other adapters that come with it. Raises: BadLora."""
    file = find_lora(path)
    check_lora(file)
    pipe = prepared.pipe
    if any(name in layer.scaling for layer in _layers(pipe)):
        raise BadLora(f"adapters of a host must have different names, got `{name}` twice")
    tensors, told = lora_tensors(file)
    metadata = {key.rpartition(".")[2]: value for key, value in told.items()}
    broken = next((k for k, t in tensors.items() if not bool(torch.isfinite(t).all())), None)
    if broken is not None:
        raise BadLora(f"`{broken}` of the adapter `{file}` must be finite, got nan or inf")
    bare = _check_fit(prepared, file, tensors)
    before = [(layer, _state(layer)) for layer in _layers(pipe)]
    try:
        if bare or not hasattr(pipe, "load_lora_weights"):
            _inject(prepared, name, tensors, metadata | _config_beside(file))
        else:
            pipe.load_lora_weights(
                str(file.parent), weight_name=file.name, adapter_name=name, local_files_only=True, use_safetensors=True
            )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the libraries raise errors of many kinds for what does not fit
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadLora(f"the adapter `{file}` cannot be loaded on `{type(pipe).__name__}`: {first}") from error
    finally:
        for layer in _layers(pipe):
            layer.enable_adapters(False)
        for layer, state in before:
            _restore(layer, state)
    if not any(name in layer.scaling for layer in _layers(prepared.denoiser)):
        raise BadLora(f"no tensor of the adapter `{file}` fits `{type(prepared.denoiser).__name__}`")
    return LoraFile(name, file, hashlib.sha256(file.read_bytes()).hexdigest())


@contextmanager
def switched(pipe: Any, name: str, scale: float) -> Iterator[None]:
    """A loaded LoRA is on at this scale, alone; afterwards everything is as it was before, whatever happens. Raises:
    BadLora."""
    known = dict.fromkeys(adapter for layer in _layers(pipe) for adapter in layer.scaling)
    if name not in known:
        raise BadLora(f"unknown adapter `{name}`{did_you_mean(name, known)}")
    if not math.isfinite(scale):
        raise BadLora(f"the scale of adapter `{name}` must be a finite number, got `{scale}`")
    layers = [(layer, _state(layer)) for layer in _layers(pipe)]
    try:
        for layer, _ in layers:
            layer.enable_adapters(name in layer.scaling)
            if name in layer.scaling:
                layer.set_adapter([name], inference_mode=True)
                layer.set_scale(name, scale)
        yield
    finally:
        for layer, state in layers:
            _restore(layer, state)


# what a layer of peft is set to


def _layers(root: Any) -> list[Any]:
    """The layers of LoRAs in a module, or in all modules of a pipeline."""
    from peft.tuners.lora import LoraLayer

    roots = [root] if isinstance(root, nn.Module) else [p for p in root.components.values() if isinstance(p, nn.Module)]
    return [m for part in roots for m in part.modules() if isinstance(m, LoraLayer)]


def _state(layer: Any) -> tuple[list[str], bool, dict[str, float]]:
    return list(layer.active_adapters), bool(layer.disable_adapters), dict(layer.scaling)


def _restore(layer: Any, state: tuple[list[str], bool, dict[str, float]]) -> None:
    active, off, scaling = state
    layer.scaling.update(scaling)
    layer.enable_adapters(not off)
    layer.set_adapter(active, inference_mode=True)


# what a file holds


def lora_tensors(file: Path) -> tuple[_Tensors, dict[str, Any]]:
    """The tensors, and the configuration that diffusers keeps in the header, with the parts' names before its keys.

    Raises: BadLora.
    """
    try:
        with safe_open(str(file), framework="pt") as held:
            tensors = {key: held.get_tensor(key) for key in held.keys()}  # noqa: SIM118  (no mapping)
            kept = (held.metadata() or {}).get(LORA_HEADER)
        metadata: dict[str, Any] = json.loads(kept) if kept else {}
    except FileNotFoundError as error:
        raise BadLora(f"there is no LoRA at `{file}`") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise BadLora(f"`{file}` is not a LoRA: {type(error).__name__} {error}") from error
    return tensors, metadata


def _config_beside(file: Path) -> dict[str, Any]:
    """The configuration that peft keeps in a file of its own."""
    beside = file.parent / "adapter_config.json"
    try:
        config = json.loads(beside.read_text("utf-8")) if beside.is_file() else {}
    except ValueError as error:
        raise BadLora(f"`{beside}` must be JSON: {error}") from error
    return {key: value for key, value in config.items() if value is not None}


def _check_fit(prepared: PreparedPipeline, file: Path, tensors: _Tensors) -> bool:
    """Whether the keys are as peft saves them, without the name of a part. Raises: BadLora, when a pair of matrices
    has no module, or not the module's shape; other formats than this one are diffusers' to read."""
    bare = False
    for key, a in tensors.items():
        owner, found, _ = key.partition(".lora_A.")
        if not found:
            continue
        part, module_name, named = _place(prepared, owner)
        bare |= not named
        modules = dict(part.named_modules())
        module = modules.get(module_name)
        module = getattr(module, "base_layer", module)
        if module is None:
            near = nearest(module_name, modules, alike=0.0)
            raise BadLora(
                f"`{key}` of the adapter `{file}` has no module in `{type(part).__name__}`; nearest: `{near}`; is it"
                " for another model?"
            )
        b = tensors.get(key.replace(".lora_A.", ".lora_B."))
        want = tuple(getattr(module, "weight", a).shape)
        got = (b.shape[0] if b is not None else 0, *a.shape[1:])
        if b is None or want != got or b.shape[1] != a.shape[0]:
            raise BadLora(
                f"`{owner}` of the adapter `{file}` must change a weight {list(want)}, got one for {list(got)}; is it"
                " for another model?"
            )
    return bare


def _place(prepared: PreparedPipeline, owner: str) -> tuple[nn.Module, str, bool]:
    """The part of the pipeline and the module in it that a key names, and whether it names the part."""
    first, _, rest = owner.partition(".")
    part = prepared.pipe.components.get(first)
    if isinstance(part, nn.Module):
        return getattr(part, "_orig_mod", part), rest, True
    return prepared.denoiser, owner.removeprefix(_PEFT), False


def _inject(prepared: PreparedPipeline, name: str, tensors: _Tensors, metadata: Mapping[str, Any]) -> None:
    from diffusers.utils.peft_utils import get_peft_kwargs
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    own = f"{prepared.family.denoiser}."
    strange = next((k for k in tensors if _place(prepared, k)[0] is not prepared.denoiser), None)
    if strange is not None:
        raise BadLora(f"a LoRA here may change the denoiser only, got `{strange}`")
    weights = {key.removeprefix(_PEFT).removeprefix(own): tensor for key, tensor in tensors.items()}
    ranks = {f"^{key}": tensor.shape[1] for key, tensor in weights.items() if "lora_B" in key and tensor.ndim > 1}
    config = get_peft_kwargs(ranks, None, weights, model_state_dict=None)
    config |= {key: metadata[key] for key in _OF_CONFIG if key in metadata}
    inject_adapter_in_model(LoraConfig(**config), prepared.denoiser, adapter_name=name, state_dict=weights)
    left: Any = set_peft_model_state_dict(prepared.denoiser, weights, adapter_name=name)
    if left.unexpected_keys:
        raise ValueError(f"`{left.unexpected_keys[0]}` has no place in the model")
