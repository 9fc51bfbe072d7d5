"""Compiled denoisers of every kind: graphs are counted exactly, a change of plan makes none, and what comes after the
host has installed its hooks is steered too.

The backend only captures, so no compiler of C is needed. `place`: the denoiser's own `compile`; `wrapped`:
`torch.compile` around it; `regional`: `compile_repeated_blocks`. Transformers are cut to two blocks of a kind, and each
takes one way, for tracing takes seconds.

| law | mutation that turned it red |
|---|---|
| one graph for stock calls and one for all plans | bank sized by the number of donors |
| regional graphs do not grow with blocks | a hook that reads a number of its own for each site |
| a stream is recorded eagerly | the denoiser left compiled while it is recorded |
| a LoRA that comes after the hooks were installed | hooks of a compiled host never put on anew |
| other adapters, and more or fewer, add no graph | the number of operators a constant of the graph |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.steering import zoo
from tests.steering.family_cases import GREEN, PINK, RED, Asked, apart
from tests.steering.feature_cases import adapt, denoiser_of, loud, on, plan_of
from tests.steering.zoo import cut

# what is repeated in our families; diffusers names it for two of them
BLOCKS = ("BasicTransformerBlock", "JointTransformerBlock", "SanaTransformerBlock", "UNetMidBlock2DSimpleCrossAttn")


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(pipe: Any, way: str) -> Any:
    """Compiles the denoiser in one of three ways; gives the backend, which counts its graphs."""
    from torch._dynamo.testing import CompileCounter

    graphs, denoiser = CompileCounter(), denoiser_of(pipe)
    if way == "regional":
        denoiser._repeated_blocks = [n for n in BLOCKS if any(type(m).__name__ == n for m in denoiser.modules())]
        denoiser.compile_repeated_blocks(backend=graphs, fullgraph=True)
    elif way == "place":
        denoiser.compile(backend=graphs, fullgraph=True)
    else:
        name = "unet" if hasattr(pipe, "unet") else "transformer"
        setattr(pipe, name, torch.compile(denoiser, backend=graphs, fullgraph=True))
    return graphs


def changes(it: Asked, graphs: Any) -> tuple[int, int]:
    """Graphs of a stock call, and those that plans of the family's first kind of swap add; asserts that pictures are
    the plans' and that no further plan adds one."""
    from steering import Window

    prompts = [RED, GREEN, PINK]
    stock = it.steered(it.beside(prompts, GREEN), [None] * (3 + it.joint))
    first = graphs.frame_count
    out = it.output_of(prompts, [it.swap(GREEN), None, None])
    second = graphs.frame_count
    assert out.report[0].shape.kernels == "compiled"
    assert apart(out.images[0], stock[1]) < it.tolerance
    assert torch.equal(torch.as_tensor(out.images)[1:], stock[1:3])
    assert apart(stock[0], stock[1]) > it.different
    for plans in (
        [None, None, it.swap(GREEN, strength=0.5)],
        [it.swap(GREEN, it.names[1:]), None, it.swap(GREEN, it.names[:1], window=Window(0.5, 1))],
        [it.swap(GREEN if it.joint else PINK), None, it.swap(GREEN)],  # a twin more would be a row more
    ):
        mixed = it.steered(prompts, plans)
        for i, plan in enumerate(plans):
            assert torch.equal(mixed[i], stock[i]) == (plan is None)
    assert torch.equal(it.steered(it.beside(prompts, GREEN), [None] * (3 + it.joint)), stock)
    assert graphs.frame_count == second
    return first, second - first


@pytest.mark.parametrize(
    ("name", "way", "counts"),
    [
        ("sd1", "regional", (2, 2)),
        ("sdxl", "regional", (2, 1)),
        ("if1", "regional", (1, 1)),
        ("sd3", "wrapped", (1, 1)),
        ("pixart-sigma", "regional", (2, 2)),
        ("flux-dev", "place", (1, 1)),
        ("sana", "wrapped", (1, 1)),
    ],
)
@pytest.mark.law("compile")
def test_one_graph_for_stock_calls_and_one_for_all_plans(name: str, way: str, counts: tuple[int, int]) -> None:
    pipe = cut(zoo.build(name), 1 if name.startswith("flux") else 2)
    graphs = compiled(pipe, way)
    it = on(name, pipe)
    assert changes(it, graphs) == counts
    it.host.close()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in denoiser_of(pipe).modules())


def test_regional_graphs_do_not_grow_with_the_number_of_blocks() -> None:
    """Torch gives up after eight graphs of one function, which hooks that knew their site's number would need."""
    import copy

    counted = []
    for n in (3, 9):
        torch._dynamo.reset()
        pipe = cut(zoo.build("pixart-alpha"), 3)
        blocks = pipe.transformer.transformer_blocks
        while len(blocks) < n:
            blocks.insert(1, copy.deepcopy(blocks[1]))
        graphs = compiled(pipe, "regional")
        counted.append(changes(on("pixart-alpha", pipe), graphs))
    assert counted[0] == counted[1] == (2, 2)


def test_each_kind_of_swap_adds_one_graph_and_a_stream_is_recorded_eagerly() -> None:
    pipe = cut(zoo.build("flux-dev"), 1)
    graphs = compiled(pipe, "place")
    it = on("flux-dev", pipe)
    some, seen = it.names[1:], []
    eager = on("flux-dev", cut(zoo.build("flux-dev"), 1))
    for how in ({}, {"mode": "pinned"}, {"source": "canonical"}):
        for donor in (GREEN, PINK):
            steered = it.steered([RED, GREEN], [it.swap(donor, some, **how), None])
            assert apart(steered, eager.steered([RED, GREEN], [eager.swap(donor, some, **how), None])) < it.tolerance
        seen.append(graphs.frame_count)
    assert seen[1] - seen[0] == 1
    assert seen[2] - seen[1] == 1


@pytest.mark.parametrize(
    ("name", "way", "counts"),
    [
        ("sdxl", "regional", (2, 1)),
        ("flux-dev", "place", (1, 1)),
    ],
)
@pytest.mark.law("compile")
def test_other_adapters_and_any_number_of_them_add_no_graph(name: str, way: str, counts: tuple[int, int]) -> None:
    pipe = cut(zoo.build(name), 1 if name.startswith("flux") else 2)
    graphs = compiled(pipe, way)
    it = on(name, pipe)
    prompts = [RED, GREEN, PINK, RED]
    stock = it.steered(prompts, [None] * 4)
    first = graphs.frame_count
    want = it.steered(prompts, [plan_of(it, loud(it)), None, None, None])
    second = graphs.frame_count
    assert (first, second - first) == counts
    for many in ((1, None, None, None), (2, 3, 4, 5), (None, 6, 7, None), (None, None, None, None)):
        plans = [None if seed is None else plan_of(it, loud(it, seed, rank=3 + seed % 2)) for seed in many]
        mixed = it.steered(prompts, plans)
        for row, plan in enumerate(plans):
            assert torch.equal(mixed[row], stock[row]) == (plan is None)
    assert graphs.frame_count == second
    eager = on(name, cut(zoo.build(name), 1 if name.startswith("flux") else 2))
    assert apart(eager.steered(prompts, [plan_of(eager, loud(eager)), None, None, None]), want) < it.tolerance
    assert apart(want[0], stock[0]) > it.different


def test_calls_for_cond_and_uncond_rows_share_their_graphs() -> None:
    pipe = cut(zoo.build("flux-dev"), 1)
    graphs = compiled(pipe, "place")
    it = on("flux-dev", pipe)
    guided = {"true_cfg_scale": 2.0, "negative_prompts": [PINK, PINK]}
    steered = it.steered([RED, GREEN], [it.swap(GREEN), None], **guided)
    assert graphs.frame_count == 1
    donor = it.stock([RED, GREEN, GREEN], true_cfg_scale=2.0, negative_prompt=[PINK] * 3)
    assert apart(steered[0], donor[1]) < it.tolerance
    assert apart(donor[0], donor[1]) > it.different


def test_a_lora_that_comes_after_a_compiled_host_installed_its_hooks_is_steered() -> None:
    name = "pixart-alpha"
    pipe = cut(zoo.build(name), 1)
    graphs = compiled(pipe, "place")
    it = on(name, pipe)
    plain = it.steered([RED, GREEN], [it.swap(GREEN), None])
    before = graphs.frame_count
    adapt(denoiser_of(pipe))
    loud = it.steered([RED, GREEN], [it.swap(GREEN), None])
    assert graphs.frame_count == before + 1
    donor = it.stock(it.beside([RED, GREEN], GREEN))
    assert apart(loud[0], donor[1]) < it.tolerance
    assert min(apart(loud, plain), apart(donor[0], donor[1])) > it.different
