"""Owns the tensors that the hooks read and count in: at fixed addresses, written between denoiser calls, read once at
the end.

The hooks hold no Python decision that depends on a plan: every site always does the same work on the same tensors, and
a row that nothing touches is exact by its own index. So one compiled graph serves every plan. Nor do they hold the
number of their site: each reads its own share of the board, so that under regional compilation one graph serves every
block of a kind, as it does without us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steering.batch.row_program import CHANNELS, COUNTED, Ints, Setting
from steering.errors import BadLayout
from steering.maths import Tables
from steering.values import WHERES, Operator

__all__ = ["Board", "BoardKey", "Common", "Place", "Share", "Slate", "table_key", "to_tables"]


@dataclass(frozen=True, slots=True)
class BoardKey:
    """What decides the shape of a board; calls that agree in it use the same tensors.

    `banks`: name, shape and dtype of each bank; `tables`: the places that operators work at; `tokens`: of the text.
    """

    sites: int
    batch: int
    tokens: int
    banks: tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
    tables: tuple[str, ...]
    channels: tuple[str, ...]
    device: torch.device


class Common:
    """What a board holds for all sites: `own`, each row's own index [b], tokens of the text, in which ways rows are
    shown others' text, banks of donors, tables of operators.

    Apart from the board, so that a share can hold it: a board that is not kept is then freed at once, with its banks.
    """

    def __init__(self, key: BoardKey) -> None:
        at = key.device
        self.tokens = key.tokens
        self.swaps, self.pins = "swap" in key.channels, "pin" in key.channels
        self.own = torch.arange(key.batch, device=at)
        self.blends = False
        self.banks = {name: torch.zeros(shape, dtype=dtype, device=at) for name, shape, dtype in key.banks}
        self.tables: dict[str, Tables] = {}
        self.pooled_width = 0  # of the operators of pooled text; 0: there are none


class Board:
    """The tensors of one call shape: `sites` x `batch` tables, banks of donors, counters.

    Banks by name: `text` [c, l, d] and `mask` [c, 1, l] of cross-attention hosts, `pooled` [c, w] or [c, l, d], and for
    recorded streams `keys.<site>` and `values.<site>` [c, l, d].
    """

    def __init__(self, key: BoardKey) -> None:
        at = key.device
        self.key = key
        self.common = Common(key)
        self.banks = self.common.banks
        self.src = {c: self.common.own.repeat(key.sites, 1) for c in CHANNELS}
        self.alpha = {c: torch.ones(key.sites, key.batch, device=at) for c in CHANNELS}
        self.fired = torch.zeros(len(COUNTED), key.sites, key.batch, dtype=torch.int64, device=at)
        self.slot = {w: torch.zeros(key.sites, key.batch, dtype=torch.int64, device=at) for w in WHERES}
        self.scale = {w: torch.zeros(key.sites, key.batch, device=at) for w in WHERES}
        self.dose = torch.zeros(key.sites, key.batch, device=at)
        self.moved = torch.zeros(key.sites, key.batch, device=at)
        self.shares = tuple(Share(self, site) for site in range(key.sites))
        self._written: Setting | None = None

    def load(self, banks: Mapping[str, torch.Tensor], tables: dict[str, Tables]) -> None:
        """Takes a run's donors and operators, and sets the counters to zero."""
        for name, values in banks.items():
            self.banks[name].copy_(values)
        self.common.tables = tables
        self.common.pooled_width = next((int(t[0].shape[-1]) for k, t in tables.items() if k.startswith("pooled.")), 0)
        self.fired.zero_()
        self.dose.zero_()
        self.moved.zero_()
        self._written = None

    def write(self, setting: Setting) -> None:
        """Takes the tables of a call; those of the last one are not written again."""
        if setting is self._written:
            return
        for c in CHANNELS:
            self.src[c].copy_(torch.from_numpy(setting.src[c]))
            self.alpha[c].copy_(torch.from_numpy(setting.alpha[c]))
        self.common.blends = setting.blends
        for where in self.slot:
            self.slot[where].copy_(torch.from_numpy(setting.slot[where]))
            self.scale[where].copy_(torch.from_numpy(setting.scale[where]))
        self._written = setting

    def read(self) -> tuple[Ints, np.ndarray, np.ndarray]:
        """The counters, [len(COUNTED), L, B], the doses and how far tokens were moved, [L, B]: the only copy from the
        device."""
        return self.fired.cpu().numpy(), self.dose.cpu().numpy(), self.moved.cpu().numpy()


class Share:
    """What a board holds for one site: views of its rows [b], and the banks of its recorded keys and values."""

    def __init__(self, board: Board, site: int) -> None:
        self.common = board.common
        self.src = {c: board.src[c][site] for c in CHANNELS}
        self.alpha = {c: board.alpha[c][site] for c in CHANNELS}
        self.fired = {what: board.fired[n, site] for n, what in enumerate(COUNTED)}
        self.slot = {where: slots[site] for where, slots in board.slot.items()}
        self.scale = {where: scales[site] for where, scales in board.scale.items()}
        self.dose, self.moved = board.dose[site], board.moved[site]
        self.recorded = {what: board.banks.get(f"{what}.{site}") for what in ("keys", "values")}


class Place:
    """Where the hooks of one site find its share of the running call's board."""

    def __init__(self, slate: Slate) -> None:
        self.slate = slate
        self.share: Share | None = None

    def now(self) -> Share | None:
        """The share, or None when nothing is to be done. Raises: BadLayout, when a plan waits and the call is not laid
        out."""
        if self.share is None and self.slate.armed:
            raise BadLayout("the denoiser was called before the pipeline encoded its prompts and set its timesteps")
        return self.share


class Slate:
    """Shows the board of the running call, or None, to the places of all sites; `armed` while a call with plans is
    under way."""

    def __init__(self, sites: int) -> None:
        self.places = tuple(Place(self) for _ in range(sites))
        self.armed = False

    def show(self, board: Board | None) -> None:
        """Lets every site see its share of a board."""
        for site, place in enumerate(self.places):
            place.share = None if board is None else board.shares[site]

    def clear(self) -> None:
        """Takes the board away: nothing is steered any more."""
        self.show(None)
        self.armed = False


def table_key(where: str, width: int) -> str:
    """The name of the tables for activations of one width at one place; a U-Net has several widths."""
    return f"{where}.{width}"


def to_tables(operators: Sequence[Operator], device: torch.device | Any) -> dict[str, Tables]:
    """For each place and width the operators as e, d [k, r, w], offset [k, r], positive [k]; row 0 does nothing, nor do
    those of operators of other places and widths."""
    keys = {table_key(o.where, o.e.shape[1]): (o.where, o.e.shape[1]) for o in operators}
    return {key: _tables(operators, where, width, device) for key, (where, width) in sorted(keys.items())}


def _roomy(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _tables(operators: Sequence[Operator], where: str, width: int, device: torch.device) -> Tables:
    fitting = [(n, o) for n, o in enumerate(operators, 1) if (o.where, o.e.shape[1]) == (where, width)]
    # sizes in powers of two: another operator or a little more rank fits the graphs that are there
    k, r = _roomy(1 + len(operators)), _roomy(max(o.e.shape[0] for _, o in fitting))
    e, d, offset = torch.zeros(k, r, width), torch.zeros(k, r, width), torch.zeros(k, r)
    positive = torch.zeros(k, dtype=torch.bool)
    for n, o in fitting:
        rank = o.e.shape[0]
        e[n, :rank], d[n, :rank] = o.e.float(), o.d.float()
        offset[n, :rank] = (o.e.float() * o.m.float()).sum(-1)
        positive[n] = o.gate == "positive"
    return e.to(device), d.to(device), offset.to(device), positive.to(device)
