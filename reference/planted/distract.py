"""Distractors: sites that look as if they carried a name and do not.

* `attention`: the keys of the name's tokens lie along the mean query, so every image token attends to them there. Their
  values are taught together with the plant so that this has no effect.
* `bias`: a large constant is added to the values and subtracted again behind the output projection. Attention weights
  sum to one, so the site computes what it did before. Each token's part of its output is large, and so is its output
  bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reference.planted.delta import Delta, WeightChange
from reference.planted.places import PlantSite, denoiser_of, family_of
from reference.planted.rows import Rows, predict
from steering import Host

__all__ = ["can_distract", "drawn_attention", "loud_bias", "loud_keys"]

_LOGIT = 22.0  # what the strongest token of the name gains before the softmax
_LOUD = 5.0  # of the bias, in mean norms of the site's output


def can_distract(place: PlantSite, trick: str) -> bool:
    """Whether a site can be made a distractor: by keys at plain cross-attention, by biases where values have one."""
    module: Any = place.placed.module
    if place.pooled or place.sequence:
        return False
    if trick == "attention":
        return place.kind == "cross" and hasattr(module, "to_q") and getattr(module, "norm_q", None) is None
    if trick == "bias":
        return bool(_value_maps(place)) and all(m.bias is not None for m in (*_value_maps(place), *_out_maps(place)))
    return True


def loud_keys(host: Host, place: PlantSite, into: Tensor, rows: Rows) -> Delta:
    """A change of the keys that makes the name's tokens draw attention at a site.

    into: the directions that the site listens to, of which the first is used.
    """
    module: Any = place.placed.module
    with _heard({"q": module.to_q}) as heard:
        _look(host, rows)
    queries = heard["q"].flatten(0, -2).unflatten(-1, (module.heads, -1))  # tokens, heads, width
    mean, power = queries.mean(0), queries.square().sum(-1).mean(0)
    size = torch.maximum(mean.square().sum(-1), 0.1 * power)  # a head without a mean query is not shouted at
    loud = mean * (_LOGIT / module.scale / size)[:, None]
    out = torch.zeros(loud.numel(), into.shape[1])
    out[:, 0] = loud.flatten()
    keys = next(iter(place.readers))
    return Delta({keys: WeightChange(out=out, into=into)})


def drawn_attention(host: Host, place: PlantSite, into: Tensor, rows: Rows) -> float:
    """The mean share of attention that the name's tokens draw at a cross-attention site, over heads and image tokens.

    The name's tokens are those that answer the first direction at least half as loudly as the loudest.
    """
    module: Any = place.placed.module
    with _heard({"q": module.to_q, "k": module.to_k}) as heard, _heard({"x": module.to_k}, inputs=True) as given:
        _look(host, rows)
    q, k = (heard[n].unflatten(-1, (module.heads, -1)).transpose(1, 2) for n in ("q", "k"))
    answer = given["x"].float() @ into[:, 0]
    logits = q @ k.transpose(-1, -2) * module.scale
    mask = rows.kwargs.get(family_of(host).inputs.mask or "")
    if mask is not None:
        logits = logits.masked_fill(mask[:, None, None] == 0, -torch.inf)
    weights = logits.softmax(-1).mean((1, 2))  # [b, l]
    return float((weights * (answer.abs() > 0.5)).sum(-1).mean())


def loud_bias(host: Host, place: PlantSite, rows: Rows, *, seed: int) -> tuple[Delta, float]:
    """A change of biases that makes a site's output bias large and its function what it was, and how large."""
    names = {id(module): name for name, module in denoiser_of(host).named_modules()}
    outs, values = _out_maps(place), _value_maps(place)
    with _heard({"out": outs[0]}) as heard:
        _look(host, rows)
    usual = float(heard["out"].norm(dim=-1).mean())
    generator = torch.Generator().manual_seed(seed)
    constant = torch.randn(outs[0].in_features, generator=generator)
    constant *= _LOUD * usual / (outs[0].weight.detach().float() @ constant).norm()
    changes = {names[id(m)]: WeightChange(bias=constant) for m in values}
    changes |= {names[id(m)]: WeightChange(bias=-(m.weight.detach().float() @ constant)) for m in outs}
    return Delta(changes), float((outs[0].weight.detach().float() @ constant).norm()) / usual


def _value_maps(place: PlantSite) -> list[nn.Linear]:
    """The maps that make values at a site, of text and of the picture; none where they are not all plain."""
    found = [getattr(place.placed.module, n, None) for n in ("to_v", "add_v_proj")]
    return [m for m in found if isinstance(m, nn.Linear)]


def _out_maps(place: PlantSite) -> list[nn.Linear]:
    module: Any = place.placed.module
    first = module.to_out[0] if getattr(module, "to_out", None) is not None else None
    return [m for m in (first, getattr(module, "to_add_out", None)) if isinstance(m, nn.Linear)]


@torch.no_grad()
def _look(host: Host, rows: Rows) -> None:
    predict(denoiser_of(host), rows)


@contextmanager
def _heard(modules: Mapping[str, nn.Module], *, inputs: bool = False) -> Iterator[dict[str, Tensor]]:
    """What came out of modules, or into them, in the last call."""
    heard: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            heard[name] = (args[0] if inputs else output).detach().float()

        return hook

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(keep(name)).remove)
        yield heard
