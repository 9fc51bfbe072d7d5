"""Owns the tensors that the hooks read and count in: at fixed addresses, written between denoiser calls, read once at
the end.

The hooks hold no Python decision that depends on a plan: every site always does the same work on the same tensors, and
a row that nothing touches is exact by its own index. So one compiled graph serves every plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .errors import BadLayout, BadPlan
from .families import Placed
from .maths import Tables, edit_rows, swap_bias, swap_rows, take_rows
from .plans import Operator
from .program import COUNTED, Ints, Setting

__all__ = ["Bank", "Board", "Slate", "after_hook", "before_hook", "to_tables"]


@dataclass(frozen=True, slots=True)
class Bank:
    """Donors as the sites see them: text [c, l, d] and additive mask [c, 1, l]."""

    text: torch.Tensor
    mask: torch.Tensor


class Board:
    """The tensors of one call shape: `sites` x `batch` tables, a bank, counters."""

    def __init__(self, sites: int, batch: int, bank: Bank, wheres: Sequence[str]) -> None:
        device = bank.text.device
        self.own = torch.arange(batch, device=device)
        self.src = self.own.repeat(sites, 1)
        self.alpha = torch.ones(sites, batch, device=device)
        self.blends = False
        self.text = torch.zeros_like(bank.text)
        self.mask = torch.zeros_like(bank.mask)
        self.fired = torch.zeros(len(COUNTED), sites, batch, dtype=torch.int64, device=device)
        self.slot = {w: torch.zeros(sites, batch, dtype=torch.int64, device=device) for w in wheres}
        self.scale = {w: torch.zeros(sites, batch, device=device) for w in wheres}
        self.dose = torch.zeros(sites, batch, device=device)
        self.tables: dict[str, Tables] = {}
        self.key = self._key(sites, batch, bank, wheres)

    @staticmethod
    def _key(sites: int, batch: int, bank: Bank, wheres: Sequence[str]) -> tuple[Any, ...]:
        return (sites, batch, bank.text.shape, bank.text.dtype, bank.text.device, tuple(wheres))

    def fits(self, sites: int, batch: int, bank: Bank, wheres: Sequence[str]) -> bool:
        """True when another call of this shape may use the same tensors."""
        return self.key == self._key(sites, batch, bank, wheres)

    def load(self, bank: Bank, tables: dict[str, Tables]) -> None:
        """Takes a call's donors and operators, and sets the counters to zero."""
        self.text.copy_(bank.text)
        self.mask.copy_(bank.mask)
        self.tables = tables
        self.fired.zero_()
        self.dose.zero_()

    def write(self, setting: Setting) -> None:
        """Takes the tables of a step."""
        self.src.copy_(torch.from_numpy(setting.src))
        self.alpha.copy_(torch.from_numpy(setting.alpha))
        self.blends = setting.blends
        for where in self.slot:
            self.slot[where].copy_(torch.from_numpy(setting.slot[where]))
            self.scale[where].copy_(torch.from_numpy(setting.scale[where]))

    def read(self) -> tuple[Ints, np.ndarray]:
        """The counters, [3, L, B], and the doses, [L, B]: the only copy from the device."""
        return self.fired.cpu().numpy(), self.dose.cpu().numpy()


class Slate:
    """Where the hooks of a host find the board of the running call, or None; `armed` while a call with plans is under
    way."""

    def __init__(self) -> None:
        self.board: Board | None = None
        self.armed = False

    def now(self) -> Board | None:
        """The board, or None when nothing is to be done. Raises: BadLayout, when a plan waits and the call is not laid
        out."""
        if self.board is None and self.armed:
            raise BadLayout("the denoiser was called before the pipeline encoded its prompts and set its timesteps")
        return self.board

    def clear(self) -> None:
        """Takes the board away: nothing is steered any more."""
        self.board, self.armed = None, False


def to_tables(operators: Sequence[Operator], where: str, width: int, device: torch.device) -> Tables:
    """The operators of one place as e, d [k, r, d], offset [k, r], positive [k]; row 0 does nothing. Raises:
    BadPlan."""
    k, r = 1 + len(operators), max(o.e.shape[0] for o in operators)
    e, d, offset = torch.zeros(k, r, width), torch.zeros(k, r, width), torch.zeros(k, r)
    positive = torch.zeros(k, dtype=torch.bool)
    for n, o in enumerate(operators, start=1):
        if o.where != where:
            continue
        if o.e.shape[1] != width:
            raise BadPlan(f"operator must be {width} wide for the {where} of a site, got {o.e.shape[1]}")
        rank = o.e.shape[0]
        e[n, :rank], d[n, :rank] = o.e.float(), o.d.float()
        offset[n, :rank] = (o.e.float() * o.m.float()).sum(-1)
        positive[n] = o.gate == "positive"
    return e.to(device), d.to(device), offset.to(device), positive.to(device)


def before_hook(slate: Slate, index: int, placed: Placed) -> Callable[..., Any]:
    """A forward pre-hook that shows the site the text that the board says, wherever the caller put the argument."""
    rule, position, mask_position = placed.rule, placed.text, placed.mask
    mask_name = rule.mask.argument if rule.mask else None
    hidden = rule.mask.masked if rule.mask else 0.0
    name = placed.site.name

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        board = slate.now()
        if board is None:
            return None
        text = kwargs[rule.text] if rule.text in kwargs else args[position] if position < len(args) else None
        if text is None or text.shape[0] != board.own.shape[0] or text.shape[1:] != board.text.shape[1:]:
            got = None if text is None else list(text.shape)
            want = [board.own.shape[0], *board.text.shape[1:]]
            raise BadLayout(f"text at site `{name}` must be {want} as the call was laid out, got {got}")
        src, alpha = board.src[index], board.alpha[index].to(text.dtype)
        blend = torch.compiler.is_compiling() or board.blends  # one graph for all plans; eagerly, no work for nothing
        text = swap_rows(text, board.text, src, alpha) if blend else take_rows(text, board.text, src)
        board.fired[0, index].add_(src != board.own)
        put, named = list(args), dict(kwargs)
        mask = None
        if mask_name is not None and mask_position is not None:
            by_name = mask_name in kwargs
            mask = kwargs[mask_name] if by_name else args[mask_position] if mask_position < len(args) else None
            if mask is None:
                raise BadLayout(
                    f"site `{name}` was called without `{mask_name}`; a donor's mask could not travel with its text"
                )
            theirs = board.mask.to(mask.dtype)
            mask = swap_bias(mask, theirs, src, alpha) if blend else take_rows(mask, theirs, src)
            _put(put, named, mask_name, mask_position, mask)
        if "text" in board.tables:
            slot = board.slot["text"][index]
            text, size = edit_rows(text, board.tables["text"], slot, board.scale["text"][index])
            shown = torch.ones_like(size) if mask is None else (mask[:, 0] > hidden / 2).to(size.dtype)
            board.dose[index].add_((size * shown).sum(-1) / shown.sum(-1).clamp(min=1))
            board.fired[1, index].add_(slot > 0)
        _put(put, named, rule.text, position, text)
        return tuple(put), named

    return hook


def after_hook(slate: Slate, index: int) -> Callable[..., Any]:
    """A forward hook that edits the site's output as the board says."""

    def hook(module: Any, args: tuple[Any, ...], output: Any) -> Any:
        board = slate.now()
        if board is None or "output" not in board.tables:
            return None
        slot = board.slot["output"][index]
        output, size = edit_rows(output, board.tables["output"], slot, board.scale["output"][index])
        board.dose[index].add_(size.mean(-1))
        board.fired[2, index].add_(slot > 0)
        return output

    return hook


def _put(args: list[Any], kwargs: dict[str, Any], name: str, position: int, value: torch.Tensor) -> None:
    if name in kwargs or position >= len(args):
        kwargs[name] = value
    else:
        args[position] = value
