"""Turns the plans of a batch into tables of indices: what each row is shown at each step. NumPy only, no model.

`L` sites, the global one last; `R` pictures; `B` rows of one denoiser call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from steering.batch.layout import Layout
from steering.batch.watch import Watch
from steering.errors import NotFired, NotSupported
from steering.plans import Edit, Intervention, Plan, Swap
from steering.values import WHERES, Donor, Operator

__all__ = ["CHANNELS", "COUNTED", "NULL", "AddedRows", "RowProgram", "RowSetting"]

# what is counted at a site: swaps (of text, keys or pooled text), swaps of values, swaps of the text stream, edits at
# each place, and rows that a sentinel read
COUNTED = ("swap", "value", "pin", *WHERES, "watch")
_TEXT = ("swap", "value", "pin", "text", "context")  # what needs tokens of text at a site
CHANNELS = ("swap", "pin")  # the two ways in which rows are shown others' text
NULL = ""  # the prompt whose pooled text is the null one

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AddedRows:
    """Pictures that were added to the batch: for (picture, donor) its twin, for a picture its own clean copy.

    `lockstep`: pairs (added, recipient) that share the recipient's latents.
    """

    twins: Mapping[tuple[int, str | Donor], int] = field(default_factory=dict)
    clean: Mapping[int, int] = field(default_factory=dict)
    lockstep: tuple[tuple[int, int], ...] = ()

    def rows_of(self, picture: int) -> int:
        """How many added pictures serve this one."""
        used = {t for (p, _), t in self.twins.items() if p == picture}
        return len(used | ({self.clean[picture]} if picture in self.clean else set()))


@dataclass(frozen=True, slots=True)
class RowSetting:
    """The tables of one call. A row that nothing touches has its own index, alpha 1, slot 0."""

    src: Mapping[str, Ints]  # a channel -> [L, B] into concat(batch rows, bank)
    alpha: Mapping[str, Floats]
    slot: Mapping[str, Ints]  # a place of `WHERES` -> [L, B] into the table of operators of the site's width there
    scale: Mapping[str, Floats]
    hits: Bools  # [len(COUNTED), L, B]
    watch: Floats  # [B, k]: 1 where a row counts for a sentinel
    blends: bool  # some alpha is not 1


class RowProgram:
    """The settings of one run, from the plans of its pictures and the sentinels that watch them all.

    `kinds`: of each site, in the order of `names`. `texts` and `pooled` are in the order of the text bank and the bank
    of pooled text, `encoded` those of `texts` that are shown as they were encoded; `operators` by table, in its order.
    """

    def __init__(
        self,
        names: Sequence[str],
        kinds: Sequence[str],
        plans: Sequence[Plan | None],
        added: AddedRows | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.watch = watch or Watch(names, ())
        self._index = {name: i for i, name in enumerate(names)}
        self._kinds = tuple(kinds)
        self.added = added or AddedRows()
        self._globals = [i for i, kind in enumerate(kinds) if kind == "global"]
        self._joint = [i for i, kind in enumerate(kinds) if kind == "joint"]
        self._acts = [
            (r, i)
            for r, plan in enumerate(plans)
            for i in (plan.interventions if plan else ())
            if i.strength > 0.0 and any(name in self._index for name in i.sites)
        ]
        swaps = [i for _, i in self._acts if isinstance(i, Swap)]
        self.texts: tuple[str | Donor, ...] = _different(i.donor for i in swaps if i.source in ("text", "canonical"))
        self.encoded: tuple[str | Donor, ...] = _different(i.donor for i in swaps if i.source == "text")
        pooled = [i for i in swaps if i.pooled != "keep" and self._globals]
        self.pooled: tuple[str | Donor, ...] = _different(NULL if i.pooled == "null" else i.donor for i in pooled)
        self.operators: dict[str, tuple[Operator, ...]] = _by_table(i for _, i in self._acts)
        self._slots = {o: n for of_it in self.operators.values() for n, o in enumerate(of_it, 1)}
        self.channels = {self._channel(i) for i in swaps} | ({"swap"} if self.pooled else set())
        self.needs_uncond = any(i.rows == "uncond" for _, i in self._acts)
        self._settings: dict[tuple[object, ...], RowSetting] = {}

    def hooks_needed(self) -> dict[int, set[str]]:
        """For each site at which something may happen, in which ways: `swap`, `pin`, an edit's place, or `watch`."""
        needed: dict[int, set[str]] = {i: {"swap"} for i in (self._globals if self.pooled else [])}
        for site in self.watch.at:
            needed.setdefault(site, set()).add("watch")
        for _, act in self._acts:
            way = act.operator.where if isinstance(act, Edit) else self._channel(act)
            sites = self._joint if way == "pin" else [self._index[n] for n in act.sites if n in self._index]
            for site in sites:
                needed.setdefault(site, set()).add(way)
        return needed

    def acting(self, step: int, steps: int, layout: Layout, silent: Collection[int] = ()) -> set[int]:
        """The acts, by number, that a call carries out: their window is open, and it has rows and a site of theirs.
        `silent`: sites that it does not pass."""
        return {
            n
            for n, (picture, act) in enumerate(self._acts)
            if act.window.covers(step, steps)
            and layout.rows(picture, act.rows)
            and any(name in self._index and self._index[name] not in silent for name in act.sites)
        }

    def check_acted(self, acted: Collection[int], steps: int) -> None:
        """Nothing, when every act was carried out in some call of the run, but for one whose window is empty on
        purpose. Raises: NotFired."""
        for n, (_, act) in enumerate(self._acts):
            window, kind = act.window, type(act).__name__.lower()
            if n not in acted and window.start < window.end:
                raise NotFired(
                    f"no step of this run, of {steps}, lies in the window [{window.start:g}, {window.end:g}] of the"
                    f" {kind} at site `{act.sites[0]}`, so the picture is not steered by it; ask for more steps, or"
                    " widen the window"
                )

    def check_cached(self, steps: int) -> None:
        """Nothing, when every act on text lasts for the whole run, as it does where text is read from a cache after the
        first step. Raises: NotSupported."""
        for _, act in self._acts:
            if _on_text(act) and not all(act.window.covers(step, steps) for step in range(steps)):
                raise NotSupported(
                    "this pipeline keeps the text's keys and values of the first step for all others, so what is done"
                    f" to text cannot have a window, got {act.window}; leave it out, or call it with use_kv_cache=False"
                )

    def at(self, step: int, steps: int, layout: Layout, *, whole: bool = True, cached: bool = False) -> RowSetting:
        """The setting of a call; the same object as long as the same windows are open and rows lie alike. `whole`:
        every block is called; sentinels read no other calls. `cached`: no text is in it, only what a former call kept
        of it."""
        active = tuple(i.window.covers(step, steps) for _, i in self._acts)
        opened = tuple(whole and on for on in self.watch.open(step, steps))
        key = (active, opened, layout, cached)
        if key not in self._settings:
            acts = [act for act, on in zip(self._acts, active, strict=True) if on]
            self._settings[key] = self._lay_out(acts, opened, layout)
            if cached:
                self._leave_text(self._settings[key])
        return self._settings[key]

    def _leave_text(self, sheet: RowSetting) -> None:
        """Nothing is counted where no text is read; masks still go with the text that a former call kept."""
        sheet.hits[np.ix_([COUNTED.index(what) for what in _TEXT], self._joint)] = False

    def _lay_out(self, acts: Sequence[tuple[int, Intervention]], opened: Sequence[bool], layout: Layout) -> RowSetting:
        shape = (len(self._index), layout.batch)
        own = np.broadcast_to(np.arange(shape[1], dtype=np.int64), shape)
        sheet = RowSetting(
            src={c: own.copy() for c in CHANNELS},
            alpha={c: np.ones(shape, np.float32) for c in CHANNELS},
            slot={where: np.zeros(shape, np.int64) for where in WHERES},
            scale={where: np.zeros(shape, np.float32) for where in WHERES},
            hits=np.zeros((len(COUNTED), *shape), np.bool_),
            blends=any(i.strength != 1 for _, i in acts if isinstance(i, Swap)),
            watch=self.watch.shares(opened, layout),
        )
        for site, readers in self.watch.at.items():
            sheet.hits[COUNTED.index("watch"), site] = sheet.watch[:, [k for k, _ in readers]].any(1)
        for picture, act in acts:
            if isinstance(act, Swap):
                self._lay_clean(sheet, picture, act, layout)
        for picture, act in acts:
            if isinstance(act, Swap):
                self._lay_swap(sheet, picture, act, layout)
            else:
                self._lay_edit(sheet, picture, act, layout)
        return sheet

    def _lay_swap(self, sheet: RowSetting, picture: int, act: Swap, layout: Layout) -> None:
        channel = self._channel(act)
        sites = [self._index[name] for name in act.sites if name in self._index]
        for row in layout.rows(picture, act.rows):
            source = self._source_row(picture, act, layout)
            for site in sites:
                self._show(sheet, channel, (site, row), source, act.strength)
            for site in self._globals if act.pooled != "keep" else ():
                given = layout.batch + self.pooled.index(NULL if act.pooled == "null" else act.donor)
                self._show(sheet, "swap", (site, row), given, act.strength)

    def _lay_clean(self, sheet: RowSetting, picture: int, act: Swap, layout: Layout) -> None:
        """A pinned row takes the text stream of its clean copy at every block that no swap names."""
        if self._channel(act) != "pin":
            return
        for row in layout.rows(picture, act.rows):
            role = layout.rows(picture, "cond") == [row]
            source = layout.rows(self.added.clean[picture], "cond" if role else "uncond")[0]
            for site in self._joint:
                self._show(sheet, "pin", (site, row), source, 1.0)

    def _lay_edit(self, sheet: RowSetting, picture: int, act: Edit, layout: Layout) -> None:
        where = act.operator.where
        at = np.ix_([self._index[n] for n in act.sites if n in self._index], layout.rows(picture, act.rows))
        sheet.slot[where][at] = self._slots[act.operator]
        sheet.scale[where][at] = act.strength
        sheet.hits[COUNTED.index(where)][at] = True

    def _show(self, sheet: RowSetting, channel: str, at: tuple[int, int], source: int, strength: float) -> None:
        sheet.src[channel][at] = source
        sheet.alpha[channel][at] = strength
        sheet.hits[COUNTED.index(channel)][at] = True
        if channel == "swap" and self._kinds[at[0]] in ("joint", "text"):
            sheet.hits[COUNTED.index("value")][at] = True

    def _source_row(self, picture: int, act: Swap, layout: Layout) -> int:
        if act.source in ("text", "canonical"):
            return layout.batch + self.texts.index(act.donor)
        rows = layout.rows(self.added.twins[picture, act.donor], "cond")
        if not rows:
            raise NotSupported(
                f"rows `{act.rows}` with source `{act.source}` need cond and uncond rows in one call, and this pipeline"
                " calls its denoiser for one after the other; use rows `cond`, or source `canonical`"
            )
        return rows[0]

    def _channel(self, act: Swap) -> str:
        return "pin" if act.mode == "pinned" and self._joint else "swap"


def _on_text(act: Intervention) -> bool:
    """Whether it acts on tokens of text alone."""
    return isinstance(act, Swap) or act.operator.where in ("text", "context")


def _by_table(acts: Iterable[Intervention]) -> dict[str, tuple[Operator, ...]]:
    found: dict[str, dict[Operator, None]] = {}
    for act in acts:
        if isinstance(act, Edit):
            found.setdefault(act.operator.table, {})[act.operator] = None
    return {table: tuple(operators) for table, operators in found.items()}


def _different(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))
