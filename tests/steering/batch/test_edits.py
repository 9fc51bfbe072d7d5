"""Edits: `y = x - sum_r g(<e_r, x - m_r>) d_r` at the text or the output of a site, exact where nothing is planned.

| law | mutation that turned it red |
|---|---|
| a projection removes; what a hook would do | `+` for `-` |
| a positive gate; what a hook would do | gate ignored |
| an untouched row is exact | `x + (y - x) * touched` for `torch.where` |
| the dose counts real tokens only | hidden tokens counted |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

TOLERANCE = 1e-5
DIFFERENT = 100 * TOLERANCE
RED, GREEN = "a red star", "green ring, sign 42"


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def operator(rank: int = 2, width: int = 32, seed: int = 0, **more: Any) -> Any:
    """A projection off `rank` random orthonormal directions, through a random point."""
    from steering import Operator

    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(width, rank, generator=generator))[0].T.contiguous()
    return Operator(q, q.clone(), torch.randn(rank, width, generator=generator), **more)


def table(op: Any) -> tuple[torch.Tensor, ...]:
    from steering.batch.device_tables import operator_tables

    return operator_tables({op.table: [op]}, torch.device("cpu"))[op.table]


def test_a_projection_removes_what_it_projects_on_and_nothing_else() -> None:
    from steering.maths import edit_rows

    op = operator()
    x = torch.randn(3, 5, 32)
    y, size, _ = edit_rows(x, table(op), torch.tensor([1, 0, 1]), torch.tensor([1.0, 9.0, 0.5]))
    s = torch.einsum("btw,rw->btr", x, op.e) - (op.e * op.m).sum(-1)
    after = torch.einsum("btw,rw->btr", y, op.e) - (op.e * op.m).sum(-1)
    assert after[0].abs().max() < TOLERANCE
    assert apart(after[2], s[2] / 2) < TOLERANCE
    assert torch.equal(y[1], x[1])
    assert apart(size[0], s[0].abs().sum(-1)) < TOLERANCE
    assert float(size[1].abs().max()) == 0.0
    orthogonal = x - torch.einsum("btr,rw->btw", torch.einsum("btw,rw->btr", x, op.e), op.e)
    assert (
        apart(orthogonal[0], y[0] - torch.einsum("btr,rw->btw", torch.einsum("btw,rw->btr", y[:1], op.e), op.e)[0])
        < 1e-4
    )


def test_an_untouched_row_is_exact_even_where_arithmetic_is_not() -> None:
    """`inf - inf` is nan and `-0.0 + 0.0` is `0.0`: identity is kept by choosing, never by adding nothing."""
    from steering.maths import edit_rows

    x = torch.randn(2, 5, 32)
    x[1, 0], x[1, 1] = float("inf"), -0.0
    y, _, _ = edit_rows(x, table(operator()), torch.tensor([1, 0]), torch.tensor([1.0, 0.0]))
    assert torch.equal(y[1], x[1])
    assert torch.equal(torch.signbit(y[1]), torch.signbit(x[1]))
    assert not torch.equal(y[0], x[0])


def test_a_positive_gate_leaves_negative_projections_alone() -> None:
    from steering.maths import edit_rows

    op = operator(rank=1, gate="positive")
    x = torch.randn(1, 50, 32)
    s = (torch.einsum("btw,rw->btr", x, op.e) - (op.e * op.m).sum(-1))[0, :, 0]
    y, _, _ = edit_rows(x, table(op), torch.tensor([1]), torch.tensor([1.0]))
    moved = (y - x).abs().amax(-1)[0] > TOLERANCE
    assert torch.equal(moved, s > TOLERANCE)
    assert bool(moved.any())
    assert not bool(moved.all())


@pytest.mark.parametrize("where", ["text", "output"])
def test_an_edit_moves_its_own_picture_only(ask: Any, where: str) -> None:
    from steering import Edit, Plan, Window

    stock = ask.stock([RED, RED, GREEN])
    op = operator(where=where)
    plans = [Plan(Edit(ask.names[1:3], op)), None, Plan(Edit(ask.names[:1], op, window=Window(0, 0.5), rows="both"))]
    out = ask.host.generate([RED, RED, GREEN], plans=plans, seeds=[7] * 3, output_type="latent")
    assert torch.equal(out.images[1], stock[1])
    assert min(apart(out.images[0], stock[0]), apart(out.images[2], stock[2])) > DIFFERENT
    assert out.report[0].fired == dict.fromkeys(ask.names[1:3], 4)
    assert out.report[2].fired == {ask.names[0]: 4}  # two steps, both halves
    assert set(out.report[0].dose) == set(ask.names[1:3])
    assert all(v > 0 for v in out.report[0].dose.values())
    assert out.report[1].dose is None
    assert torch.equal(ask.steered([RED], [Plan(Edit(ask.names, op, strength=0.0))]), ask.stock([RED]))
    assert torch.equal(ask.steered([RED], [Plan(Edit(ask.names, op, window=Window(0, 0)))]), ask.stock([RED]))


def test_an_edit_of_the_output_is_what_a_hook_of_torch_would_do(ask: Any) -> None:
    """Against an independent way: the formula as a plain forward hook, in the cond half only."""
    from steering import Edit, Plan

    op = operator(where="output", gate="positive")

    def by_hand(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        y = output.clone()
        s = (torch.einsum("btw,rw->btr", y[1:], op.e) - (op.e * op.m).sum(-1)).clamp(min=0)
        y[1:] -= 0.7 * torch.einsum("btr,rw->btw", s, op.d)
        return y

    handle = ask.host.pipe.transformer.get_submodule(ask.names[1]).register_forward_hook(by_hand)
    try:
        want = ask.stock([RED])
    finally:
        handle.remove()
    assert apart(want, ask.stock([RED])) > DIFFERENT
    assert apart(ask.steered([RED], [Plan(Edit((ask.names[1],), op, strength=0.7))]), want) < TOLERANCE


def test_a_swap_comes_before_an_edit_of_the_text(ask: Any) -> None:
    from steering import Edit, Plan, Swap

    edit = Edit(ask.names, operator())
    swap = Swap(GREEN, sites=ask.names, pooled="keep")
    both = ask.steered([RED], [Plan(edit, swap)])
    assert apart(both, ask.steered([GREEN], [Plan(edit)])) < TOLERANCE
    assert apart(both, ask.steered([RED], [Plan(edit)])) > DIFFERENT


def test_different_operators_and_ranks_share_a_batch(ask: Any) -> None:
    from steering import Edit, Plan

    plans = [
        Plan(Edit(ask.names, operator(1, seed=1))),
        Plan(Edit(ask.names, operator(3, seed=2))),
        Plan(Edit(ask.names[:2], operator(2, seed=3, where="output"))),
        ask.swap(GREEN),
        None,
    ]
    mixed = ask.steered([RED] * 5, plans)
    for i, plan in enumerate(plans):
        alone = ask.steered([RED] * 5, [plan if k == i else None for k in range(5)])
        assert apart(mixed[i], alone[i]) < TOLERANCE
    assert min(apart(a, b) for i, a in enumerate(mixed) for b in mixed[i + 1 :]) > DIFFERENT
    assert torch.equal(mixed[4], ask.stock([RED] * 5)[4])


def test_the_dose_counts_real_tokens_only_and_follows_the_direction(ask: Any) -> None:
    """A direction that the text is rich in gives a larger dose than its tenth; padding gives none."""
    from steering import Edit, Operator, Plan

    op = operator()
    tenth = Operator(op.e / 10, op.d, op.m)
    seen: list[torch.Tensor] = []
    site = ask.host.pipe.transformer.get_submodule(ask.names[0])
    handle = site.register_forward_pre_hook(lambda m, a, k: seen.append(k["encoder_hidden_states"]), with_kwargs=True)
    try:
        ask.stock([RED])
    finally:
        handle.remove()
    real = seen[0][1][: len(RED) + 1]
    want = (torch.einsum("tw,rw->tr", real, op.e) - (op.e * op.m).sum(-1)).abs().sum(-1).mean()

    def dose(o: Any) -> float:
        plan = Plan(Edit(ask.names[:1], o, strength=1e-9))
        return ask.host.generate([RED], plans=[plan], seeds=[7], output_type="latent").report[0].dose[ask.names[0]]

    assert dose(op) == pytest.approx(float(want), rel=1e-4)
    assert dose(tenth) == pytest.approx(float(want) / 10, rel=1e-4)


def test_an_operator_of_another_width_is_refused(ask: Any) -> None:
    from steering import BadPlan, Edit, Plan

    with pytest.raises(BadPlan, match=r"must be 32 wide for the text of site `transformer_blocks.0.attn2`, got 8"):
        ask.steered([RED], [Plan(Edit(ask.names, operator(width=8)))])
