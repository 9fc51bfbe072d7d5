"""Records activations of a model while it draws stock pictures: the samples that edits are fitted on.

Nothing is changed: the pipeline runs unmodified, watched as for a steered call, and is stopped after the last part of
the trajectory that is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import torch

from steering.errors import BadPlan, NotFired, NotSupported, UnknownSite
from steering.families.description import PooledRule, SiteRule
from steering.families.discovery import Placed
from steering.families.spans import Picture
from steering.run.checks import check_lengths, check_values
from steering.run.prepared import PreparedPipeline, uncompiled
from steering.run.session import Session
from steering.values import PROJECTED, Where

if TYPE_CHECKING:
    from steering.host import Host

__all__ = ["Activations", "has_place", "listen", "record"]

Activations = dict[str, tuple[torch.Tensor, ...]]  # by site, for each prompt [levels, tokens, width], float32, CPU


class _Enough(Exception):
    """All that was asked for has been taken down."""


def record(
    host: Host,
    prompts: Sequence[str],
    *,
    sites: Sequence[str],
    where: Where,
    seeds: Sequence[int],
    at: Sequence[float] = (0.1, 0.35, 0.6),
    most: int | None = 64,
    rows_at_once: int = 16,
    timeout: float | None = None,
    **pipeline_kwargs: Any,
) -> Activations:
    """Activations at sites of the first pipeline for the cond rows of `prompts`, at fractions `at` of stock runs.

    `where` as in `Operator`. Text: the tokens that attention is shown, in their order. Of the picture's tokens at most
    `most`, evenly spaced. Where nothing changes along the trajectory (text of cross-attention hosts, pooled text)
    there is one level, and the run ends after its first step.

    Raises: UnknownSite, BadPlan; NotSupported, for a place that a site does not have; NotFired.
    """
    check_lengths(prompts, seeds=seeds)
    check_values(prompts, seeds)
    prepared = host._prepared[0]
    placed = [_find(prepared, name, where, host.name) for name in sites]
    still = where == "pooled" or (where == "text" and not prepared.family.needs_twin)
    levels = (0.0,) if still else tuple(at)
    arguments = host._arguments(pipeline_kwargs) | {"output_type": "latent"}
    found: dict[str, list[torch.Tensor]] = {name: [] for name in sites}
    with host._lock.held(timeout), uncompiled(prepared):
        for first in range(0, len(prompts), rows_at_once):
            part = slice(first, first + rows_at_once)
            generators = [torch.Generator("cpu").manual_seed(s) for s in seeds[part]]
            given = {"prompt": list(prompts[part]), "generator": generators}
            taken = _run(prepared, placed, where, levels, arguments | given, most)
            for name in sites:
                found[name] += taken[name]
    return {name: tuple(rows) for name, rows in found.items()}


def has_place(host: Host, site: str, where: Where) -> bool:
    """Whether `record` finds at a site of the first pipeline what `where` names: not every site gives text on, say."""
    placed = next((p for p in host._prepared[0].placed if p.name == site), None)
    if placed is None or where in PROJECTED:
        return False
    if where == "pooled" or placed.site.kind == "global":
        return where == "pooled" and placed.site.kind == "global"
    return _width(placed, where) > 0


def _width(placed: Placed, where: Where) -> int:
    """How wide a place of a site is; 0 for one that it does not have."""
    widths = {"text": placed.text_width, "output": placed.output_width, "context": placed.context_width}
    return widths.get(where, 0)


def _find(prepared: PreparedPipeline, name: str, where: Where, host: str) -> Placed:
    placed = next((p for p in prepared.placed if p.name == name), None)
    if placed is None:
        raise UnknownSite(f"unknown site `{name}` for the first pipeline of host `{host}`")
    if where in PROJECTED:
        raise NotSupported(f"`{where}` are not recorded; record what a site reads (`text`) or gives (`output`)")
    if (where == "pooled") != (placed.site.kind == "global"):
        raise BadPlan(f"site `{name}` is `{placed.site.kind}` and has no `{where}`")
    if where != "pooled" and not _width(placed, where):
        gives = "text alone" if where == "output" else "no text on to later blocks"
        raise NotSupported(f"site `{name}` gives {gives}, so it has no `{where}`")
    return placed


def _run(
    prepared: PreparedPipeline,
    placed: Sequence[Placed],
    where: Where,
    levels: Sequence[float],
    arguments: dict[str, Any],
    most: int | None,
) -> dict[str, list[torch.Tensor]]:
    """One call of the pipeline: for each site and prompt what was held at the levels."""
    count = len(arguments["prompt"])
    held: dict[str, dict[int, list[torch.Tensor]]] = {p.name: {} for p in placed}

    def wanted(steps: int) -> list[int]:
        return [min(int(f * steps + 1e-9), steps - 1) for f in levels]

    def stop(step: int, steps: int) -> None:
        if step >= max(wanted(steps)):
            raise _Enough

    session = Session(prepared, [None] * count, stop, watch=True)

    def keep(site: Placed, tokens: torch.Tensor, shown: torch.Tensor | None) -> None:
        clock, layout = session.clock, session.layout
        if layout is None or clock.step not in wanted(clock.steps) or clock.step in held[site.name]:
            return
        rows = [row for picture in range(count) for row in layout.rows(picture, "cond")]
        if rows:  # none in a call of uncond rows alone
            held[site.name][clock.step] = [_samples(tokens, shown, row, most) for row in rows]

    steps = 0
    with torch.no_grad(), session.attached(), ExitStack() as stack:
        for site in placed:
            stack.callback(listen(prepared, site, where, session, keep).remove)
        with suppress(_Enough):
            prepared.pipe(**arguments)
        steps = session.clock.steps
    missing = [name for name, taken in held.items() if not set(wanted(steps)) <= set(taken)]
    if missing:
        raise NotFired(f"site `{missing[0]}` was not called where its `{where}` should have been taken down")
    return {
        name: [torch.stack([taken[step][n] for step in wanted(steps)]) for n in range(count)]
        for name, taken in held.items()
    }


def _samples(tokens: torch.Tensor, shown: torch.Tensor | None, row: int, most: int | None) -> torch.Tensor:
    own = tokens[row] if shown is None else tokens[row][shown[row]]
    if most is not None and len(own) > most:
        own = own[torch.linspace(0, len(own) - 1, most, device=own.device).round().long()]
    return own.detach().float().cpu().clone()


_Keep = Callable[[Placed, torch.Tensor, torch.Tensor | None], None]


def listen(prepared: PreparedPipeline, site: Placed, where: Where, session: Session, keep: _Keep) -> Any:
    """A hook that hands what the site holds to `keep`, and changes nothing."""
    rule = site.rule

    def picture() -> Picture:
        return session.picture

    if isinstance(rule, PooledRule):
        position = site.position(rule.argument)

        def pooled(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            value = kwargs[rule.argument] if rule.argument in kwargs else args[position]
            if rule.leading:
                assert session.pooled is not None
                value = value[..., : session.pooled]
            keep(site, value if value.dim() == 3 else value[:, None], None)

        return site.module.register_forward_pre_hook(pooled, with_kwargs=True)
    if where == "text":
        return site.module.register_forward_pre_hook(_text_hook(site, rule, picture, keep), with_kwargs=True)

    def output(module: Any, args: Any, value: Any) -> None:
        shown, text = _parts(site, rule, value, picture())
        keep(site, shown if where == "output" else text, None)

    return site.module.register_forward_hook(output)


def _text_hook(site: Placed, rule: SiteRule, picture: Callable[[], Picture], keep: _Keep) -> Callable[..., None]:
    position = site.position(rule.text)
    masked = site.position(rule.mask.argument) if rule.mask else 0

    def text(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        value = kwargs[rule.text] if rule.text in kwargs else args[position]
        value = value[0] if isinstance(value, tuple) else value  # an IP-Adapter's pictures stand behind the text
        shown = None
        if rule.mask is not None:
            mask = kwargs[rule.mask.argument] if rule.mask.argument in kwargs else args[masked]
            shown = rule.mask.shown(mask)
        keep(site, site.entry.take(value, picture()), shown)

    return text


def _parts(site: Placed, rule: SiteRule, value: Any, picture: Picture) -> tuple[Any, Any]:
    """The picture's part of a site's output as tokens [b, n, d], and the text's, where it has one of them."""
    if rule.output == "text":
        return None, value
    if rule.output in ("first", "second"):
        return (value[0], value[1]) if rule.output == "first" else (value[1], value[0])
    if rule.output == "sequence":
        return site.span.rest(value, picture), site.span.take(value, picture)
    flat = value.flatten(2) if rule.output in ("channels", "heads") else value
    return (flat.transpose(1, 2) if rule.output == "channels" else flat), None
