"""The laws of steering on the families that people serve today: real diffusers pipelines, tiny and jittered.

As in `families/test_families`, in fewer and larger tests, because there are many families. What a law calls stock is
the pipeline itself in the same execution shape: on joint hosts with the donor's row beside the others.

| law | mutation that turned it red |
|---|---|
| all sites are the donor | masks left with their row; text one token late; hits of both denoisers in each call |
| windows are parts of the trajectory | every step in every window |
| nothing is left behind | hooks not removed |
| several pictures are those of their seeds | plans repeated as a block |
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from tests.steering.family_cases import GREEN, PINK, RED, Asked, apart
from tests.steering.today import zoo

every = pytest.mark.parametrize("name", zoo.NAMES)


@cache
def asked(name: str) -> Asked:
    """The tiny host of a family, built once."""
    return Asked(name, zoo.build(name), call=zoo.CALL[name])


@pytest.fixture
def it(name: str) -> Asked:
    return asked(name)


@every
def test_it_is_steered_by_a_record_and_its_self_test_passes(it: Asked) -> None:
    from steering.families.table import FAMILIES

    assert it.host.family in FAMILIES
    assert it.host.tested is not None
    assert it.host.tested.passed, it.host.tested.failures()
    assert len(it.names) >= 4


@every
def test_a_request_without_a_plan_equals_the_stock_solo_run(it: Asked) -> None:
    stock = it.stock([RED])
    assert torch.equal(it.steered([RED], [None]), stock)
    assert apart(stock, it.stock([GREEN])) > it.different


@every
def test_all_sites_are_the_donor_and_neighbours_are_untouched(it: Asked) -> None:
    prompts = [RED, GREEN, RED]
    stock = it.stock(it.beside(prompts, GREEN))
    assert apart(stock[0], stock[1]) > it.different
    mixed = it.output_of(prompts, [None, None, it.swap(GREEN)])
    assert torch.equal(torch.as_tensor(mixed.images[0]), stock[0])
    assert torch.equal(torch.as_tensor(mixed.images[1]), stock[1])
    assert apart(mixed.images[2], stock[1]) < it.tolerance
    assert mixed.report[0].fired == {}
    counts = set(mixed.report[2].fired.values())
    assert len(counts) <= 2, mixed.report[2].fired  # global sites are counted once, the others for keys and values
    assert min(counts) > 0


@every
def test_a_batch_of_plans_equals_each_plan_on_its_own_in_the_same_shape(it: Asked) -> None:
    plans = [it.swap(PINK, it.names[:1], pooled="keep"), it.swap(PINK, it.names[1:3]), None]
    prompts = [RED, GREEN, RED]
    mixed = it.steered(prompts, plans)
    for i, plan in enumerate(plans):
        others = [plan if k == i else None for k in range(3)]
        alone = it.stock(it.beside(prompts, PINK)) if plan is None else it.steered(prompts, others)
        assert torch.equal(mixed[i], alone[i])
    assert apart(mixed[0], mixed[2]) > it.different / 10


@every
def test_windows_are_parts_of_the_trajectory(it: Asked) -> None:
    from steering import NotSupported, Window

    plan = it.swap(GREEN, window=Window(0, 1 / 3))
    if it.host.family.inputs.cached is not None:
        with pytest.raises(NotSupported, match="use_kv_cache=False"):
            it.steered([RED, GREEN], [plan, None])
        more = {"use_kv_cache": False}
    else:
        more = {}
    stock = it.stock(it.beside([RED, GREEN], GREEN), **more)
    early = it.steered([RED, GREEN], [plan, None], **more)[0]
    assert apart(early, stock[0]) > it.different / 10
    assert apart(early, stock[1]) > it.different / 10
    empty = it.steered([RED, GREEN], [it.swap(GREEN, window=Window(0.5, 0.5)), None], **more)
    assert torch.equal(empty, stock[:2])


@every
def test_an_exception_in_a_step_leaves_nothing_behind(it: Asked) -> None:
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in it.host.denoiser.modules())
    before = it.stock([RED])

    def stop(step: int, steps: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        it.steered([RED], [it.swap(GREEN)], on_step=stop)
    after = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in it.host.denoiser.modules())
    assert after == hooks
    assert torch.equal(it.stock([RED]), before)


@every
def test_several_pictures_of_a_prompt_are_those_of_their_seeds(it: Asked) -> None:
    two: Any = it.output_of([RED], [it.swap(GREEN, it.names[:2], pooled="keep")], 7, num_images_per_prompt=2)
    assert len(two.images) == 2
    assert [r.seed for r in two.report] == [7, 8]
    shape = it.steered([RED, RED], [it.swap(GREEN, it.names[:2], pooled="keep")] * 2, seeds=[7, 8])
    assert apart(two.images[0], shape[0]) < it.tolerance
    assert apart(two.images[1], shape[1]) < it.tolerance
