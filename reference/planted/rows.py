"""Batches made of captured denoiser calls: any rows of any calls as one call, with the text of other calls.

The code knows only those of a family's arguments that carry text. Arguments with a batch axis are stacked; the others
are taken from the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from steering import Call
from steering.families.description import Family

__all__ = ["Rows", "predict"]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Arguments of a denoiser for `count` rows."""

    kwargs: dict[str, Any]
    count: int

    @classmethod
    def of(cls, calls: Sequence[Call], family: Family) -> Rows:
        """The rows of captured calls, one each."""
        shared = family.inputs.shared
        kwargs = {
            k: calls[0].kwargs[k] if k in shared else _stack([c.kwargs[k] for c in calls]) for k in calls[0].kwargs
        }
        return cls(kwargs, len(calls))

    def take(self, index: Tensor, family: Family) -> Rows:
        """Some of the rows, in the order of `index`, with repetition if it repeats."""
        return self._each(lambda t: t.index_select(0, index) if t.dim() else t, family, len(index))

    def joined(self, *others: Rows, family: Family) -> Rows:
        """These rows, then the others'."""
        parts = (self, *others)
        shared = family.inputs.shared
        kwargs = {k: v if k in shared else _join([p.kwargs[k] for p in parts]) for k, v in self.kwargs.items()}
        return Rows(kwargs, sum(p.count for p in parts))

    def with_text(self, other: Rows, family: Family) -> Rows:
        """These rows reading the other's text, mask and pooled text."""
        inputs = family.inputs
        read = {k: other.kwargs[k] for k in (inputs.text, inputs.mask) if k is not None}
        return replace(self.with_pooled(other, family), kwargs=self.with_pooled(other, family).kwargs | read)

    def with_pooled(self, other: Rows, family: Family) -> Rows:
        """These rows with the other's pooled text, on families that have it."""
        if family.inputs.pooled is None:
            return self
        argument, *path = family.inputs.pooled
        mine, theirs = self.kwargs[argument], other.kwargs[argument]
        return replace(self, kwargs=self.kwargs | {argument: {**mine, path[0]: theirs[path[0]]} if path else theirs})

    def _each(self, change: Callable[[Tensor], Tensor], family: Family, count: int) -> Rows:
        shared = family.inputs.shared
        kwargs = {k: v if k in shared else _mapped(v, change) for k, v in self.kwargs.items()}
        return Rows(kwargs, count)


def predict(denoiser: nn.Module, rows: Rows) -> Tensor:
    """The denoiser's predictions for the rows [count, ...], float32."""
    out = denoiser(**rows.kwargs)
    told: Tensor = out[0] if isinstance(out, tuple) else out.sample
    return told.float()


def _stack(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat([v.reshape(1) if v.dim() == 0 else v for v in values])
    if isinstance(first, dict):
        return {k: _stack([v[k] for v in values]) for k in first}
    return first


def _join(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values)) if first.dim() else first
    if isinstance(first, dict):
        return {k: _join([v[k] for v in values]) for k in first}
    return first


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {k: _mapped(v, change) for k, v in value.items()}
    return value
