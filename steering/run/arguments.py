"""The arguments of a denoiser's call, by row: one row of them, many equal rows, and other texts in them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from steering.families.description import Inputs

__all__ = ["arguments_of_row", "by_name", "repeated_arguments", "with_texts"]


def with_texts(inputs: Inputs, given: Mapping[str, Any], texts: Mapping[str, Any]) -> dict[str, Any]:
    """The denoiser's arguments by name with other texts in them, as an encoder gives them: text, mask, pooled."""
    kwargs = {**given, inputs.text: texts["text"]}
    if inputs.mask is not None:
        kwargs[inputs.mask] = texts["mask"]
    if inputs.pooled is not None:
        argument, *path = inputs.pooled
        kwargs[argument] = {**kwargs[argument], path[0]: texts["pooled"]} if path else texts["pooled"]
    return kwargs


def _row_of(value: Any, row: int, batch: int, *, lists: bool = False) -> Any:
    """The part of an argument that belongs to one row; what has no batch axis stays as it is. `lists`: lists of tensors
    have an entry a row, as in families that give each row its own length."""
    if isinstance(value, torch.Tensor):
        return value[row : row + 1].clone() if value.dim() and value.shape[0] == batch else value
    if isinstance(value, dict):
        return {k: _row_of(v, row, batch, lists=lists) for k, v in value.items()}
    if isinstance(value, list | tuple):
        if lists and _is_by_row(value, batch):
            return [value[row]]
        return type(value)(_row_of(v, row, batch, lists=lists) for v in value)
    return value


def _repeated(value: Any, rows: int, *, lists: bool = False) -> Any:
    """An argument of one row as that of `rows` equal ones; what has no batch axis stays as it is. `lists` as above."""
    if isinstance(value, torch.Tensor):
        return value.repeat(rows, *[1] * (value.dim() - 1)) if value.dim() and value.shape[0] == 1 else value
    if isinstance(value, dict):
        return {k: _repeated(v, rows, lists=lists) for k, v in value.items()}
    if isinstance(value, list | tuple):
        if lists and _is_by_row(value, 1):
            return list(value) * rows
        return type(value)(_repeated(v, rows, lists=lists) for v in value)
    return value


def repeated_arguments(inputs: Inputs, kwargs: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """A denoiser's arguments of one row, by name, as those of `rows` equal ones."""
    lists = isinstance(kwargs.get(inputs.text), list)
    return {k: v if k in inputs.shared else _repeated(v, rows, lists=lists) for k, v in kwargs.items()}


def arguments_of_row(inputs: Inputs, kwargs: Mapping[str, Any], row: int, batch: int) -> dict[str, Any]:
    """Those of one row of a denoiser's arguments, by name."""
    lists = isinstance(kwargs.get(inputs.text), list)
    return {k: v if k in inputs.shared else _row_of(v, row, batch, lists=lists) for k, v in kwargs.items()}


def by_name(denoiser: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a denoiser's call, all by name."""
    return dict(inspect.signature(denoiser.forward).bind(*args, **kwargs).arguments)


def _is_by_row(value: list[Any] | tuple[Any, ...], batch: int) -> bool:
    return len(value) == batch and all(isinstance(v, torch.Tensor) for v in value)
