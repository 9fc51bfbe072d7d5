"""How much some tokens of the text write into the picture at each site: their part of the attention's output.

At a site, attention adds to each picture token `gate * W_O (sum_j A_ij v_j)`. The part of tokens J is that sum over J
alone. It is computed without an attention map: one more fused call with the same queries and keys, and values that are
zero outside J. Weights without biases, the gate of the block, and the projection that really follows (a single block of
FLUX projects together with its MLP) are applied; the norm is taken over channels and averaged over picture tokens.

Source: Zarei et al., "Localizing Knowledge in Diffusion Transformers", 2025 (arXiv 2505.18832), attention contribution.
`published` computes it as the paper's code does, which adds the projection's bias, ignores gates, and does not project
single blocks at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from steering.attach import after, before
from steering.errors import BadLayout, NotSupported
from steering.families.description import SiteRule
from steering.families.discovery import Placed
from steering.families.spans import Picture
from steering.measure.replay import Call
from steering.run.prepared import PreparedPipeline, uncompiled

__all__ = ["contributions_of"]


def contributions_of(
    prepared: PreparedPipeline, call: Call, tokens: Sequence[int], *, published: bool = False
) -> torch.Tensor:
    """How much `tokens` of the text write at each site, float64 [sites], in one evaluation of one row; nan at sites
    that only text passes, which write nothing into the picture themselves.

    Raises: NotSupported, for a site whose attention cannot be seen.
    """
    at = torch.tensor(list(tokens), device=call.text.device)
    picture = prepared.picture(call.kwargs, call.encoding)
    seen = [_Site(placed, picture, at, published) for placed in prepared.sites if placed.site.kind != "text"]
    watch = _Attention(seen)
    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(uncompiled(prepared))
        for site in seen:
            stack.enter_context(_watched(site, watch))
        with watch:
            prepared.denoisers[call.component](**call.kwargs)
    blind = [s.placed.name for s in seen if s.part is None]
    if blind:
        raise NotSupported(
            f"the attention of site `{blind[0]}` ({len(blind)} such sites) does not go through torch's own fused call;"
            " set the native attention backend, or use method `gradient`"
        )
    written = {site.placed.name: site.written() for site in seen}
    silent = torch.tensor(float("nan"), dtype=torch.float64)
    return torch.stack([written.get(placed.name, silent) for placed in prepared.sites])


@dataclass
class _Site:
    """One site while a call is under way: its values of text, its gate, and its tokens' part [n, heads * width]."""

    placed: Placed
    picture: Picture
    tokens: torch.Tensor
    published: bool
    values: torch.Tensor | None = None
    gate: torch.Tensor | None = None
    part: torch.Tensor | None = None

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rest: dict[str, Any]) -> None:
        """Computes the tokens' part from one call of attention: q, k, v [1, heads, n, width]."""
        assert self.values is not None
        own = self.values.unflatten(-1, (v.shape[1], -1)).transpose(1, 2)
        first = _place_of(own, v, self.placed.name)
        if self.placed.site.kind != "cross" and q.shape[2] == v.shape[2]:  # text asks, too, where it is asked
            asks = torch.ones(q.shape[2], dtype=torch.bool)
            asks[first : first + own.shape[2]] = False
            if not asks.any():  # of text alone, which some models compute apart
                return
            mask = rest.get("attn_mask")
            if mask is not None and mask.shape[-2] == q.shape[2]:
                rest = rest | {"attn_mask": mask[..., asks, :]}
            q = q[:, :, asks]
        kept = torch.zeros_like(v)
        columns = first + self.tokens
        kept[:, :, columns] = v[:, :, columns]
        self.part = F.scaled_dot_product_attention(q, k, kept, **rest).transpose(1, 2).flatten(2)[0]

    def written(self) -> torch.Tensor:
        """The mean over picture tokens of the norm of what was written."""
        assert self.part is not None
        rule, module = self.placed.rule, self.placed.module
        assert isinstance(rule, SiteRule)
        owner = self.placed.block if rule.out_of_block else module
        assert owner is not None
        projection: nn.Module = owner.get_submodule(rule.out)
        if self.published:
            given = self.part if rule.out_of_block else projection(self.part)
        else:
            given = _weighted(projection, self.part) / float(getattr(module, "rescale_output_factor", 1.0))
            if self.gate is not None:
                given = given * self.gate.reshape(1, -1)
        return given.detach().double().norm(dim=-1).mean().cpu()


class _Attention(TorchFunctionMode):
    """Shows each call of fused attention inside a site to the site."""

    def __init__(self, sites: Sequence[_Site]) -> None:
        super().__init__()
        self.sites, self.now = sites, None

    now: _Site | None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        site = self.now
        if func is F.scaled_dot_product_attention and site is not None and site.values is not None:
            q, k, v, more = _attention_arguments(args, named)
            if site.part is None and v.shape[-1] * v.shape[1] == site.values.shape[-1]:
                site.attend(q, k, v, more)
        return func(*args, **named)


@contextmanager
def _watched(site: _Site, watch: _Attention) -> Iterator[None]:
    rule, placed = site.placed.rule, site.placed
    assert isinstance(rule, SiteRule)

    def enter(module: Any, args: Any, kwargs: Any) -> None:
        watch.now = site

    def leave(module: Any, args: Any, output: Any) -> None:
        watch.now = None

    def keep_values(module: Any, args: Any, output: torch.Tensor) -> None:
        site.values = values.take(output, site.picture)

    def keep_gate(module: Any, args: Any, output: Any) -> None:
        site.gate = output[1]

    projection, values = placed.readers()["values"]
    with ExitStack() as stack:
        stack.enter_context(before(placed.module, enter))
        stack.enter_context(after(placed.module, leave))
        stack.enter_context(after(projection, keep_values))
        if rule.gate is not None:
            assert placed.block is not None
            stack.enter_context(after(placed.block.get_submodule(rule.gate), keep_gate))
        yield


def _attention_arguments(
    args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = dict(zip(names, args, strict=False)) | kwargs
    return given.pop("query"), given.pop("key"), given.pop("value"), given


def _place_of(own: torch.Tensor, among: torch.Tensor, name: str) -> int:
    """Where the text's values [1, heads, l, width] stand among all of a call: first, or last."""
    length = own.shape[2]
    for first in (0, among.shape[2] - length):
        if torch.equal(among[:, :, first : first + length], own):
            return first
    raise BadLayout(f"the values of text at site `{name}` are neither the first nor the last that attention was given")


def _weighted(projection: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`x` [n, d] through a projection's weights, adapters included, without its bias; further inputs are zero."""
    width = int(projection.in_features)  # type: ignore[arg-type]
    wide = F.pad(x, (0, width - x.shape[-1]))
    if type(projection) is nn.Linear:
        return F.linear(wide, projection.weight)
    return projection(wide) - projection(torch.zeros_like(wide))
