"""Owns what a host keeps between calls, and the way from plans to tensors and hooks: shared by whole runs and single
calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from .attach import hooked
from .board import Board, Slate, after_hook, before_hook, to_tables
from .donors import DonorCache, Encoding, to_bank
from .errors import NotFired
from .families import Family, Placed
from .plans import Donor, Edit, Plan
from .program import Ints, Program
from .stamps import stamp

__all__ = ["Gear"]


class Gear:
    """The pipeline's parts, hooks made once, encoded donors, and a board to use again."""

    def __init__(self, pipe: Any, family: Family, denoiser: nn.Module, placed: tuple[Placed, ...]) -> None:
        self.pipe, self.family, self.denoiser, self.placed = pipe, family, denoiser, placed
        self.names = tuple(p.site.name for p in placed)
        self.slate = Slate()
        self.donors = DonorCache()
        self._board: Board | None = None
        self._before = tuple(before_hook(self.slate, i, p) for i, p in enumerate(placed))
        self._after = tuple(after_hook(self.slate, i) for i in range(len(placed)))

    @contextmanager
    def on_all_sites(self) -> Iterator[None]:
        """All hooks on all sites; without a board they do nothing."""
        with ExitStack() as stack:
            for placed, before, after in zip(self.placed, self._before, self._after, strict=True):
                stack.enter_context(hooked(placed.module, before, after))
            yield

    @contextmanager
    def on_sites_of(self, plans: Sequence[Plan | None]) -> Iterator[None]:
        """The hooks that these plans need, on the sites that they touch; none for plans that are all None."""
        acts = [i for plan in plans if plan for i in plan.interventions]
        outputs = {n for i in acts if isinstance(i, Edit) and i.operator.where == "output" for n in i.sites}
        texts = {n for i in acts if not (isinstance(i, Edit) and i.operator.where == "output") for n in i.sites}
        with ExitStack() as stack:
            for placed, before, after in zip(self.placed, self._before, self._after, strict=True):
                name = placed.site.name
                if name in texts or name in outputs:
                    chosen = before if name in texts else None, after if name in outputs else None
                    stack.enter_context(hooked(placed.module, *chosen))
            yield

    def board(self, program: Program, encoding: Encoding, text: torch.Tensor) -> Board:
        """A board with the program's donors and operators, counters at zero. `text`: the call's encoded text [b, l,
        d]."""
        first, pictures = self.placed[0], program.layout.pictures
        donors = self._encoded(program.donors, encoding)
        bank = to_bank(
            donors,
            pictures * max(1, -(-len(donors) // pictures)),  # one shape for most plans: what is compiled stays
            text,
            projection=getattr(self.denoiser, self.family.projection or "", None),
            masked=first.rule.mask.masked if first.rule.mask else 0.0,
            width=first.text_width,
        )
        wheres: list[str] = sorted({o.where for o in program.operators})
        widths = {"text": first.text_width, "output": first.output_width}
        tables = {w: to_tables(program.operators, w, widths[w], bank.text.device) for w in wheres}
        if self._board is None or not self._board.fits(len(self.placed), program.layout.batch, bank, wheres):
            self._board = Board(len(self.placed), program.layout.batch, bank, wheres)
        self._board.load(bank, tables)
        return self._board

    def refuse_silence(self, fired: Ints, expected: Ints) -> None:
        """Nothing, when every site did what the plans say, [3, L, B] each. Raises: NotFired."""
        wrong = np.argwhere((fired != expected).any(axis=2))
        if len(wrong):
            kind, site = wrong[0]
            got, want = int(fired[kind, site].sum()), int(expected[kind, site].sum())
            raise NotFired(
                f"site `{self.names[site]}` replaced {got} rows where the plans say {want} ({len(wrong)} such sites);"
                " the picture must not be used. A cause may be a module that was compiled, wrapped or cached after the"
                " host was made"
            )

    def _encoded(self, donors: Sequence[str | Donor], encoding: Encoding) -> list[Donor]:
        if not any(isinstance(d, str) for d in donors):
            return [d for d in donors if isinstance(d, Donor)]
        how = (encoding.key, stamp(getattr(self.pipe, encoding.rule.encoder, None)))

        def encoded(donor: str | Donor) -> Donor:
            if isinstance(donor, Donor):
                return donor
            return self.donors.get((donor, how), lambda: encoding.encode(donor))

        return [encoded(d) for d in donors]
