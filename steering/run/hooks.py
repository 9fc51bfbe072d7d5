"""The hooks that run inside the model's forward pass: one for each way in which text is read.

They are made once for each site. A hook looks up its site's tables of the running call, and does nothing when there are
none. No hook decides anything by a plan or by the number of its site (see `device_tables`), none copies to or from a
device, and each counts what it really replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from steering.batch.device_tables import ActiveSite, CommonTables, SiteTables
from steering.errors import BadLayout, NotSupported
from steering.families.description import MaskRule, PooledRule, SiteRule
from steering.families.discovery import Placed
from steering.families.spans import Span, relaid
from steering.maths import edit_rows, swap_bias, swap_rows, take_rows
from steering.values import Projected, Where, table_key

__all__ = [
    "accompanied",
    "adapter_hook",
    "companion_hook",
    "cross_hook",
    "output_hook",
    "parts_beside",
    "pooled_hook",
    "projection_hook",
    "stream_hook",
    "text_edit_hook",
]

Hook = Callable[..., Any]


def cross_hook(site: ActiveSite, placed: Placed, bank: str) -> Hook:
    """A forward pre-hook of a cross-attention site: gives it the text that the tables say, mask included, and edits
    it. bank: where the donors' texts lie."""
    rule = placed.rule
    assert isinstance(rule, SiteRule)
    position, name, width = placed.position(rule.text), placed.name, placed.text_width
    mask_argument = rule.mask.argument if rule.mask else "attention_mask"
    mask_position = placed.position(mask_argument)
    entry = placed.block.get_submodule(rule.before) if rule.before and placed.block is not None else None

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tables = site.now()
        if tables is None:
            return None
        common = tables.common
        given = _argument(args, kwargs, rule.text, position)
        text = given[0] if isinstance(given, tuple) else given  # an IP-Adapter's pictures stand behind the text
        _check(text, common, (common.tokens, width), name)
        mask = _argument(args, kwargs, mask_argument, mask_position)
        _check_mask(mask, rule.mask, name)
        put, named = list(args), dict(kwargs)
        if common.swaps:
            own_mask, donors = mask, common.banks.get(bank)
            if entry is not None and donors is not None:
                donors = entry(donors)
            text = _swapped(tables, "swap", text, donors)
            if own_mask is not None:
                mask = _swapped_mask(tables, own_mask, common.banks.get("mask"))
                _put(put, named, mask_argument, mask_position, mask)
            _count(tables, "swap")
        if table_key("text", width) in common.operators:
            shown = rule.mask.shown(mask) if rule.mask else None
            text = _edited(tables, "text", text, shown)
        _put(put, named, rule.text, position, (text, *given[1:]) if isinstance(given, tuple) else text)
        return tuple(put), named

    return hook


def text_edit_hook(site: ActiveSite, placed: Placed) -> Hook:
    """A forward pre-hook of a joint site: edits the text that its attention reads; the text stream stays as it is."""
    rule, span = placed.rule, placed.entry
    assert isinstance(rule, SiteRule)
    argument, position, width = rule.text, placed.position(rule.text), placed.text_width

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tables = site.now()
        if tables is None or table_key("text", width) not in tables.common.operators:
            return None
        whole = _argument(args, kwargs, argument, position)
        picture = tables.common.picture
        text = span.take(whole, picture)
        if not text.shape[1]:  # it was read in an earlier call, which kept what it made of it
            return None
        put, named = list(args), dict(kwargs)
        _put(put, named, argument, position, span.put(whole, picture, _edited(tables, "text", text)))
        return tuple(put), named

    return hook


def projection_hook(site: ActiveSite, placed: Placed, what: str, span: Span) -> Hook:
    """A forward hook of a site's projection of text: its rows are others' rows, or recorded ones. `what`: `keys` or
    `values`, and `span` is where they lie in what the projection gives. A site's only one counts as both."""
    name, counters = placed.name, {"keys": "swap", "values": "value"}
    counted = [counters[what]] if len(placed.readers()) > 1 else [*counters.values()]

    def hook(module: Any, args: Any, output: torch.Tensor) -> Any:
        tables = site.now()
        if tables is None or not tables.common.swaps:
            return None
        picture = tables.common.picture
        own = span.take(output, picture)
        if not own.shape[1]:  # it was read in an earlier call, which kept what it made of it
            return None
        _check(own, tables.common, (), name)
        bank = _recorded(tables, "swap", what, own, name)
        given = _swapped(tables, "swap", own, bank)
        for each in counted:
            _count(tables, each)
        return span.put(output, picture, given)

    return hook


def companion_hook(site: ActiveSite, placed: Placed) -> Hook:
    """A forward pre-hook of a joint site: masks and rotations of a row go with the text that it is shown."""
    rule, name = placed.rule, placed.name
    assert isinstance(rule, SiteRule)
    arguments = [(argument, placed.position(argument)) for argument in rule.companions]
    alone = placed.span.whole

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tables = site.now()
        if tables is None:
            return None
        channels = [c for c, on in (("swap", tables.common.swaps), ("pin", tables.common.pins)) if on]
        put, named = list(args), dict(kwargs)
        for argument, position in arguments:
            value = _argument(args, kwargs, argument, position)
            for channel in channels:
                value = accompanied(tables, channel, argument, value, name, alone=alone)
            if value is not None:
                _put(put, named, argument, position, value)
        return tuple(put), named

    return hook


def adapter_hook(site: ActiveSite, module: Any, where: Projected) -> Hook:
    """A forward hook of a site's projection: changes what it makes by what it reads, as a LoRA does."""
    key = table_key(where, int(module.in_features), int(module.out_features))

    def hook(module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
        tables = site.now()
        if tables is None or key not in tables.common.operators:
            return None
        return _edited(tables, where, args[0], base=output)

    return hook


def stream_hook(site: ActiveSite, placed: Placed) -> Hook:
    """A forward pre-hook of the block around a joint site: its text stream is another row's (mode `pinned`)."""
    rule = placed.rule
    assert isinstance(rule, SiteRule)
    assert rule.stream is not None
    argument, position, name = rule.stream, placed.stream_position(rule.stream), placed.name
    span = Span(rule.stream_span, row_axis=rule.stream_rows)

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tables = site.now()
        if tables is None or not tables.common.pins:
            return None
        whole, picture = _argument(args, kwargs, argument, position), tables.common.picture
        text = span.take(whole, picture)
        if not text.shape[1]:
            return None
        _check(text, tables.common, (), name)
        put, named = list(args), dict(kwargs)
        _put(put, named, argument, position, span.put(whole, picture, _swapped(tables, "pin", text, None)))
        _count(tables, "pin")
        return tuple(put), named

    return hook


def pooled_hook(site: ActiveSite, placed: Placed) -> Hook:
    """A forward pre-hook of the module where pooled text enters the timestep modulation: swaps it, then edits it."""
    rule = placed.rule
    assert isinstance(rule, PooledRule)
    argument, leading, position, name = rule.argument, rule.leading, placed.position(rule.argument), placed.name
    masked = None if rule.mask is None else (rule.mask.argument, placed.position(rule.mask.argument))

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tables = site.now()
        if tables is None:
            return None
        whole, bank = _argument(args, kwargs, argument, position), tables.recorded.get("pooled")
        width = whole.shape[-1]
        if leading:
            width = tables.common.pooled_width if bank is None else bank.shape[-1]
        edited = table_key("pooled", width) in tables.common.operators
        if bank is None and not edited:
            return None
        given = whole[..., :width]
        if bank is not None:
            _check(given, tables.common, tuple(bank.shape[1:]), name)
            given = _swapped(tables, "swap", given, bank)
            _count(tables, "swap")
        if edited:
            tokens = given if given.dim() == 3 else given[:, None]
            given = _edited(tables, "pooled", tokens).view_as(given)
        put, named = list(args), dict(kwargs)
        _put(put, named, argument, position, torch.cat([given, whole[..., width:]], -1) if leading else given)
        if masked is not None and bank is not None:
            mask = _swapped_mask(tables, _argument(args, kwargs, *masked), tables.recorded["pooled_mask"])
            _put(put, named, *masked, mask)
        return tuple(put), named

    return hook


def output_hook(site: ActiveSite, placed: Placed) -> Hook:
    """A forward hook that edits the picture's and the text's parts of a site's output as the tables say, and adds up
    what sentinels read of the picture's part as it leaves."""
    rule, width, context, span = placed.rule, placed.output_width, placed.context_width, placed.span
    assert isinstance(rule, SiteRule)
    kind = rule.output
    order = (1, 0) if kind == "second" else (0, 1)

    def hook(module: Any, args: Any, output: Any) -> Any:
        tables = site.now()
        if tables is None:
            return None
        here = width > 0 and table_key("output", width) in tables.common.operators
        there = context > 0 and table_key("context", context) in tables.common.operators
        if kind == "text":
            return _edited(tables, "context", output) if there else None
        if kind in ("first", "second", "sequence"):
            count = tables.common.picture
            if kind == "sequence":
                own, context_own = span.rest(output, count), span.take(output, count)
            else:
                own, context_own = (output[n] for n in order)
            picture = _edited(tables, "output", own) if here else own
            _watch(tables, picture)
            if not here and not there:
                return None
            there = there and context_own.shape[1] > 0
            text = _edited(tables, "context", context_own) if there else context_own
            if kind != "sequence":
                parts = (picture, text)
                return (parts[order[0]], parts[order[1]], *output[2:])
            return span.put(output, count, text, picture)
        flat = output.flatten(2) if kind in ("channels", "heads") else output
        tokens = flat.transpose(1, 2) if kind == "channels" else flat
        edited = _edited(tables, "output", tokens) if here else tokens
        _watch(tables, edited)
        if not here or kind != "channels":
            return edited.view_as(output) if here else None
        # strides as they were: convolutions round differently for another memory format
        return torch.empty_like(output).copy_(edited.transpose(1, 2).unflatten(2, output.shape[2:]))

    return hook


def _swapped(tables: SiteTables, channel: str, own: torch.Tensor, bank: torch.Tensor | None) -> torch.Tensor:
    src = tables.src[channel]
    if torch.compiler.is_compiling() or tables.common.blends:  # one graph for all plans; eagerly, no work for nothing
        return swap_rows(own, bank, src, tables.alpha[channel].to(own.dtype))
    return take_rows(own, bank, src)


def accompanied(tables: SiteTables, channel: str, argument: str, own: Any, name: str, *, alone: bool) -> Any:
    """What goes with text, in the order in which rows are shown others' text; what several rows share stays. `alone`:
    no picture is with it."""
    parts, shown = parts_beside(own, name), []
    for n, part in enumerate(parts):  # a comprehension would make the site's name a constant of a compiled graph
        shown.append(_part_beside(tables, channel, f"{argument}.{n}", part, name, alone=alone))
    return type(own)(shown) if isinstance(own, tuple | list) else shown[0]


def parts_beside(value: Any, name: str) -> Sequence[torch.Tensor | None]:
    """The tensors of a mask or rotation at a site. Raises: NotSupported, for a mask that is another kind of thing."""
    parts = value if isinstance(value, tuple | list) else [value]
    for part in parts:
        if part is not None and not isinstance(part, torch.Tensor):
            raise NotSupported(
                f"site `{name}` was called with a `{type(part).__name__}`, which has no rows to go with text; set the"
                " attention processor that the denoiser has by default"
            )
    return parts


def _part_beside(
    tables: SiteTables, channel: str, what: str, own: torch.Tensor | None, name: str, *, alone: bool
) -> Any:
    common, src = tables.common, tables.src[channel]
    shown = common.banks.get("shown")
    if own is not None and shown is not None:  # donors that are no rows of the batch
        _check(own, common, (), name)
        return take_rows(own, shown.view(len(shown), *own.shape[1:]).to(own.dtype), src)
    if own is None:
        _check_shown(tables, channel, what, name)
        return own
    if own.shape[0] == 1 < common.own.shape[0]:
        return own
    _check(own, common, (), name)
    given, order = take_rows(own, _recorded(tables, channel, what, own, name), src), common.picture.order
    return given if alone or order is None else relaid(given, order.index_select(0, src), order)


def _recorded(tables: SiteTables, channel: str, what: str, own: torch.Tensor, name: str) -> torch.Tensor | None:
    """The bank of a site's recorded rows, or None where this call has none that is shown: the uncond rows of some
    pipelines come in a call of their own, with a text of another length. Raises: BadLayout."""
    if channel != "swap" or not tables.recorded:
        return None
    bank = tables.recorded.get(what)
    if bank is not None and bank.shape[1:] == own.shape[1:]:
        return bank
    if bool((tables.src[channel] >= own.shape[0]).any()):
        kept = "nothing" if bank is None else str(list(bank.shape[1:]))
        raise BadLayout(
            f"a recorded donor has {kept} as `{what}` of site `{name}`, where this call has {list(own.shape[1:])}: its"
            " prompts have another length; use source `twin`"
        )
    return None


def _check_shown(tables: SiteTables, channel: str, what: str, name: str) -> None:
    """Nothing, unless a recorded donor has hidden tokens and the call has no mask that would hide them. Raises:
    BadLayout."""
    bank, rows = tables.recorded.get(what), len(tables.common.own)
    if channel != "swap" or bank is None or bank.dtype is not torch.bool:
        return
    shown = bank[(tables.src[channel] - rows).clamp(min=0)].flatten(1).all(1)
    if bool(((tables.src[channel] >= rows) & ~shown).any()):
        raise BadLayout(
            f"a donor has hidden tokens at site `{name}`, where this call has no mask: its prompts have another length;"
            " use source `twin`"
        )


def _swapped_mask(tables: SiteTables, own: torch.Tensor, bank: torch.Tensor | None) -> torch.Tensor:
    """Masks of weights are mixed as the texts are; the others are taken whole, with plans of full strength alone."""
    src = tables.src["swap"]
    bank = None if bank is None else bank.to(own.dtype)
    if own.is_floating_point() and (torch.compiler.is_compiling() or tables.common.blends):
        return swap_bias(own, bank, src, tables.alpha["swap"].to(own.dtype))
    return take_rows(own, bank, src)


def _count(tables: SiteTables, what: str) -> None:
    channel = "pin" if what == "pin" else "swap"
    tables.fired[what].add_(tables.src[channel] != tables.common.own)


def _edited(
    tables: SiteTables,
    where: Where,
    x: torch.Tensor,
    shown: torch.Tensor | None = None,
    base: torch.Tensor | None = None,
) -> torch.Tensor:
    """The edited activation; adds to the dose its projections' size, and to `moved` how far it was moved: means over
    the tokens that are shown [b, t]. `base`: what is changed, where it is not `x` itself but made of it."""
    slot, key = tables.slot[where], table_key(where, x.shape[-1], None if base is None else base.shape[-1])
    y, size, moved = edit_rows(x, tables.common.operators[key], slot, tables.scale[where], base)
    for total, each in ((tables.dose, size), (tables.moved, moved)):
        if shown is None:
            total.add_(each.mean(-1))
        else:
            seen = shown.to(each.dtype)
            total.add_((each * seen).sum(-1) / seen.sum(-1).clamp(min=1))
    tables.fired[where].add_(slot > 0)
    return y


def _watch(tables: SiteTables, picture: torch.Tensor) -> None:
    """Adds what each sentinel reads of the picture's tokens [b, n, w]. A value that is not finite stays in the sum,
    whichever row and step it is in."""
    if tables.directions is None:
        return
    said = picture.float().mean(1) @ tables.directions.T
    tables.said.add_(said * tables.common.watch)
    tables.fired["watch"].add_(tables.listening)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], name: str, position: int) -> Any:
    return kwargs[name] if name in kwargs else args[position] if position < len(args) else None


def _put(args: list[Any], kwargs: dict[str, Any], name: str, position: int, value: Any) -> None:
    if name in kwargs or position >= len(args):
        kwargs[name] = value
    else:
        args[position] = value


def _check(text: Any, common: CommonTables, shape: tuple[int, ...], name: str) -> None:
    rows = common.own.shape[0]
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
