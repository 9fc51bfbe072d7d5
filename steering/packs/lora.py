"""LoRA files: the adapters in one, by module name, and the operators with which they ride as the plan of a request.

Files have the form in which diffusers and peft write them: `<component>.<module>.lora_A.weight` and `.lora_B.weight`,
with rank and alpha in the header (`lora_adapter_metadata`) or in tensors `<module>.alpha`. Other forms (kohya, LoKr,
DoRA) are refused; diffusers reads many of them, and what it saves is read here.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save

from steering.errors import BadLora, NotSupported
from steering.host import Host
from steering.run.loras import LORA_HEADER, lora_tensors
from steering.values import Operator

__all__ = ["Adapter", "operators_of_lora", "read_lora", "write_lora"]

_DENOISER = re.compile(r"^(unet|transformer)\.")
_TENSOR = re.compile(r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|alpha)")
_FEW = 3  # names in a message


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """What a LoRA adds to one linear module: `y = W x + scale B A x`, with a: [r, in] and b: [out, r], float32.

    Raises: BadLora, when shapes do not fit or a value is not finite.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.a.dim() != 2 or self.b.dim() != 2 or self.a.shape[0] != self.b.shape[1]:
            raise BadLora(f"A and B must be [r, in] and [out, r], got {list(self.a.shape)} and {list(self.b.shape)}")
        if not (math.isfinite(self.scale) and bool(torch.isfinite(self.a).all() and torch.isfinite(self.b).all())):
            raise BadLora("A, B and scale must be finite, got nan or inf")


def read_lora(path: str | Path) -> dict[str, Adapter]:
    """The adapters in a LoRA file, by the names of their modules in the denoiser.

    Modules of other components keep the component's name in front (`text_encoder.`). Raises: BadLora, when the file is
    not a whole LoRA; NotSupported, for a kind of adapter that is not `W x + scale B A x`.
    """
    tensors, header = lora_tensors(Path(path))
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        found = _TENSOR.fullmatch(name)
        if found is None:
            raise NotSupported(
                f"`{path}` holds `{name}`, where a LoRA of diffusers has `<module>.lora_A.weight` and `.lora_B.weight`;"
                " load the file with diffusers and save it with `save_lora_weights`"
            )
        modules.setdefault(found["module"], {})[found["part"]] = tensor.float()
    if not modules:
        raise BadLora(f"`{path}` is not a LoRA: it holds no tensor")
    try:
        return {_DENOISER.sub("", name): _adapter(name, parts, header) for name, parts in modules.items()}
    except BadLora as error:
        raise BadLora(f"`{path}` is not a whole LoRA: {error}") from error


def operators_of_lora(host: Host, lora: Mapping[str, Adapter]) -> dict[str, tuple[Operator, ...]]:
    """For each site its operators: what the LoRA does, as edits of one request. In a plan they need rows `both`.

    Sites of the host's first pipeline, in execution order. Raises: NotSupported, naming modules that are no projection
    of a site, so that the LoRA cannot ride as a plan; BadLora, for one of other widths than its module.
    """
    names = [site.name for site in host.sites if "/" not in site.name]
    places = [(site, where, module) for site in names for where, module in host.projections(site).items()]
    strange = sorted(lora.keys() - {module for _, _, module in places})
    if strange:
        few = ", ".join(f"`{name}`" for name in strange[:_FEW])
        more = f" and {len(strange) - _FEW} more" if len(strange) > _FEW else ""
        raise NotSupported(
            f"the LoRA changes {few}{more}, no projection of a site of host `{host.name}` (see `Host.projections`), so"
            " it cannot ride as a plan; load it into the pipeline"
        )
    found: dict[str, tuple[Operator, ...]] = {}
    for site, where, module in places:
        if module in lora:
            own = lora[module]
            _check_widths(own, host, module)
            operator = Operator(own.a, -own.scale * own.b.T, torch.zeros_like(own.a), where=where)
            found[site] = (*found.get(site, ()), operator)
    return found


def write_lora(
    path: str | Path, lora: Mapping[str, Adapter], *, component: str, card: Mapping[str, str] = MappingProxyType({})
) -> Path:
    """The path of the written file, which replaces an older one in one move; stock diffusers loads it.

    component: the denoiser's name in the pipeline, `unet` or `transformer` (`host.family.denoiser`). card: further
    entries of the header. Raises: BadLora.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise BadLora(f"a LoRA's file must end in `.safetensors`, got `{target.name}`")
    if not lora:
        raise BadLora("a LoRA must change at least one module, got none")
    tensors = {}
    for name, own in lora.items():
        for part, values in (("A", own.a), ("B", own.b)):
            tensors[f"{component}.{name}.lora_{part}.weight"] = values.to("cpu", torch.float32).clone().contiguous()
    header = {f"{component}.{name}": value for name, value in _config(lora).items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    told = {**card, "format": "pt", LORA_HEADER: json.dumps(header, sort_keys=True)}
    fresh.write_bytes(_sorted(save(tensors, metadata=told)))
    fresh.replace(target)
    return target


def _sorted(file: bytes) -> bytes:
    """A safetensors file with its header in order: the library writes entries of the metadata in a random one."""
    size = int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[8 + size :]


def _adapter(name: str, parts: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> Adapter:
    """The adapter of a module, `name` as it stands in the file."""
    missing = {"lora_A.weight", "lora_B.weight"} - parts.keys()
    if missing:
        raise BadLora(f"`{name}` has no `{min(missing)}`")
    a, b = parts["lora_A.weight"], parts["lora_B.weight"]
    try:
        return Adapter(a, b, _scale(name, len(a), parts.get("alpha"), header))
    except BadLora as error:
        raise BadLora(f"`{name}`: {error}") from error


def _scale(name: str, rank: int, alpha: torch.Tensor | None, header: Mapping[str, Any]) -> float:
    """The factor before B A: alpha by rank, of a tensor, of the header, or 1. Raises: NotSupported."""
    from peft.utils.other import get_pattern_key

    component = _DENOISER.match(name)
    prefix = component[0] if component else ""
    own = {key.removeprefix(prefix): value for key, value in header.items() if key.startswith(prefix)}
    if own.get("use_dora"):
        raise NotSupported(f"`{name}` is of a DoRA, which is not a low-rank change of its input")
    if alpha is not None:
        given = float(alpha)
    else:
        patterns = own.get("alpha_pattern") or {}
        key = get_pattern_key(list(patterns), name.removeprefix(prefix))
        given = float(patterns.get(key, own.get("lora_alpha", rank)))
    return given / (math.sqrt(rank) if own.get("use_rslora") else rank)


def _config(lora: Mapping[str, Adapter]) -> dict[str, Any]:
    """What peft's `LoraConfig` needs to know: usual rank and alpha, and those of modules that have others."""
    ranks = {name: len(own.a) for name, own in lora.items()}
    alphas = {name: own.scale * len(own.a) for name, own in lora.items()}
    (rank, _), (alpha, _) = Counter(ranks.values()).most_common(1)[0], Counter(alphas.values()).most_common(1)[0]
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
        "alpha_pattern": {name: a for name, a in alphas.items() if a != alpha},
        "target_modules": list(lora),
    }


def _check_widths(own: Adapter, host: Host, module: str) -> None:
    linear = host.denoiser.get_submodule(module)
    want, got = [linear.in_features, linear.out_features], [own.a.shape[1], own.b.shape[0]]
    if got != want:
        raise BadLora(
            f"the LoRA must read {want[0]} and change {want[1]} at `{module}` of host `{host.name}`, got"
            f" {got[0]} and {got[1]}; it is of another model"
        )
