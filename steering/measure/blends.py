"""Owns one captured call under a donor that is mixed in by degrees, site by site, and what each degree changes.

A `Plan` says which sites see a donor. To find those sites, one wants to ask about any mixture at once, pooled text
included, and to know how fast the prediction moves with each site's share. The board already holds a share a site and
row (`alpha`); here it is a tensor that gradients flow to, so one backward pass tells the slopes at all sites, in every
family, masks and pooled text included, and nothing is added to any forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from steering.batch.device_tables import Board
from steering.batch.layout import Layout
from steering.errors import BadPlan
from steering.measure.replay import Call, prediction_of, prepared
from steering.plans import Plan, Swap
from steering.run.prepared import Gear
from steering.run.stages import uncompiled

__all__ = ["Blend", "blend_call"]

_EDGE = 1e-4  # at exactly 1 a blend is a gather, and the logarithm of a mask has no slope at 0


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """What a call gives under mixtures of its own text and a donor's.

    `predictions` float32 [rows, ...]; `slopes` [rows, units]: how fast `<prediction, direction>` grows with each unit's
    share, or None; `rows`: the cost, in denoiser evaluations of one row (a backward counts 2; twins are counted).
    """

    predictions: torch.Tensor
    slopes: torch.Tensor | None
    rows: int


def blend_call(
    gear: Gear, call: Call, donor: str, shares: torch.Tensor, *, direction: torch.Tensor | None = None
) -> Blend:
    """The predictions for mixtures `shares` [rows, units] in [0, 1]; units are the sites, then the global ones.

    At 0 a unit sees the call's own text, at 1 the donor's, as a `Swap` of mode `kv` at these sites would show it.
    Twins share the call's latents. With a `direction` [...] the slopes come along. Raises: BadPlan.
    """
    rows, units = shares.shape
    if units != len(gear.placed) or not bool(((shares >= 0) & (shares <= 1)).all()):
        raise BadPlan(f"shares must be [rows, {len(gear.placed)}] in [0, 1], got {list(shares.shape)}")
    plan = _everywhere(gear, donor)
    batch, kwargs, args = prepared(gear, call, [plan] * rows)
    total = len(batch.prompts)
    device = call.text.device
    shown = torch.ones(units, total)
    shown[:, :rows] = shares.T.float()
    if direction is not None:
        shown[:, :rows].clamp_(_EDGE, 1 - _EDGE)
    shown = shown.to(device).requires_grad_(direction is not None)
    program = gear.program(batch.plans, batch.added)
    setting = program.at(call.step, call.steps, Layout(total, "cond-only"))
    own = call.text.expand(total, -1, -1)
    board = gear.board(program, total, own, gear.banks(program, call.encoding, own))
    board.write(setting)
    with ExitStack() as stack, torch.set_grad_enabled(direction is not None):
        stack.enter_context(uncompiled(gear))
        stack.enter_context(gear.on_sites_of(program))
        stack.enter_context(_mixed(board, shown))
        stack.callback(gear.slate.clear)
        gear.slate.show(board)
        prediction = prediction_of(gear.denoiser(*args, **kwargs))[:rows].float()
        gear.refuse_silence(board.read()[0], setting.hits.astype("int64"))
        if direction is None:
            return Blend(prediction, None, total)
        along = (prediction * direction.to(prediction)).sum()
        (slopes,) = torch.autograd.grad(along, shown)
    return Blend(prediction.detach(), slopes[:, :rows].T.double().cpu(), 3 * total)


def _everywhere(gear: Gear, donor: str) -> Plan:
    names = tuple(p.name for p in gear.sites)
    pooled: Any = "donor" if gear.globals else "keep"
    return Plan(Swap(donor, sites=names, pooled=pooled, source="twin" if gear.family.joint else "text"))


@contextmanager
def _mixed(board: Board, shown: torch.Tensor) -> Iterator[None]:
    """The board with `shown` [units, rows] as the shares of its sites; afterwards it has its own again."""
    before: Sequence[torch.Tensor] = [share.alpha["swap"] for share in board.shares]
    blends = board.common.blends
    board.common.blends = True
    for site, share in enumerate(board.shares):
        share.alpha["swap"] = shown[site]
    try:
        yield
    finally:
        board.common.blends = blends
        for share, alpha in zip(board.shares, before, strict=True):
            share.alpha["swap"] = alpha
