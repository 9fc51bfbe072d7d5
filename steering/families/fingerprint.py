"""What a pack is bound to: a pipeline, a denoiser, its weights and its adapters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from steering.sites import Site
from steering.values import digest_of

if TYPE_CHECKING:
    from steering.host import Host

__all__ = ["Fingerprint", "HostFacts", "KeptDigests", "Likeness", "bound_to", "combined", "config_digest"]
__all__ += ["differences", "fingerprint_of", "joined_weights_digest", "weights_digest"]


_FUSED = ("to_qkv", "to_kv", "to_added_qkv")  # diffusers' names


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The identity of a host's model, to which a pack is bound.

    `weights`: sha256 of the denoiser's weights rounded to bfloat16, so that one model has one fingerprint in float32,
    bfloat16 and from files in half precision. `adapters`: `name:digest` of each active adapter, its scale included.
    """

    pipeline: str
    denoiser: str
    config: str
    weights: str
    adapters: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """One sha256 for all of it."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {
            "pipeline": self.pipeline,
            "denoiser": self.denoiser,
            "config": self.config,
            "weights": self.weights,
            "adapters": list(self.adapters),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Fingerprint:
        """The fingerprint that `to_json` gave."""
        return cls(**{**value, "adapters": tuple(value["adapters"])})

    def differences(self, other: Fingerprint) -> tuple[str, ...]:
        """The differences from `other`, in words."""
        mine, theirs = self.to_json(), other.to_json()
        return tuple(f"{k} `{_short(mine[k])}` is `{_short(theirs[k])}` here" for k in mine if mine[k] != theirs[k])


@dataclass(frozen=True, slots=True)
class Likeness:
    """The kind of model that a published pack is bound to, with any weights and adapters.

    The digests of a model that was not at hand are unknown. `facts` are the entries of its denoiser's configuration
    that are known for certain, each compared by itself; the others may be anything. A host of several pipelines is
    judged by its first.
    """

    pipeline: str
    denoiser: str
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", MappingProxyType(_plain(self.facts)))

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {"pipeline": self.pipeline, "denoiser": self.denoiser, "facts": dict(self.facts)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Likeness:
        """The likeness that `to_json` gave."""
        return cls(**value)

    def differences(self, pipeline: Sequence[str], denoiser: str, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The differences of a pipeline (its class, then those that this derives from) and its denoiser, in words; of
        another class, the class alone.

        A class derived from `pipeline` is as good as it.
        """
        if self.pipeline not in pipeline:
            return (f"pipeline `{self.pipeline}` is `{pipeline[0]}` here",)
        if denoiser != self.denoiser:
            return (f"denoiser `{self.denoiser}` is `{denoiser}` here",)
        here = _plain(config)
        return tuple(
            f"{name} `{json.dumps(want)}` is `{json.dumps(here[name]) if name in here else 'missing'}` here"
            for name, want in self.facts.items()
            if name not in here or here[name] != want
        )


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What packs are compared with, of a host as it was: without its weights, so it may be kept when these are gone.

    `pipeline`: the first pipeline's class, then those that this derives from.
    """

    name: str
    sites: tuple[Site, ...]
    global_sites: tuple[Site, ...]
    pipeline: tuple[str, ...]
    denoiser: str
    config: Mapping[str, Any]
    fingerprint: Fingerprint

    @classmethod
    def of(cls, host: Host) -> HostFacts:
        """The facts of a host as it is now. Its weights are read once if nobody knows their digest yet."""
        pipeline, denoiser, config = _kind(host)
        sites = host.sites, host.global_sites
        return cls(host.name, *sites, pipeline, denoiser, _plain(config), host.fingerprint)


def bound_to(value: Mapping[str, Any]) -> Fingerprint | Likeness:
    """The fingerprint or likeness that `to_json` gave. Raises: TypeError or KeyError, when it is neither."""
    return Likeness.from_json(value) if "facts" in value else Fingerprint.from_json(value)


def differences(bound: Fingerprint | Likeness, host: Host | HostFacts) -> tuple[str, ...]:
    """The differences between what a pack is bound to and a host as it is now, in words; a likeness needs no
    digests."""
    if isinstance(bound, Likeness):
        return bound.differences(*_kind(host))
    return bound.differences(host.fingerprint)


def _kind(host: Host | HostFacts) -> tuple[tuple[str, ...], str, Mapping[str, Any]]:
    """The classes of the first pipeline, its denoiser's class and configuration."""
    if isinstance(host, HostFacts):
        return host.pipeline, host.denoiser, host.config
    denoiser: Any = host.denoiser
    return tuple(c.__name__ for c in type(host.pipe).__mro__), type(denoiser).__name__, denoiser.config


def fingerprint_of(pipe: Any, denoisers: Mapping[str, nn.Module], weights: str | None = None) -> Fingerprint:
    """The fingerprint of a pipeline as it is now. denoisers: by component, the first one first; `weights` when their
    digest is known already."""
    first, *others = denoisers.values()
    configs = [config_digest(denoiser) for denoiser in denoisers.values()]
    beside = [f"{name}/{a}" for name, other in list(denoisers.items())[1:] for a in _adapters(other)]
    return Fingerprint(
        pipeline=type(pipe).__name__,
        denoiser=type(first).__name__,
        config=digest_of(configs) if others else configs[0],
        weights=weights or joined_weights_digest(denoisers.values()),
        adapters=(*_adapters(first), *beside),
    )


def joined_weights_digest(denoisers: Iterable[nn.Module]) -> str:
    """One digest of the weights of all denoisers of a pipeline; of one it is its own."""
    each = [weights_digest(denoiser) for denoiser in denoisers]
    return each[0] if len(each) == 1 else digest_of(each)


def combined(parts: Sequence[Fingerprint]) -> Fingerprint:
    """The fingerprint of a host of several pipelines: that of its parts, in order."""
    if len(parts) == 1:
        return parts[0]
    return Fingerprint(
        pipeline="+".join(p.pipeline for p in parts),
        denoiser="+".join(p.denoiser for p in parts),
        config=digest_of([p.config for p in parts]),
        weights=digest_of([p.weights for p in parts]),
        adapters=tuple(f"stage{n}:{a}" for n, p in enumerate(parts, 1) for a in p.adapters),
    )


def config_digest(denoiser: Any) -> str:
    """Sha256 of the denoiser's configuration, without what diffusers writes there about itself."""
    return digest_of({k: v for k, v in _plain(denoiser.config).items() if not k.startswith("_")})


def weights_digest(module: nn.Module) -> str:
    """Sha256 over names, shapes and values of a module's own weights.

    Adapters' are left out and named elsewhere, and so are fused projections, which repeat those that stand beside them.
    """
    total = hashlib.sha256()
    weights = _weights(module)
    modules = {name.rpartition(".")[0].replace(".base_layer", "") for name in weights}
    for name, tensor in sorted(weights.items()):
        owner, _, projection = name.rpartition(".")[0].rpartition(".")
        if ".lora_" in name or (projection in _FUSED and f"{owner}.to_k" in modules):
            continue
        total.update(f"{name.replace('.base_layer', '')} {tuple(tensor.shape)}".encode())
        for part in _inner(tensor):
            total.update(_bytes(part))
    return total.hexdigest()


def _inner(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors of values that a weight is made of: itself, or those inside one of a quantized class."""
    if type(tensor) in (torch.Tensor, torch.nn.Parameter) or not hasattr(tensor, "__tensor_flatten__"):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [part for name in names for part in _inner(getattr(tensor, name))]


def _weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's weights by name; those that accelerate has put aside for sequential offload from where its hooks keep
    them."""
    weights: dict[str, torch.Tensor] = dict(module.state_dict())
    for path, part in module.named_modules():
        hook = getattr(part, "_hf_hook", None)
        maps: list[Any] = [getattr(h, "weights_map", None) for h in getattr(hook, "hooks", (hook,))]
        for kept in (m for m in maps if m is not None):
            for name, parameter in part.named_parameters(recurse=False):
                if parameter.device.type == "meta":
                    weights[f"{path}.{name}".lstrip(".")] = kept[name]
    return weights


class KeptDigests:
    """Digests of weight files that were computed before, in a JSON file, by path, size, times and inode."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def get(self, weights: list[Path]) -> str | None:
        """The digest of these files as they are now, or None."""
        try:
            return json.loads(self.file.read_text()).get(self._key(weights))
        except (OSError, ValueError):
            return None

    def put(self, weights: list[Path], digest: str) -> None:
        """Keeps a digest for the next start."""
        try:
            known = json.loads(self.file.read_text())
        except (OSError, ValueError):
            known = {}
        known[self._key(weights)] = digest
        fresh = self.file.with_suffix(".new")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(known, indent=1, sort_keys=True))
        fresh.replace(self.file)

    @staticmethod
    def _key(weights: list[Path]) -> str:
        # the time of the last change, and the inode: whoever copies times with files sets the other one only
        stats = [(str(p.resolve()), p.stat()) for p in sorted(weights)]
        return digest_of([(n, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for n, s in stats])


def _bytes(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach()
    if plain.dtype in (torch.float32, torch.float16, torch.float64):
        plain = plain.to(torch.bfloat16)
    return plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _adapters(denoiser: nn.Module) -> tuple[str, ...]:
    found: dict[str, Any] = {}
    for name, layer in denoiser.named_modules():
        for adapter in _active(layer):
            scale = layer.scaling.get(adapter)
            found.setdefault(adapter, hashlib.sha256()).update(f"{name} {scale}".encode())
            for parameter_name, parameter in layer.named_parameters():
                if f".{adapter}." in f".{parameter_name}.":
                    found[adapter].update(_bytes(parameter))
    return tuple(f"{adapter}:{digest.hexdigest()[:16]}" for adapter, digest in sorted(found.items()))


def _active(layer: Any) -> tuple[str, ...]:
    if not (hasattr(layer, "scaling") and hasattr(layer, "active_adapters")) or getattr(
        layer, "disable_adapters", False
    ):
        return ()
    return tuple(layer.active_adapters)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as JSON would hold it: tuples and lists are one."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(config), default=str))
    return plain


def _short(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text[:12] + "..." if len(text) == 64 else text or "none"
