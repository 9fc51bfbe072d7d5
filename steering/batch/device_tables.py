"""The tensors that the hooks read and count in. They have fixed addresses, are written between denoiser calls, and are
read once at the end.

The hooks hold no Python decision that depends on a plan: every site always does the same work on the same tensors, and
a row that nothing touches is exact by its own index. So one compiled graph serves every plan. Nor do they hold the
number of their site: each reads the tables of its own site, so that under regional compilation one graph serves every
block of a kind, as it does without steering.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steering.batch.row_program import CHANNELS, COUNTED, Ints, RowSetting
from steering.errors import BadLayout
from steering.families.spans import Picture
from steering.maths import OperatorTables
from steering.values import WHERES, Operator

__all__ = [
    "ActiveSite",
    "ActiveTables",
    "CommonTables",
    "DeviceTables",
    "SiteTables",
    "TablesKey",
    "operator_tables",
]


@dataclass(frozen=True, slots=True)
class TablesKey:
    """The shape of the tables; calls with equal keys use the same tensors.

    `banks`: name, shape and dtype of each bank; `operators`: places and widths that operators work at; `tokens`: of the
    text; `picture`: tokens of the picture in one sequence with text; `watched`: room for sentinels, and with any,
    `widths` of the sites' outputs.
    """

    sites: int
    batch: int
    tokens: int
    picture: int
    banks: tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
    operators: tuple[str, ...]
    channels: tuple[str, ...]
    device: torch.device
    watched: int = 0
    widths: tuple[int, ...] = ()


class CommonTables:
    """The tensors that all sites share: `own`, each row's own index [b], the numbers of tokens of text and picture, in
    which ways rows are shown others' text, banks of donors, tables of operators.

    They are separate from `DeviceTables`, so that the tables of a site can refer to them without a circle: tables that
    are not kept are then freed at once, with their banks.
    """

    def __init__(self, key: TablesKey) -> None:
        at = key.device
        self.tokens, self.picture = key.tokens, Picture(key.picture)
        self.swaps, self.pins = "swap" in key.channels, "pin" in key.channels
        self.own = torch.arange(key.batch, device=at)
        self.blends = False
        self.banks = {name: torch.zeros(shape, dtype=dtype, device=at) for name, shape, dtype in key.banks}
        self.operators: dict[str, OperatorTables] = {}
        self.pooled_width = 0  # of the operators of pooled text, where it leads a longer vector; 0: there are none
        self.watch = torch.zeros(key.batch, key.watched, device=at)  # 1 where a row counts for a sentinel


class DeviceTables:
    """The tensors of one call shape: `sites` x `batch` tables, banks of donors, counters.

    Banks by name: `text` [c, l, d] and `mask` [c, 1, l] of cross-attention hosts, and of single sites
    `pooled.<site>` [c, w] or [c, l, d], for recorded streams `keys.<site>` and `values.<site>` [c, l, d], and those of
    what goes with them. `by_site`: the tables of each site.
    """

    def __init__(self, key: TablesKey) -> None:
        at = key.device
        self.key = key
        self.common = CommonTables(key)
        self.banks = self.common.banks
        self.src = {c: self.common.own.repeat(key.sites, 1) for c in CHANNELS}
        self.alpha = {c: torch.ones(key.sites, key.batch, device=at) for c in CHANNELS}
        self.fired = torch.zeros(len(COUNTED), key.sites, key.batch, dtype=torch.int64, device=at)
        self.slot = {w: torch.zeros(key.sites, key.batch, dtype=torch.int64, device=at) for w in WHERES}
        self.scale = {w: torch.zeros(key.sites, key.batch, device=at) for w in WHERES}
        self.dose = torch.zeros(key.sites, key.batch, device=at)
        self.moved = torch.zeros(key.sites, key.batch, device=at)
        self.listening = torch.zeros(key.sites, key.batch, dtype=torch.int64, device=at)
        self.directions = {n: torch.zeros(key.watched, w, device=at) for n, w in enumerate(key.widths) if w}
        self.said = torch.zeros(key.sites, key.batch, key.watched, device=at)
        self.by_site = tuple(SiteTables(self, site) for site in range(key.sites))
        self._written: RowSetting | None = None

    def load(
        self,
        banks: Mapping[str, torch.Tensor],
        operators: dict[str, OperatorTables],
        directions: Mapping[int, torch.Tensor],
    ) -> None:
        """Loads a run's donors, operators and sentinels, and sets the counters to zero."""
        for name, values in banks.items():
            self.banks[name].copy_(values)
        self.common.operators = operators
        pooled = (int(t[0].shape[-1]) for key, t in operators.items() if key.startswith("pooled."))
        self.common.pooled_width = next(pooled, 0)
        self.fired.zero_()
        self.dose.zero_()
        self.moved.zero_()
        for site, values in directions.items():
            self.directions[site].copy_(values)
        self.said.zero_()
        self._written = None

    def write(self, setting: RowSetting) -> None:
        """Writes the setting of a call, unless it is the one that was written last."""
        if setting is self._written:
            return
        for c in CHANNELS:
            self.src[c].copy_(torch.from_numpy(setting.src[c]))
            self.alpha[c].copy_(torch.from_numpy(setting.alpha[c]))
        self.common.blends = setting.blends
        for where in self.slot:
            self.slot[where].copy_(torch.from_numpy(setting.slot[where]))
            self.scale[where].copy_(torch.from_numpy(setting.scale[where]))
        if self.key.watched:
            self.common.watch.copy_(torch.from_numpy(setting.watch))
            self.listening.copy_(torch.from_numpy(setting.hits[COUNTED.index("watch")]))
        self._written = setting

    def read(self) -> tuple[Ints, np.ndarray, np.ndarray, np.ndarray]:
        """The counters, [len(COUNTED), L, B], the doses and how far tokens were moved, [L, B], and what sentinels read,
        [L, B, k]: the only copy from the device."""
        counted = (self.fired, self.dose, self.moved, self.said)
        return tuple(table.cpu().numpy() for table in counted)  # type: ignore[return-value]


class SiteTables:
    """The tables of one site: views of its rows [b], and the banks that are its own, by name."""

    def __init__(self, whole: DeviceTables, site: int) -> None:
        self.common = whole.common
        self.src = {c: whole.src[c][site] for c in CHANNELS}
        self.alpha = {c: whole.alpha[c][site] for c in CHANNELS}
        self.fired = {what: whole.fired[n, site] for n, what in enumerate(COUNTED)}
        self.slot = {where: slots[site] for where, slots in whole.slot.items()}
        self.scale = {where: scales[site] for where, scales in whole.scale.items()}
        self.dose, self.moved = whole.dose[site], whole.moved[site]
        self.listening, self.said = whole.listening[site], whole.said[site]
        self.directions = whole.directions.get(site)
        at = f".{site}"
        self.recorded = {name.removesuffix(at): bank for name, bank in whole.banks.items() if name.endswith(at)}


class ActiveSite:
    """Where the hooks of one site find its tables of the running call."""

    def __init__(self, active: ActiveTables) -> None:
        self.active = active
        self.tables: SiteTables | None = None

    def now(self) -> SiteTables | None:
        """The tables, or None when nothing is to be done. Raises: BadLayout, when a plan is set and the rows of the
        call are not known yet."""
        if self.tables is None and self.active.armed:
            raise BadLayout("the denoiser was called before the pipeline encoded its prompts and set its timesteps")
        return self.tables


class ActiveTables:
    """The tables of the running call, or None, as the hooks of all sites see them; `armed` while a call with plans is
    running."""

    def __init__(self, sites: int) -> None:
        self.sites = tuple(ActiveSite(self) for _ in range(sites))
        self.armed = False

    def show(self, tables: DeviceTables | None) -> None:
        """Gives every site its part of the tables."""
        self.armed = self.armed or tables is not None
        for n, site in enumerate(self.sites):
            site.tables = None if tables is None else tables.by_site[n]

    def pause(self) -> None:
        """Nothing is steered until tables are shown again."""
        self.show(None)
        self.armed = False

    def clear(self) -> None:
        """Removes the tables: nothing is steered any more."""
        self.show(None)
        self.armed = False


def operator_tables(
    operators: Mapping[str, Sequence[Operator]], device: torch.device | Any
) -> dict[str, OperatorTables]:
    """For each place and width the operators as e [k, r, w], d [k, r, v], offset [k, r], positive [k]; row 0 does
    nothing."""
    return {key: _tables(of_it, device) for key, of_it in sorted(operators.items())}


def _roomy(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _tables(operators: Sequence[Operator], device: torch.device) -> OperatorTables:
    # sizes in powers of two: another operator or a little more rank fits the graphs that are there
    k, r = _roomy(1 + len(operators)), _roomy(max(o.e.shape[0] for o in operators))
    read, changed = operators[0].e.shape[1], operators[0].d.shape[1]
    e, d, offset = torch.zeros(k, r, read), torch.zeros(k, r, changed), torch.zeros(k, r)
    positive = torch.zeros(k, dtype=torch.bool)
    for n, o in enumerate(operators, 1):
        rank = o.e.shape[0]
        e[n, :rank], d[n, :rank] = o.e.float(), o.d.float()
        offset[n, :rank] = (o.e.float() * o.m.float()).sum(-1)
        positive[n] = o.gate == "positive"
    tables = e.to(device), d.to(device), offset.to(device), positive.to(device)
    for table in tables:  # one graph for any number of operators: adapters have one for each site and request
        torch._dynamo.maybe_mark_dynamic(table, 0)
    return tables
