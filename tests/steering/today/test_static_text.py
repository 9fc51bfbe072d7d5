"""Text that depends on text alone, with keys and values that the pipeline keeps from its first step (Qwen-Image 2.1):
donors cost no row, and are exact.

| law | mutation that turned it red |
|---|---|
| all sites are the donor, longer or shorter than the prompt | the donor's mask left out; no room made for longer ones |
| the same as a row beside it | keys without values |
| calls and rows are counted | donors' keys made anew in every call of the pipeline |
| what was read once counts once | hits of later steps expected |
| no window while text is kept | `check_cached` left out |
| new weights, new keys | streams kept by the donor alone |
| a mask without rows | taken as it is |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.steering.family_cases import GREEN, RED, Asked, apart
from tests.steering.today import zoo

NAME = "qwen-image-21"
STEPS = zoo.CALL[NAME]["num_inference_steps"]


@pytest.fixture(scope="module")
def it() -> Asked:
    return Asked(NAME, zoo.build(NAME), call=zoo.CALL[NAME])


@contextmanager
def counted(it: Asked) -> Iterator[list[int]]:
    """The rows of each call of the denoiser."""
    rows: list[int] = []
    handle = it.host.denoiser.register_forward_pre_hook(
        lambda m, args, kwargs: rows.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    try:
        yield rows
    finally:
        handle.remove()


def plan(it: Asked, donor: str, **more: Any) -> Any:
    return it.swap(donor, pooled="keep", **more)


def test_the_host_needs_no_rows_for_donors(it: Asked) -> None:
    assert not it.host.joint
    assert it.host.usual_source == "text"
    assert all(placed.is_static for placed in it.host.prepared.sites)


@pytest.mark.parametrize(("own", "donor"), [(RED, GREEN), (GREEN, RED)])
def test_all_sites_are_the_donor_longer_or_shorter_than_the_prompt(it: Asked, own: str, donor: str) -> None:
    stock = it.stock([own, donor])  # both as long as the longer
    out = it.output_of([own], [plan(it, donor)])
    assert apart(stock[0], stock[1]) > it.different
    assert apart(out.images[0], stock[1]) < it.tolerance
    assert out.report[0].extra_rows == 0


def test_a_donor_as_text_is_a_donor_as_a_row(it: Asked) -> None:
    some = it.names[1:3]
    kept = it.steered([RED, GREEN], [plan(it, GREEN, sites=some), None])
    twin = it.steered([RED, GREEN], [plan(it, GREEN, sites=some, source="twin"), None])
    assert apart(kept[0], twin[0]) < it.tolerance
    assert apart(kept[0], it.stock([RED, GREEN])[0]) > it.different / 10


def test_a_donor_costs_one_row_once_and_then_nothing(it: Asked) -> None:
    donor = "a blue hat"
    with counted(it) as rows:
        it.steered([RED, GREEN], [plan(it, donor), None])
    guided = [2] * (len(rows) - 1)  # two calls a step where guidance is on
    assert sorted(rows) == sorted([1, *guided])
    with counted(it) as again:
        it.steered([RED, GREEN], [plan(it, donor), None], seed=8)
    assert again == guided
    with counted(it) as plain:
        it.steered([RED, GREEN], [None, None])
    assert plain == guided


def test_what_is_read_once_and_kept_counts_once(it: Asked) -> None:
    out = it.output_of([RED], [plan(it, GREEN, sites=it.names[:2])])
    assert out.report[0].fired == dict.fromkeys(it.names[:2], 1)
    every = it.output_of([RED], [plan(it, GREEN, sites=it.names[:2])], use_kv_cache=False)
    assert every.report[0].fired == dict.fromkeys(it.names[:2], STEPS)
    assert apart(out.images[0], every.images[0]) < it.tolerance


def test_text_that_is_kept_has_no_windows_and_other_edits_have(it: Asked) -> None:
    from steering import Edit, NotSupported, Operator, Plan, Window

    half = Window(0, 1 / 3)
    with pytest.raises(NotSupported, match=r"cannot have a window.*use_kv_cache=False"):
        it.steered([RED], [plan(it, GREEN, window=half)])
    width = it.host.prepared.sites[0].output_width
    e = torch.ones(1, width) / width**0.5
    edit = Plan(Edit((it.names[0],), Operator(e, e, torch.zeros_like(e), where="output"), window=half))
    out = it.output_of([RED], [edit])
    assert out.report[0].fired == {it.names[0]: 1}
    assert apart(out.images[0], it.stock([RED])[0]) > it.tolerance


def test_given_embeddings_may_be_shorter_and_must_have_the_width(it: Asked) -> None:
    from steering import BadDonor, Donor

    width = it.host.denoiser.config.context_in_dim
    donor = Donor(torch.randn(3, width), torch.ones(3))
    with pytest.raises(BadDonor, match="must be"):
        it.steered([RED], [plan(it, Donor(torch.randn(3, width + 1)))])  # type: ignore[arg-type]
    assert apart(it.steered([RED], [plan(it, donor)])[0], it.stock([RED])[0]) > it.different / 10  # type: ignore[arg-type]


def test_new_weights_make_new_keys() -> None:
    it = Asked(NAME, zoo.build(NAME), call=zoo.CALL[NAME])
    before = it.steered([RED, GREEN], [plan(it, GREEN), None])
    with torch.no_grad():
        it.host.prepared.sites[0].module.to_v.weight.mul_(-1.0)  # type: ignore[operator, union-attr]
    after = it.steered([RED, GREEN], [plan(it, GREEN), None])
    assert apart(before[0], after[0]) > it.tolerance
    assert apart(after[0], it.stock([RED, GREEN])[1]) < it.tolerance


def test_a_mask_that_has_no_rows_is_refused_and_the_reason_says_what_to_do() -> None:
    from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21FlexAttnProcessor

    from steering import Host

    pipe = zoo.build(NAME)
    for block in pipe.transformer.transformer_blocks:
        block.attn.set_processor(QwenImage21FlexAttnProcessor())
    tested = Host(pipe, name=NAME).tested
    assert tested is not None
    assert "called with a `BlockMask`, which has no rows to go with text; set the attention" in tested.failures()
