"""Owns what happens inside the model's forward pass: one hook for each way in which text is read.

Made once for each site; they look up the board of the running call, and without one they do nothing. None of them
decides anything by a plan (see `board`), none copies to or from a device, and each counts what it really replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .board import Board, Slate, table_key
from .discovery import Placed
from .errors import BadLayout, NotSupported
from .families import MaskRule, PooledRule, SiteRule
from .maths import edit_rows, swap_bias, swap_rows, take_rows
from .program import COUNTED

__all__ = ["cross_hook", "output_hook", "pooled_hook", "projection_hook", "stream_hook", "text_edit_hook"]

Hook = Callable[..., Any]


def cross_hook(slate: Slate, index: int, placed: Placed) -> Hook:
    """A forward pre-hook of a cross-attention site: shows it the text that the board says, mask included, and edits
    it."""
    rule = placed.rule
    assert isinstance(rule, SiteRule)
    position, name, width = placed.position(rule.text), placed.name, placed.text_width
    mask_argument = rule.mask.argument if rule.mask else "attention_mask"
    mask_position = placed.position(mask_argument)

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        board = slate.now()
        if board is None:
            return None
        given = _argument(args, kwargs, rule.text, position)
        text = given[0] if isinstance(given, tuple) else given  # an IP-Adapter's pictures stand behind the text
        _check(text, board, (board.tokens, width), name)
        mask = _argument(args, kwargs, mask_argument, mask_position)
        _check_mask(mask, rule.mask, name)
        put, named = list(args), dict(kwargs)
        if board.swaps:
            own_mask = mask
            text = _swapped(board, "swap", index, text, board.banks.get("text"))
            if own_mask is not None:
                mask = _swapped_mask(board, index, own_mask)
                _put(put, named, mask_argument, mask_position, mask)
            _count(board, "swap", index)
        if table_key("text", width) in board.tables:
            hidden = rule.mask.masked / 2 if rule.mask else 0.0
            shown = None if mask is None else mask[:, 0] > hidden
            text = _edited(board, "text", index, text, width, shown)
        _put(put, named, rule.text, position, (text, *given[1:]) if isinstance(given, tuple) else text)
        return tuple(put), named

    return hook


def text_edit_hook(slate: Slate, index: int, placed: Placed) -> Hook:
    """A forward pre-hook of a joint site: edits the text that its attention reads; the text stream stays as it is."""
    rule = placed.rule
    assert isinstance(rule, SiteRule)
    argument, leading, position, width = rule.text, rule.leading, placed.position(rule.text), placed.text_width

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        board = slate.now()
        if board is None or table_key("text", width) not in board.tables:
            return None
        whole = _argument(args, kwargs, argument, position)
        text = _edited(board, "text", index, whole[:, : board.tokens], width, None)
        put, named = list(args), dict(kwargs)
        text = torch.cat([text, whole[:, board.tokens :]], 1) if leading else text
        _put(put, named, argument, position, text)
        return tuple(put), named

    return hook


def projection_hook(slate: Slate, index: int, placed: Placed, what: str) -> Hook:
    """A forward hook of a joint site's projection of text: its rows are others' rows, or recorded ones. `what`: `keys`
    or `values`."""
    bank = f"{what}.{index}"
    counted = "swap" if what == "keys" else "value"
    leading = isinstance(placed.rule, SiteRule) and placed.rule.leading

    def hook(module: Any, args: Any, output: torch.Tensor) -> Any:
        board = slate.now()
        if board is None or not board.swaps:
            return None
        text = output[:, : board.tokens] if leading else output
        given = _swapped(board, "swap", index, text, board.banks.get(bank))
        _count(board, counted, index)
        return torch.cat([given, output[:, board.tokens :]], 1) if leading else given

    return hook


def stream_hook(slate: Slate, index: int, placed: Placed) -> Hook:
    """A forward pre-hook of the block around a joint site: its text stream is another row's (mode `pinned`)."""
    rule = placed.rule
    assert isinstance(rule, SiteRule)
    assert rule.stream is not None
    argument, position, name = rule.stream, placed.stream_position(rule.stream), placed.name

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        board = slate.now()
        if board is None or not board.pins:
            return None
        text = _argument(args, kwargs, argument, position)
        _check(text, board, (board.tokens,), name)
        put, named = list(args), dict(kwargs)
        _put(put, named, argument, position, _swapped(board, "pin", index, text, None))
        _count(board, "pin", index)
        return tuple(put), named

    return hook


def pooled_hook(slate: Slate, index: int, placed: Placed) -> Hook:
    """A forward pre-hook of the module where pooled text enters the timestep modulation."""
    rule = placed.rule
    assert isinstance(rule, PooledRule)
    argument, leading, position, name = rule.argument, rule.leading, placed.position(rule.argument), placed.name

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        board = slate.now()
        if board is None or "pooled" not in board.banks:
            return None
        whole, bank = _argument(args, kwargs, argument, position), board.banks["pooled"]
        width = bank.shape[-1]
        pooled = whole[..., :width]
        _check(pooled, board, tuple(bank.shape[1:]), name)
        given = _swapped(board, "swap", index, pooled, bank)
        _count(board, "swap", index)
        put, named = list(args), dict(kwargs)
        _put(put, named, argument, position, torch.cat([given, whole[..., width:]], -1) if leading else given)
        return tuple(put), named

    return hook


def output_hook(slate: Slate, index: int, placed: Placed) -> Hook:
    """A forward hook that edits the picture's part of a site's output as the board says."""
    rule, width = placed.rule, placed.output_width
    assert isinstance(rule, SiteRule)
    kind = rule.output

    def hook(module: Any, args: Any, output: Any) -> Any:
        board = slate.now()
        if board is None or table_key("output", width) not in board.tables:
            return None
        if kind == "first":
            return (_edited(board, "output", index, output[0], width, None), *output[1:])
        if kind == "after":
            own, rest = output[:, : board.tokens], output[:, board.tokens :]
            return torch.cat([own, _edited(board, "output", index, rest, width, None)], 1)
        if kind == "channels":
            tokens = output.flatten(2).transpose(1, 2)
            edited = _edited(board, "output", index, tokens, width, None)
            # strides as they were: convolutions round differently for another memory format
            return torch.empty_like(output).copy_(edited.transpose(1, 2).unflatten(2, output.shape[2:]))
        return _edited(board, "output", index, output, width, None)

    return hook


def _swapped(board: Board, channel: str, index: int, own: torch.Tensor, bank: torch.Tensor | None) -> torch.Tensor:
    src = board.src[channel][index]
    if torch.compiler.is_compiling() or board.blends:  # one graph for all plans; eagerly, no work for nothing
        return swap_rows(own, bank, src, board.alpha[channel][index].to(own.dtype))
    return take_rows(own, bank, src)


def _swapped_mask(board: Board, index: int, own: torch.Tensor) -> torch.Tensor:
    src, bank = board.src["swap"][index], board.banks.get("mask")
    bank = None if bank is None else bank.to(own.dtype)
    if torch.compiler.is_compiling() or board.blends:
        return swap_bias(own, bank, src, board.alpha["swap"][index].to(own.dtype))
    return take_rows(own, bank, src)


def _count(board: Board, what: str, index: int) -> None:
    channel = "pin" if what == "pin" else "swap"
    board.fired[COUNTED.index(what), index].add_(board.src[channel][index] != board.own)


def _edited(
    board: Board, where: str, index: int, x: torch.Tensor, width: int, shown: torch.Tensor | None
) -> torch.Tensor:
    """The edited activation; adds to the dose its projections' mean over the tokens that are shown [b, t]."""
    slot = board.slot[where][index]
    x, size = edit_rows(x, board.tables[table_key(where, width)], slot, board.scale[where][index])
    if shown is None:
        board.dose[index].add_(size.mean(-1))
    else:
        seen = shown.to(size.dtype)
        board.dose[index].add_((size * seen).sum(-1) / seen.sum(-1).clamp(min=1))
    board.fired[COUNTED.index(where), index].add_(slot > 0)
    return x


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], name: str, position: int) -> Any:
    return kwargs[name] if name in kwargs else args[position] if position < len(args) else None


def _put(args: list[Any], kwargs: dict[str, Any], name: str, position: int, value: Any) -> None:
    if name in kwargs or position >= len(args):
        kwargs[name] = value
    else:
        args[position] = value


def _check(text: Any, board: Board, shape: tuple[int, ...], name: str) -> None:
    rows = board.own.shape[0]
    if text is None or text.shape[0] != rows or tuple(text.shape[1 : 1 + len(shape)]) != shape:
        got = None if text is None else list(text.shape)
        raise BadLayout(f"text at site `{name}` must be {[rows, *shape]} as the call was laid out, got {got}")


def _check_mask(mask: Any, rule: MaskRule | None, name: str) -> None:
    if rule is not None and mask is None:
        raise BadLayout(
            f"site `{name}` was called without `{rule.argument}`; a donor's mask could not travel with its text"
        )
    if rule is None and mask is not None:
        raise NotSupported(f"site `{name}` was called with an attention mask, which this family is not known to take")
