"""Where an experiment trains: the sites of an arm, and the modules of the model that they stand for.

Papers locate one side of attention and train another, and compare with nothing but "all layers". Here every arm is the
same command: the located sites, as many random ones, as many of the least effect, every site, or all attention.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from palimpsest_base.suggest import nearest
from steering import Host, Pack
from steering.values import Projected
from tuning.errors import BadArm

__all__ = ["ARMS", "Arm", "Side", "arm_of", "matched_rank", "parameters_of", "target_modules"]

Side = Literal["text", "image", "both", "block"]
ARMS = ("located", "random", "least", "sites", "attention")
_SIDES: dict[str, tuple[Projected, ...]] = {
    "text": ("keys", "values"),
    "image": ("queries", "result"),
    "both": ("queries", "keys", "values", "result"),
}
_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")


@dataclass(frozen=True, slots=True)
class Arm:
    """What is trained: `modules`, linear layers of the denoiser by name, of `sites` (none for all attention)."""

    name: str
    sites: tuple[str, ...]
    modules: tuple[str, ...]


def arm_of(host: Host, name: str, *, pack: Pack | None = None, side: Side = "text", seed: int = 0) -> Arm:
    """The arm of a name of `ARMS`, or of site names joined by commas.

    pack: whose sites are the located ones and whose scores say which are the least; `seed` draws the random ones, none
    of which is a located one as long as there are enough others.

    Raises: BadArm.
    """
    names = [s.name for s in host.sites if "/" not in s.name]
    if name == "attention":
        return Arm(name, (), _attention(host.denoiser))
    if name == "sites":
        return Arm(name, tuple(names), target_modules(host, names, side))
    if name in ARMS:
        if pack is None:
            raise BadArm(f"arm `{name}` needs a pack that says where the concept sits")
        sites = _chosen(name, names, pack, seed)
    else:
        sites = [part.strip() for part in name.split(",")]
    return Arm(name, tuple(sites), target_modules(host, sites, side))


def target_modules(host: Host, sites: Sequence[str], side: Side) -> tuple[str, ...]:
    """The exact names of the linear layers of sites that PEFT trains, in execution order.

    Text: what makes keys and values of text. Image: queries, and the projection of the result. Block: every linear
    layer of the block around the site, its own attention and its feed-forward part included.

    Raises: BadArm, for an unknown site, or one that has no such layer.
    """
    known = [s.name for s in host.sites]
    found: list[str] = []
    for name in sites:
        if name not in known:
            raise BadArm(f"unknown site `{name}` for host `{host.name}`; nearest: `{nearest(name, known, alike=0.0)}`")
        if side == "block":
            around = name.rpartition(".")[0]
            here = [f"{around}.{n}" for n, m in host.denoiser.get_submodule(around).named_modules() if _linear(m)]
        else:
            places = host.projections(name)
            here = [places[where] for where in _SIDES[side] if where in places]
        if not here:
            raise BadArm(f"site `{name}` has no projection of its {side} side to train")
        found += here
    return tuple(dict.fromkeys(found))


def parameters_of(denoiser: nn.Module, modules: Sequence[str], rank: int) -> int:
    """How many parameters adapters of a rank have at these modules."""
    layers = (denoiser.get_submodule(name) for name in modules)
    return sum(rank * (m.in_features + m.out_features) for m in layers if isinstance(m, nn.Linear))


def matched_rank(denoiser: nn.Module, arm: Arm, budget: int) -> int:
    """The rank, at least 1, at which an arm has as many parameters as `budget`, or the nearest number."""
    return max(1, round(budget / parameters_of(denoiser, arm.modules, 1)))


def _attention(denoiser: nn.Module) -> tuple[str, ...]:
    ends = tuple(f".{part}" for part in _ATTENTION)
    return tuple(n for n, m in denoiser.named_modules() if isinstance(m, nn.Linear) and n.endswith(ends))


def _linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def _chosen(name: str, names: Sequence[str], pack: Pack, seed: int) -> list[str]:
    located = [n for n in pack.sites if n in names]
    if name == "located":
        return located
    others = [n for n in names if n not in located]
    if name == "random":
        spare = others if len(others) >= len(located) else list(names)
        drawn = set(random.Random(seed).sample(spare, len(located)))
        return [n for n in names if n in drawn]
    if pack.scores is None:
        raise BadArm(f"arm `least` needs a pack with measured scores, and `{pack.concept}` has none")
    effect = dict(zip(pack.site_names, torch.nan_to_num(pack.scores).mean(1).tolist(), strict=True))
    least = set(sorted(names, key=lambda n: effect[n])[: len(located)])
    return [n for n in names if n in least]
