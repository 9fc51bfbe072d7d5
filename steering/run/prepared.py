"""What a host keeps of one pipeline between calls: its sites, hooks, encoded donors and device tables."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steering.attach import after, before
from steering.batch.device_tables import ActiveSite, ActiveTables, DeviceTables, TablesKey, operator_tables
from steering.batch.donors import Encoding, SizedCache, fit_text, pooled_banks, text_banks
from steering.batch.recorded_text import TextRecorder, TextStream, stream_size
from steering.batch.row_program import CHANNELS, COUNTED, AddedRows, Ints, RowProgram
from steering.batch.watch import Watch
from steering.errors import NotFired
from steering.families.description import Family, PooledRule, SiteRule
from steering.families.discovery import Placed, find_pooled, find_sites, is_fused
from steering.families.facts import picture_tokens
from steering.families.fingerprint import Fingerprint, fingerprint_of, joined_weights_digest
from steering.families.spans import Picture, Span, behind_text
from steering.plans import Plan
from steering.run.arguments import arguments_of_row, repeated_arguments
from steering.run.hooks import (
    accompanied,
    adapter_hook,
    companion_hook,
    cross_hook,
    output_hook,
    parts_beside,
    pooled_hook,
    projection_hook,
    stream_hook,
    text_edit_hook,
)
from steering.run.judged_text import Wrappings
from steering.run.weight_versions import base_version, weight_version
from steering.sentinel import Sentinel
from steering.values import PROJECTED, WHERES, Donor, Projected

__all__ = ["PreparedPipeline", "bank_capacity", "uncompiled"]

_KEPT_TABLES = 4  # call shapes whose tensors are kept


class PreparedPipeline:
    """One pipeline's parts, its sites, hooks made once, encoded donors, and device tables to use again.

    `prefix` stands before the names of its sites; `encoder` is the pipeline that encodes prompts, which for a later
    stage without a text encoder of its own is an earlier one.
    """

    def __init__(self, pipe: Any, family: Family, *, prefix: str = "", encoder: Any = None) -> None:
        self.pipe, self.family, self.prefix = pipe, family, prefix
        self.encoder = encoder if encoder is not None else pipe
        self.denoisers: Mapping[str, nn.Module] = {
            name: getattr(part, "_orig_mod", part)
            for name in (family.denoiser, *family.others)
            if (part := getattr(pipe, name, None)) is not None
        }
        self.denoiser: nn.Module = self.denoisers[family.denoiser]
        inside = {n: prefix if n == family.denoiser else f"{prefix}{n}/" for n in self.denoisers}
        self.sites = tuple(p for n, m in self.denoisers.items() for p in find_sites(family, m, inside[n]))
        self.globals = tuple(p for n, m in self.denoisers.items() for p in find_pooled(family, m, inside[n]))
        self.placed: tuple[Placed, ...] = (*self.sites, *self.globals)
        owners = {id(m): n for n, part in self.denoisers.items() for m in part.modules()}
        self._signature = inspect.signature(self.denoiser.forward)
        self._owners = tuple(owners[id(p.module)] for p in self.placed)
        self.names = tuple(p.name for p in self.placed)
        self.kinds = tuple(p.site.kind for p in self.placed)
        self.active = ActiveTables(len(self.placed))
        self.donors: SizedCache[Donor] = SizedCache(_donor_size)
        self.streams: SizedCache[TextStream] = SizedCache(stream_size, 2 * 2**30)
        self.wrappings = Wrappings()
        self._kept_tables: OrderedDict[TablesKey, DeviceTables] = OrderedDict()
        self._kept_hooks: tuple[ExitStack, tuple[int, ...]] | None = None
        self._weights: tuple[Hashable, str] | None = None  # the weights' version, and their digest

    def fingerprint(self, weights: str | None = None) -> Fingerprint:
        """The fingerprint with the weights and adapters as they are now; `weights`: their digest, when it is known."""
        now = tuple(base_version(m) for m in self.denoisers.values())
        if self._weights is None or self._weights[0] != now or weights is not None:
            self._weights = now, weights or joined_weights_digest(self.denoisers.values())
        return fingerprint_of(self.pipe, self.denoisers, self._weights[1])

    @property
    def weights(self) -> Hashable:
        """A value that changes when weights, adapters or their scales change, in any of the denoisers."""
        return tuple(weight_version(m) for m in self.denoisers.values())

    @property
    def component(self) -> Any:
        """The denoiser as the pipeline calls it: itself, or a compiler's wrapper around it."""
        return getattr(self.pipe, self.family.denoiser)

    @property
    def keeps_hooks(self) -> bool:
        """True when the hooks stay on the denoiser between calls, because it is compiled."""
        return self._kept_hooks is not None

    def install_hooks(self) -> None:
        """Puts hooks on a compiled denoiser that stay between calls, and new ones when an adapter has changed its
        modules; its graphs must be traced with them."""
        if not any(_is_compiled(getattr(self.pipe, n), m) for n, m in self.denoisers.items()):
            return
        now = tuple(id(m) for p in self.sites for m in _projections(p, PROJECTED).values())
        if self._kept_hooks is not None and self._kept_hooks[1] != now:
            self.remove_hooks()
        if self._kept_hooks is None:
            stack = ExitStack()
            for i, _ in enumerate(self.placed):
                self._hook(stack, i, {*CHANNELS, *WHERES, "watch"})
            self._kept_hooks = (stack, now)

    def remove_hooks(self) -> None:
        """Removes the hooks of a compiled denoiser."""
        if self._kept_hooks is not None:
            self._kept_hooks[0].close()
            self._kept_hooks = None

    @contextmanager
    def hooked_sites(self, program: RowProgram) -> Iterator[None]:
        """The hooks that a program needs, on the sites that it touches; none when hooks stay on it."""
        with ExitStack() as stack:
            for index, needed in program.hooks_needed().items() if not self.keeps_hooks else ():
                self._hook(stack, index, needed)
            yield

    def program(
        self, plans: Sequence[Plan | None], added: AddedRows | None = None, sentinels: Sequence[Sentinel] = ()
    ) -> RowProgram:
        """The program of plans, one a picture, and of the sentinels that watch them all."""
        return RowProgram(self.names, self.kinds, plans, added, Watch(self.names, sentinels))

    def banks(self, program: RowProgram, encoding: Encoding, own: torch.Tensor) -> dict[str, torch.Tensor]:
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
            donors = self._encoded(program.texts, encoding)
            for component in self.denoisers:
                read = text_banks(
                    donors,
                    bank_capacity(len(donors), own),
                    own,
                    projection=self.projection(component),
                    rule=rule.mask,
                )
                banks[self._text_bank(component)] = read.pop("text")
                banks |= read
        donors = self._encoded(program.pooled, encoding) if self.globals else []
        for index, placed in enumerate(self.globals if donors else (), len(self.sites)):
            assert isinstance(placed.rule, PooledRule)
            capacity = bank_capacity(len(donors), own)
            made = pooled_banks(donors, capacity, own, placed.rule, self.projection(self._owners[index]))
            banks |= {f"{name}.{index}": bank for name, bank in made.items()}
        return banks

    def static_banks(
        self, program: RowProgram, encoding: Encoding, own: torch.Tensor, kwargs: Mapping[str, Any], picture: Picture
    ) -> dict[str, torch.Tensor]:
        """The donors' keys and values at the static sites that swap them, `keys.<site>` and `values.<site>`
        [c, l, d], with what goes beside them there, or where the picture is in the sequence, the tokens that are
        `shown` [c, l + picture]; rows up to the capacity are zero.

        own: the call's encoded text [b, l, d]; kwargs: the denoiser's arguments, by name. Each donor that is not kept
        costs one evaluation of one row, where texts are lists of three. Raises: BadDonor, for one that is longer than
        the call's text.
        """
        static = [i for i, placed in enumerate(self.sites) if placed.is_static]
        if not program.encoded or not static:
            return {}
        needed = program.hooks_needed()
        sites = [i for i in static if self.keeps_hooks or "swap" in needed.get(i, ())]  # one graph for all plans
        alone = {i for i in sites if self.placed[i].span.whole}  # without the picture
        texts, capacity = kwargs[self.family.inputs.text], bank_capacity(len(program.texts), own)
        listed = not isinstance(texts, Tensor)
        length = max(len(text) for text in texts) if listed else int(own.shape[1])
        banks: dict[str, list[torch.Tensor]] = {}
        shown = torch.ones(capacity, length + picture.tokens, dtype=torch.bool, device=own.device)
        for n, donor in enumerate(self._encoded(program.texts, encoding)):
            text, mask = (donor.text, None) if listed else fit_text(donor, own, masks=True)
            if mask is not None:
                shown[n, :length] = mask.bool()
            key = ("static", donor.digest, length, tuple(sites), self.weights)
            stream = self.streams.get(key, partial(self._static_stream, text, mask, kwargs, sites, picture))
            for name, row in stream.at(0, 0).items():
                if name.startswith(("keys.", "values.")) or int(name.rpartition(".")[2]) in alone:
                    banks.setdefault(name, []).append(row)
        empty = capacity - len(program.texts)
        filled = {name: torch.stack([*rows, *[torch.zeros_like(rows[0])] * empty]) for name, rows in banks.items()}
        return filled if len(alone) == len(sites) else {**filled, "shown": shown}

    def _static_stream(
        self,
        text: torch.Tensor,
        mask: torch.Tensor | None,
        kwargs: Mapping[str, Any],
        sites: Sequence[int],
        picture: Picture,
    ) -> TextStream:
        """The keys and values of a text [l, d] at some sites, from one evaluation of its row alone. In a list of texts
        it stands beside one as long as the call's longest and one of a single token, so that it is padded as there."""
        inputs = self.family.inputs
        texts = kwargs[inputs.text]
        row = arguments_of_row(inputs, kwargs, 0, len(texts))
        if isinstance(texts, Tensor):
            row[inputs.text] = text[None].to(texts)
        else:
            row = repeated_arguments(inputs, row, 3)
            longest = max(texts, key=len)
            row[inputs.text] = [text.to(longest), longest, longest[:1]]
        if inputs.mask is not None and mask is not None:
            row[inputs.mask] = mask[None].bool()
        if inputs.cached is not None:
            row |= {inputs.cached[0]: None, inputs.cached[2]: None}
        recorder = TextRecorder()
        recorder.place, recorder.picture = (0, 0), picture
        with self.recording(sites, recorder), torch.no_grad():
            self.denoiser(**row)
        return recorder.stream()

    @contextmanager
    def recording(self, sites: Sequence[int], recorder: TextRecorder) -> Iterator[None]:
        """What these sites make of text goes to the recorder; the denoiser runs eagerly, and nothing is steered."""
        armed, self.active.armed = self.active.armed, False
        shown = [site.tables for site in self.active.sites]
        self.active.show(None)
        with ExitStack() as stack:
            stack.enter_context(uncompiled(self))
            for index in sites:
                for what, (module, span) in self.placed[index].readers().items():

                    def keep(
                        m: Any, a: Any, output: torch.Tensor, name: str = f"{what}.{index}", span: Span = span
                    ) -> None:
                        recorder.add(name, span.take(output, recorder.picture))

                    stack.enter_context(after(module, keep))
                for argument in getattr(self.placed[index].rule, "companions", ()):
                    beside = partial(_keep_beside, recorder, self.placed[index], argument, index)
                    stack.enter_context(before(self.placed[index].module, beside))
            try:
                yield
            finally:
                self.active.armed = armed
                for site, tables in zip(self.active.sites, shown, strict=True):
                    site.tables = tables

    def device_tables(
        self, program: RowProgram, batch: int, own: torch.Tensor, banks: Mapping[str, torch.Tensor], picture: Picture
    ) -> DeviceTables:
        """The tables with a program's donors, operators and sentinels, counters at zero, for calls of `batch` rows.
        picture: its tokens in sequences with text."""
        operators = operator_tables(program.operators, own.device)
        widths = tuple(p.output_width for p in self.placed) if program.watch.room else ()
        key = TablesKey(
            sites=len(self.placed),
            batch=batch,
            tokens=int(own.shape[1]),
            picture=picture.tokens,
            banks=tuple((name, tuple(bank.shape), bank.dtype) for name, bank in sorted(banks.items())),
            operators=tuple(operators),
            channels=tuple(sorted(program.channels)),
            device=own.device,
            watched=program.watch.room,
            widths=widths,
        )
        tables = self._kept_tables.pop(key, None) or DeviceTables(key)
        self._kept_tables[key] = tables
        while len(self._kept_tables) > _KEPT_TABLES:
            self._kept_tables.popitem(last=False)
        tables.load(banks, operators, program.watch.directions(widths))
        tables.common.picture = picture
        return tables

    def put_beside(self, kwargs: dict[str, Any]) -> None:
        """Puts into the arguments of a denoiser's call what goes with the text that sites are shown in it."""
        for placed, site in zip(self.placed, self.active.sites, strict=True):
            tables = site.tables
            if tables is None or not tables.common.swaps:
                continue
            for argument in getattr(placed.rule, "beside", ()):
                kwargs[argument] = accompanied(tables, "swap", argument, kwargs[argument], placed.name, alone=True)

    def keep_beside(self, kwargs: Mapping[str, Any], recorder: TextRecorder) -> None:
        """Takes down from the arguments of a denoiser's call what goes with the text of sites."""
        for index, placed in enumerate(self.sites):
            for argument in getattr(placed.rule, "beside", ()):
                recorder.add(f"{argument}.0.{index}", kwargs[argument])

    def sites_beside(self, component: str, skipped: Sequence[int] = ()) -> list[int]:
        """The sites that a call of a denoiser, by its component, does not pass: another's, and those in blocks whose
        numbers are `skipped`."""
        return [
            i
            for i, placed in enumerate(self.placed)
            if self._owners[i] != component or any(f".{k}." in f".{placed.name}." for k in skipped)
        ]

    def by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a denoiser's call, all by name."""
        return dict(self._signature.bind(*args, **kwargs).arguments)

    def picture(self, kwargs: Mapping[str, Any], encoding: Encoding | None = None) -> Picture:
        """The picture's tokens in sequences with text, in a call of the denoiser with arguments by name."""
        if all(getattr(p.rule, "span", "all") == "all" for p in self.sites):
            return Picture()
        inputs, latents = self.family.inputs, kwargs[next(iter(self._signature.parameters))]
        tokens = picture_tokens(inputs, self.denoiser, latents, encoding.arguments if encoding else {})
        return behind_text(kwargs[inputs.ragged], tokens) if inputs.ragged else Picture(tokens)

    def check_counts(self, fired: Ints, expected: Ints) -> None:
        """Nothing, when every site did what the plans say, [counted, L, B] each. Raises: NotFired."""
        wrong = np.argwhere((fired != expected).any(axis=2))
        if len(wrong):
            kind, site = wrong[0]
            got, want = int(fired[kind, site].sum()), int(expected[kind, site].sum())
            did = "was read for" if COUNTED[kind] == "watch" else "replaced"
            raise NotFired(
                f"site `{self.names[site]}` {did} {got} rows where the plans say {want} ({len(wrong)} such sites);"
                " the picture must not be used. A cause may be a module that was compiled, wrapped or cached after the"
                " host was made"
            )

    def encoded(self, donor: str | Donor, encoding: Encoding) -> Donor:
        """A donor as the running call encodes its prompts; kept for the next time."""
        return self._encoded([donor], encoding)[0]

    def projection(self, component: str | None = None) -> list[nn.Module]:
        """The modules of a denoiser, the first unless another is named, that text passes before its first site, in
        order."""
        modules = dict(self.denoisers[component or self.family.denoiser].named_modules())
        return [modules[name] for name in self.family.projection if name in modules]

    def _text_bank(self, component: str) -> str:
        """The name of the bank of texts as a denoiser's sites see them: each projects them itself."""
        return "text" if component == self.family.denoiser else f"text of {component}"

    def _encoded(self, donors: Sequence[str | Donor], encoding: Encoding) -> list[Donor]:
        if not any(isinstance(d, str) for d in donors):
            return [d for d in donors if isinstance(d, Donor)]
        weights = tuple(weight_version(getattr(self.encoder, name, None)) for name in encoding.rule.encoders)
        how = (encoding.key, weights)

        def encoded(donor: str | Donor) -> Donor:
            if isinstance(donor, Donor):
                return donor
            return self.donors.get((donor, how), lambda: encoding.encode(donor))

        return [encoded(d) for d in donors]

    def _hook(self, stack: ExitStack, index: int, needed: set[str]) -> None:
        placed, site = self.placed[index], self.active.sites[index]
        if placed.site.kind == "global":
            stack.enter_context(before(placed.module, pooled_hook(site, placed)))
            return
        # first: where both are, a swap replaces rows that an adapter has changed
        for where, module in _projections(placed, [w for w in PROJECTED if w in needed]).items():
            stack.enter_context(after(module, adapter_hook(site, module, where)))
        if placed.site.kind == "cross" and needed & {"swap", "text"}:
            bank = self._text_bank(self._owners[index])
            stack.enter_context(before(placed.module, cross_hook(site, placed, bank)))
        if placed.site.kind in ("joint", "text"):
            self._hook_stream(stack, site, placed, needed)
        if needed & {"output", "context", "watch"}:
            stack.enter_context(after(placed.module, output_hook(site, placed)))

    def _hook_stream(self, stack: ExitStack, site: ActiveSite, placed: Placed, needed: set[str]) -> None:
        rule = placed.rule
        if isinstance(rule, SiteRule) and rule.companions and needed & {"swap", "pin"}:
            stack.enter_context(before(placed.module, companion_hook(site, placed)))
        if "pin" in needed and placed.site.kind == "joint":
            assert placed.block is not None
            stack.enter_context(before(placed.block, stream_hook(site, placed)))
        if "text" in needed:
            stack.enter_context(before(placed.module, text_edit_hook(site, placed)))
        if "swap" in needed and not is_fused(placed.module):  # a plan that needs them was refused before the call
            for what, (module, span) in placed.readers().items():
                stack.enter_context(after(module, projection_hook(site, placed, what, span)))


def _projections(placed: Placed, wanted: Sequence[Projected]) -> dict[Projected, nn.Module]:
    """The modules that make keys, values, queries or result of a site: those that it has and that are not fused. Plans
    that need others were refused before the call."""
    names = placed.projections() if wanted else {}
    if is_fused(placed.module):
        names = {where: name for where, name in names.items() if where == "result"}
    return {where: placed.module.get_submodule(names[where]) for where in wanted if where in names}


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


def _keep_beside(
    recorder: TextRecorder, placed: Placed, argument: str, index: int, module: Any, args: Any, kwargs: Any
) -> None:
    """Takes down what goes with the text of a site."""
    position = placed.position(argument)
    value = kwargs.get(argument, args[position] if position < len(args) else None)
    for n, part in enumerate(parts_beside(value, placed.name)):
        if part is not None:
            recorder.add(f"{argument}.{n}.{index}", part)


@contextmanager
def uncompiled(prepared: PreparedPipeline) -> Iterator[None]:
    """Runs the denoisers eagerly inside: a graph takes no notice of hooks that come for one call."""
    modules = [m for denoiser in prepared.denoisers.values() for m in denoiser.modules()]
    compiled = [(m, m._compiled_call_impl) for m in modules if m._compiled_call_impl is not None]
    for module, _ in compiled:
        module._compiled_call_impl = None
    wrapped = {
        n: getattr(prepared.pipe, n) for n, m in prepared.denoisers.items() if getattr(prepared.pipe, n) is not m
    }
    for name in wrapped:
        setattr(prepared.pipe, name, prepared.denoisers[name])
    try:
        yield
    finally:
        for module, call in compiled:
            module._compiled_call_impl = call
        for name, component in wrapped.items():
            setattr(prepared.pipe, name, component)
