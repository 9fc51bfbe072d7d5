"""Attention as plain matrix products, for training on a CPU.

On a CPU the backward pass of the fused kernel takes most of a step: at 301 tokens a step of joint attention takes 1.7
times as long with it. Inside `plain_attention`, every call of fused attention is computed as products and a softmax,
whichever processors the model has.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["plain_attention"]


def plain_attention() -> AbstractContextManager[object]:
    """A context in which `scaled_dot_product_attention` is computed without its fused kernel."""
    return _Plain()


class _Plain(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        run = _attend if func is F.scaled_dot_product_attention else func
        return run(*args, **(kwargs or {}))


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What `scaled_dot_product_attention` computes for [b, heads, n, d] and a mask that is added or allows."""
    if dropout_p or is_causal or enable_gqa:
        raise NotImplementedError("plain attention has no dropout, no causal mask and no grouped queries")
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if attn_mask is not None:
        allows = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, float("-inf")) if allows else scores + attn_mask
    return scores.softmax(-1).to(value.dtype) @ value
