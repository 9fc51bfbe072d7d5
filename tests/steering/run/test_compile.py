"""Compiled denoisers: one graph for all plans, stock graphs for calls without one, and no silence when a graph came
too early.

The backend only captures (`torch._dynamo`), so these tests cost seconds and need no compiler of C.

| law | mutation that turned it red |
|---|---|
| a change of plan does not recompile | bank sized by the number of donors; a Python `if` on whether anything blends |
| a graph traced before the host is found out | comparison of counters removed |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

TOLERANCE = 1e-5
DIFFERENT = 100 * TOLERANCE
RED, GREEN, PINK = "a red star", "green ring, sign 42", "pink moon"


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def counting() -> Any:
    """A backend that counts the graphs it is given and runs them as they are."""
    from torch._dynamo.testing import CompileCounter

    return CompileCounter()


@pytest.mark.parametrize("way", ["in place", "wrapped"])
def test_plans_change_without_a_recompile_and_stock_calls_stay_stock(ask: Any, build: Any, way: str) -> None:
    from steering import Host, Window

    pipe, graphs = build(blocks=2), counting()
    if way == "in place":
        pipe.transformer.compile(backend=graphs, fullgraph=True)
    else:
        pipe.transformer = torch.compile(pipe.transformer, backend=graphs, fullgraph=True)
    mine = type(ask)(Host(pipe, defaults=ask.host.defaults, name="compiled", self_test=False))
    prompts = [RED, GREEN, PINK]
    stock = mine.steered(prompts, [None] * 3)
    after_stock = graphs.frame_count
    first = mine.steered(prompts, [mine.swap(GREEN), None, None])
    after_plan = graphs.frame_count
    assert (after_stock, after_plan) == (1, 2)
    for plans in (
        [None, mine.swap(PINK, mine.names[:1]), mine.swap(RED, strength=0.5)],
        [mine.swap(PINK), mine.swap(RED, rows="both"), mine.swap(GREEN, window=Window(0.5, 1))],
        [None, None, None],
        [mine.swap(GREEN, mine.names[1:]), None, mine.swap("another donor")],
    ):
        mixed = mine.steered(prompts, plans)
        for i, plan in enumerate(plans):
            assert torch.equal(mixed[i], stock[i]) == (plan is None)
    assert graphs.frame_count == after_plan
    assert apart(stock[0], stock[1]) > DIFFERENT
    assert apart(first[0], mine.stock([GREEN, GREEN, PINK])[0]) < TOLERANCE
    report = mine.host.generate([RED] * 3, plans=[mine.swap(GREEN)] * 3, seeds=[1] * 3, output_type="latent").report[2]
    assert report.fired == dict.fromkeys(mine.names, 4)
    assert report.shape.kernels == "compiled"
    mine.host.close()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in pipe.transformer.modules())


def test_regional_compilation_is_steered_too(ask: Any, build: Any) -> None:
    from steering import Host

    pipe, graphs = build(blocks=2), counting()
    eager = type(ask)(Host(pipe, defaults=ask.host.defaults, name="eager", self_test=False))
    want = eager.steered([RED, GREEN], [eager.swap(GREEN, eager.names[:1]), None])
    eager.host.close()
    for block in pipe.transformer.transformer_blocks:
        block.compile(backend=graphs, fullgraph=True)
    mine = type(ask)(Host(pipe, defaults=ask.host.defaults, name="regional"))
    assert mine.host.tested is not None
    assert mine.host.tested.passed
    assert apart(mine.steered([RED, GREEN], [mine.swap(GREEN, mine.names[:1]), None]), want) < TOLERANCE
    assert graphs.frame_count > 0


def test_a_graph_traced_before_the_host_is_found_out(ask: Any, build: Any) -> None:
    """Such a graph has no hooks in it and takes no notice of new ones: exactly the silent no-op that must not pass."""
    from steering import Host, NotFired

    pipe = build(blocks=2)
    pipe.transformer.compile(backend="eager", fullgraph=True)
    plain = ask.host.defaults.arguments() | {"output_type": "latent", "guidance_scale": 1.0}
    pipe(prompt=[RED], generator=torch.Generator().manual_seed(1), **plain)
    mine = type(ask)(Host(pipe, defaults=ask.host.defaults, name="late", self_test=False))
    with pytest.raises(NotFired, match="replaced 0 rows where the plans say 4"):
        mine.steered([RED], [mine.swap(GREEN)], guidance_scale=1.0)
    torch._dynamo.reset()  # the way out: forget the graphs
    assert mine.host.self_test().passed
    mine.steered([RED], [mine.swap(GREEN)], guidance_scale=1.0)


def test_edits_run_compiled(ask: Any, build: Any) -> None:
    from steering import Edit, Host, Operator, Plan

    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(32, 2, generator=generator))[0].T.contiguous()
    pipe = build(blocks=2)
    eager = type(ask)(Host(pipe, defaults=ask.host.defaults, name="eager", self_test=False))
    plans = [Plan(Edit(eager.names, Operator(q, q, q * 0, where=w))) for w in ("text", "output")]
    want = eager.steered([RED, GREEN], plans)
    eager.host.close()
    pipe.transformer.compile(backend="eager", fullgraph=True)
    mine = type(ask)(Host(pipe, defaults=ask.host.defaults, name="compiled", self_test=False))
    assert apart(mine.steered([RED, GREEN], plans), want) < TOLERANCE
    assert apart(want, mine.steered([RED, GREEN], [None, None])) > DIFFERENT
