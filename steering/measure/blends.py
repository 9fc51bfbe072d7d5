"""Replays one captured call with a donor mixed in by a share at each site, and measures what each share changes.

A `Plan` says which sites see a donor. A search for those sites also asks about mixtures, pooled text included, and
about how fast the prediction moves with each site's share. The device tables already hold a share for each site and row
(`alpha`). Here it is a tensor with gradients, so one backward pass gives the slopes at all sites, in every family,
masks and pooled text included, and no forward pass changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from steering.batch.device_tables import DeviceTables
from steering.batch.layout import Layout
from steering.errors import BadPlan
from steering.measure.replay import Call, asked_of, repeated_call, with_room
from steering.plans import Plan, Swap
from steering.run.prepared import PreparedPipeline, uncompiled

__all__ = ["Blend", "blend_call"]

_EDGE = 1e-4  # at exactly 1 a blend is a gather, and the logarithm of a mask has no slope at 0


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """Results of a call under mixtures of its own text and a donor's.

    `predictions` float32 [rows, ...]; `slopes` [rows, units]: how fast `<prediction, direction>` grows with each unit's
    share, or None; `rows`: the cost, in denoiser evaluations of one row (a backward counts 2; twins are counted).
    """

    predictions: torch.Tensor
    slopes: torch.Tensor | None
    rows: int


def blend_call(
    prepared: PreparedPipeline, call: Call, donor: str, shares: torch.Tensor, *, direction: torch.Tensor | None = None
) -> Blend:
    """The predictions for mixtures `shares` [rows, units] in [0, 1]; units are the sites, then the global ones.

    At 0 a unit sees the call's own text, at 1 the donor's, as a `Swap` of mode `kv` at these sites would show it.
    Twins share the call's latents. With a `direction` [...] the slopes are computed as well. Raises: BadPlan.
    """
    rows, units = shares.shape
    if units != len(prepared.placed) or not bool(((shares >= 0) & (shares <= 1)).all()):
        raise BadPlan(f"shares must be [rows, {len(prepared.placed)}] in [0, 1], got {list(shares.shape)}")
    plan = _everywhere(prepared, donor)
    call = with_room(prepared, call, [plan])
    batch, kwargs = repeated_call(prepared, call, [plan] * rows)
    total = len(batch.prompts)
    device = call.text.device
    shown = torch.ones(units, total)
    shown[:, :rows] = shares.T.float()
    if direction is not None:
        shown[:, :rows].clamp_(_EDGE, 1 - _EDGE)
    shown = shown.to(device).requires_grad_(direction is not None)
    program = prepared.program(batch.plans, batch.added)
    setting = program.at(call.step, call.steps, Layout(total, "cond-only"))
    own = call.text.expand(total, -1, -1)
    picture = prepared.picture(kwargs, call.encoding)
    banks = prepared.banks(program, call.encoding, own)
    banks |= prepared.static_banks(program, call.encoding, own, kwargs, picture)
    tables = prepared.device_tables(program, total, own, banks, picture)
    tables.write(setting)
    with ExitStack() as stack, torch.set_grad_enabled(direction is not None):
        stack.enter_context(uncompiled(prepared))
        stack.enter_context(prepared.hooked_sites(program))
        stack.enter_context(_mixed(tables, shown))
        stack.callback(prepared.active.clear)
        prepared.active.show(tables)
        prediction = asked_of(prepared.denoisers[call.component], kwargs)[:rows]
        expected = setting.hits.astype("int64")
        expected[:, prepared.sites_beside(call.component)] = 0
        prepared.check_counts(tables.read()[0], expected)
        if direction is None:
            return Blend(prediction, None, total)
        along = (prediction * direction.to(prediction)).sum()
        (slopes,) = torch.autograd.grad(along, shown)
    return Blend(prediction.detach(), slopes[:, :rows].T.double().cpu(), 3 * total)


def _everywhere(prepared: PreparedPipeline, donor: str) -> Plan:
    names = tuple(p.name for p in prepared.sites)
    pooled: Any = "donor" if prepared.globals else "keep"
    return Plan(Swap(donor, sites=names, pooled=pooled, source="twin" if prepared.family.needs_twin else "text"))


@contextmanager
def _mixed(tables: DeviceTables, shown: torch.Tensor) -> Iterator[None]:
    """The tables with `shown` [units, rows] as the shares of their sites; afterwards they have their own again."""
    before: Sequence[torch.Tensor] = [site.alpha["swap"] for site in tables.by_site]
    blends = tables.common.blends
    tables.common.blends = True
    for n, site in enumerate(tables.by_site):
        site.alpha["swap"] = shown[n]
    try:
        yield
    finally:
        tables.common.blends = blends
        for site, alpha in zip(tables.by_site, before, strict=True):
            site.alpha["swap"] = alpha
