"""Owns what a host keeps of one pipeline between calls, and the way from plans to tensors and hooks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from steering.attach import after, before
from steering.batch.device_tables import Board, BoardKey, Place, Slate, to_tables
from steering.batch.donors import Encoding, Kept, pooled_bank, text_banks
from steering.batch.recorded_text import Stream, stream_size
from steering.batch.row_program import CHANNELS, Added, Ints, Program
from steering.errors import NotFired
from steering.families.description import Family, SiteRule
from steering.families.discovery import Placed, find_pooled, find_sites, is_fused
from steering.plans import Plan
from steering.run.hooks import cross_hook, output_hook, pooled_hook, projection_hook, stream_hook, text_edit_hook
from steering.run.weight_versions import stamp
from steering.values import WHERES, Donor

__all__ = ["Gear", "bank_capacity"]

_BOARDS = 4  # call shapes whose tensors are kept


class Gear:
    """One pipeline's parts, its sites, hooks made once, encoded donors, and boards to use again.

    `prefix` stands before the names of its sites; `encoder` is the pipeline that encodes prompts, which for a later
    stage without a text encoder of its own is an earlier one.
    """

    def __init__(self, pipe: Any, family: Family, *, prefix: str = "", encoder: Any = None) -> None:
        self.pipe, self.family, self.prefix = pipe, family, prefix
        self.encoder = encoder if encoder is not None else pipe
        component = getattr(pipe, family.denoiser)
        self.denoiser: nn.Module = getattr(component, "_orig_mod", component)
        self.sites = find_sites(family, self.denoiser, prefix)
        self.globals = find_pooled(family, self.denoiser, prefix)
        self.placed: tuple[Placed, ...] = (*self.sites, *self.globals)
        self.names = tuple(p.name for p in self.placed)
        self.kinds = tuple(p.site.kind for p in self.placed)
        self.slate = Slate(len(self.placed))
        self.donors: Kept[Donor] = Kept(_donor_size)
        self.streams: Kept[Stream] = Kept(stream_size, 2 * 2**30)
        self._boards: OrderedDict[BoardKey, Board] = OrderedDict()
        self._resident: tuple[ExitStack, tuple[int, ...]] | None = None

    @property
    def component(self) -> Any:
        """The denoiser as the pipeline calls it: itself, or a compiler's wrapper around it."""
        return getattr(self.pipe, self.family.denoiser)

    @property
    def resident(self) -> bool:
        """True when the hooks stay on the denoiser between calls, because it is compiled."""
        return self._resident is not None

    def settle_in(self) -> None:
        """Puts hooks on a compiled denoiser once and for all, and anew when an adapter has changed its modules; its
        graphs must have been traced with them."""
        if not _is_compiled(self.component, self.denoiser):
            return
        now = tuple(id(m) for p in self.sites for m in self._projections(p))
        if self._resident is not None and self._resident[1] != now:
            self.move_out()
        if self._resident is None:
            stack = ExitStack()
            for i, _ in enumerate(self.placed):
                self._hook(stack, i, {*CHANNELS, *WHERES})
            self._resident = (stack, now)

    def move_out(self) -> None:
        """Takes the hooks off a compiled denoiser."""
        if self._resident is not None:
            self._resident[0].close()
            self._resident = None

    @contextmanager
    def on_sites_of(self, program: Program) -> Iterator[None]:
        """The hooks that a program needs, on the sites that it touches; none when they are there for good."""
        with ExitStack() as stack:
            for index, ways in program.ways().items() if not self.resident else ():
                self._hook(stack, index, ways)
            yield

    def program(self, plans: Sequence[Plan | None], added: Added | None = None) -> Program:
        """The program of plans, one a picture."""
        return Program(self.names, self.kinds, plans, added)

    def banks(self, program: Program, encoding: Encoding, own: torch.Tensor) -> dict[str, torch.Tensor]:
        """The donors of a program as the sites see them. own: the call's encoded text [b, l, d].

        Banks have one size for most plans (rows for a donor a picture), so that what is compiled stays.
        """
        banks: dict[str, torch.Tensor] = {}
        own = own.to(
            getattr(self.denoiser, "dtype", own.dtype)
        )  # as the pipeline does where its encoder computes in another one
        if program.texts and not self.family.joint:
            rule = self.sites[0].rule
            assert isinstance(rule, SiteRule)
            banks |= text_banks(
                self._encoded(program.texts, encoding),
                bank_capacity(len(program.texts), own),
                own,
                projection=self.projection(),
                masked=rule.mask.masked if rule.mask else None,
                width=self.sites[0].text_width,
            )
        if program.pooled and self.family.pooled is not None:
            donors = self._encoded(program.pooled, encoding)
            capacity = bank_capacity(len(donors), own)
            banks["pooled"] = pooled_bank(donors, capacity, own, self.family.pooled.source)
        return banks

    def board(self, program: Program, batch: int, own: torch.Tensor, banks: Mapping[str, torch.Tensor]) -> Board:
        """A board with the program's donors and operators, counters at zero, for calls of `batch` rows."""
        tables = to_tables(program.operators, own.device)
        key = BoardKey(
            sites=len(self.placed),
            batch=batch,
            tokens=int(own.shape[1]),
            banks=tuple((name, tuple(bank.shape), bank.dtype) for name, bank in sorted(banks.items())),
            tables=tuple(tables),
            channels=tuple(sorted(program.channels)),
            device=own.device,
        )
        board = self._boards.pop(key, None) or Board(key)
        self._boards[key] = board
        while len(self._boards) > _BOARDS:
            self._boards.popitem(last=False)
        board.load(banks, tables)
        return board

    def refuse_silence(self, fired: Ints, expected: Ints) -> None:
        """Nothing, when every site did what the plans say, [counted, L, B] each. Raises: NotFired."""
        wrong = np.argwhere((fired != expected).any(axis=2))
        if len(wrong):
            kind, site = wrong[0]
            got, want = int(fired[kind, site].sum()), int(expected[kind, site].sum())
            raise NotFired(
                f"site `{self.names[site]}` replaced {got} rows where the plans say {want} ({len(wrong)} such sites);"
                " the picture must not be used. A cause may be a module that was compiled, wrapped or cached after the"
                " host was made"
            )

    def encoded(self, donor: str | Donor, encoding: Encoding) -> Donor:
        """A donor as the running call encodes its prompts; kept for the next time."""
        return self._encoded([donor], encoding)[0]

    def projection(self) -> list[nn.Module]:
        """The modules of the denoiser that text passes before the first site, in order."""
        found = (getattr(self.denoiser, name, None) for name in self.family.projection)
        return [module for module in found if module is not None]

    def _encoded(self, donors: Sequence[str | Donor], encoding: Encoding) -> list[Donor]:
        if not any(isinstance(d, str) for d in donors):
            return [d for d in donors if isinstance(d, Donor)]
        weights = tuple(stamp(getattr(self.encoder, name, None)) for name in encoding.rule.encoders)
        how = (encoding.key, weights)

        def encoded(donor: str | Donor) -> Donor:
            if isinstance(donor, Donor):
                return donor
            return self.donors.get((donor, how), lambda: encoding.encode(donor))

        return [encoded(d) for d in donors]

    def _hook(self, stack: ExitStack, index: int, ways: set[str]) -> None:
        placed, place = self.placed[index], self.slate.places[index]
        if placed.site.kind == "global":
            stack.enter_context(before(placed.module, pooled_hook(place, placed)))
            return
        if placed.site.kind == "cross" and ways & {"swap", "text"}:
            stack.enter_context(before(placed.module, cross_hook(place, placed)))
        if placed.site.kind == "joint":
            self._hook_joint(stack, place, placed, ways)
        if ways & {"output", "context"}:
            stack.enter_context(after(placed.module, output_hook(place, placed)))

    def _hook_joint(self, stack: ExitStack, place: Place, placed: Placed, ways: set[str]) -> None:
        if "pin" in ways:
            assert placed.block is not None
            stack.enter_context(before(placed.block, stream_hook(place, placed)))
        if "text" in ways:
            stack.enter_context(before(placed.module, text_edit_hook(place, placed)))
        if "swap" in ways:
            for module, what in zip(self._projections(placed), ("keys", "values"), strict=False):
                stack.enter_context(after(module, projection_hook(place, placed, what)))

    def _projections(self, placed: Placed) -> tuple[nn.Module, ...]:
        """The modules that make keys and values at a joint site; none where they were fused, which plans that need
        them are told before the call."""
        return placed.projections() if placed.site.kind == "joint" and not is_fused(placed.module) else ()


def bank_capacity(donors: int, own: torch.Tensor) -> int:
    """Rows of a bank for some donors: one size for most plans. own: the call's encoded text [b, l, d]."""
    pictures = int(own.shape[0])
    return pictures * max(1, -(-donors // pictures))


def _is_compiled(component: Any, denoiser: nn.Module) -> bool:
    if component is not denoiser:
        return True
    return any(getattr(m, "_compiled_call_impl", None) is not None for m in denoiser.modules())


def _donor_size(donor: Donor) -> int:
    return sum(t.numel() * t.element_size() for t in (donor.text, donor.mask, donor.pooled) if t is not None)
