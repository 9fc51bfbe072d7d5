"""A LoRA as the plan of one request: the picture is peft's, bit for bit or nearly, and no other row is touched.

| law | mutation that turned it red |
|---|---|
| a plan draws what peft draws | `+` for `-` |
| an untouched row is exact | an edit laid out for all rows |
| adapters beside other plans | slots numbered over all tables |
| two adapters at one projection | orthogonalised |
| a swap replaces rows after the adapter | hooks in the other order |
| what is not called is found out | counts not compared with the plans |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.steering import zoo
from tests.steering.family_cases import GREEN, PINK, RED, apart, asked
from tests.steering.feature_cases import (
    adapt,
    adapters_of,
    denoiser_of,
    loud,
    on,
    plan_of,
    projections,
    scale,
    unload,
)

FOUR = ("sdxl", "sd3", "pixart-alpha", "flux-dev")


@pytest.mark.parametrize("name", zoo.NAMES)
@pytest.mark.law("LoRA")
def test_a_plan_draws_what_peft_draws_and_touches_no_other_row(name: str) -> None:
    it = on(name)
    denoiser, stock = denoiser_of(it.pipe), it.stock([RED, GREEN])
    adapt(denoiser, projections(it))
    lora = adapters_of(denoiser)
    assert set(lora) == set(projections(it))
    full = it.stock([RED, GREEN])
    scale(denoiser, 0.4)
    less = it.stock([RED, GREEN])
    unload(denoiser)
    assert min(apart(full[0], stock[0]), apart(less[0], stock[0]), apart(full[0], less[0])) > it.different
    for want, strength in ((full, 1.0), (less, 0.4)):
        out = it.output_of([RED, GREEN], [plan_of(it, lora, strength=strength), None])
        assert apart(out.images[0], want[0]) < 5 * it.tolerance  # rounded in another order
        assert torch.equal(torch.as_tensor(out.images)[1], stock[1])
        assert set(out.report[0].fired) == set(it.names)
        assert all(v > 0 for v in (*out.report[0].fired.values(), *out.report[0].moved.values()))
    assert torch.equal(it.steered([RED, GREEN], [plan_of(it, lora, strength=0.0), None]), stock)


@pytest.mark.parametrize("name", FOUR)
def test_windows_of_an_adapter_are_parts_of_the_trajectory(name: str) -> None:
    from steering import Plan, Window

    it = asked(name)
    lora, early, late = loud(it), Window(0, 1 / 3), Window(1 / 3, 1)
    stock = it.stock([RED, GREEN])
    full = it.steered([RED, GREEN], [plan_of(it, lora), None])
    parts = [it.steered([RED, GREEN], [plan_of(it, lora, window=w), None])[0] for w in (early, late)]
    pictures = [stock[0], full[0], *parts]
    assert all(apart(a, b) > it.different / 10 for i, a in enumerate(pictures) for b in pictures[:i])
    halves = Plan(*(act for w in (early, late) for act in plan_of(it, lora, window=w).interventions))
    assert torch.equal(it.steered([RED, GREEN], [halves, None]), full)
    assert torch.equal(it.steered([RED, GREEN], [plan_of(it, lora, window=Window(0, 0)), None]), stock)


@pytest.mark.parametrize("name", FOUR)
def test_eight_adapters_beside_eight_other_plans_are_each_as_alone(name: str) -> None:
    from steering import Edit, Operator, Plan

    it = asked(name)
    width = next(p.output_width for p in it.host._prepared[0].placed)
    unit = torch.nn.functional.normalize(torch.ones(1, width), dim=-1)
    wide = [n for n in it.names if _output_width(it, n) == width]
    edit = Plan(Edit(wide, Operator(unit, unit, 0 * unit, where="output")))
    adapters = [plan_of(it, loud(it, seed, rank=1 + seed % 4)) for seed in range(8)]
    others = [None, it.swap(PINK), edit, None, it.swap(PINK, it.names[:1]), None, edit, None]
    plans = [plan for pair in zip(adapters, others, strict=True) for plan in pair]
    prompts = [RED, GREEN] * 8
    mixed = it.steered(prompts, plans)
    stock = it.stock(it.beside(prompts, *([PINK] * len({i for i, p in enumerate(others) if p and p is not edit}))))
    for row, plan in enumerate(plans):
        if plan is None:
            assert torch.equal(mixed[row], stock[row])
    for row in (0, 6, 14, 3, 5):
        alone = it.steered(prompts, [plan if k == row else None for k, plan in enumerate(plans)])
        assert apart(mixed[row], alone[row]) < it.tolerance
        assert apart(mixed[row], stock[row]) > it.different / 10
    rows = mixed[::2]
    assert all(apart(a, b) > it.different for i, a in enumerate(rows) for b in rows[:i])


@pytest.mark.parametrize("name", ["sdxl", "pixart-alpha"])
def test_two_adapters_at_one_projection_are_the_two_loras_of_peft(name: str) -> None:
    from steering import BadPlan, Plan, merge_edits

    it = on(name)
    denoiser, where = denoiser_of(it.pipe), projections(it, "keys", "values")
    adapt(denoiser, where, "loud")
    adapt(denoiser, where, "other", seed=1)
    for layer in denoiser.modules():
        if hasattr(layer, "lora_A"):
            layer.set_adapter(["loud", "other"])
    loras = [adapters_of(denoiser, which) for which in ("loud", "other")]
    want = it.stock([RED, GREEN])
    unload(denoiser)
    acts = [act for lora in loras for act in plan_of(it, lora).interventions]
    with pytest.raises(BadPlan, match=r"two edits meet at site .* or make one of them with `merge_edits`"):
        Plan(*acts)
    got = it.steered([RED, GREEN], [Plan(*merge_edits(acts)), None])
    assert apart(got[0], want[0]) < it.tolerance
    one = it.steered([RED, GREEN], [plan_of(it, loras[0]), None])
    assert apart(got[0], one[0]) > it.different
    with pytest.raises(BadPlan, match=r"alike, got `keys\.\d+\.\d+`, `values\.\d+\.\d+`"):
        _merged_operators(acts[:2])


@pytest.mark.parametrize("name", ["pixart-alpha", "sdxl"])
def test_where_text_is_a_side_input_an_adapter_reads_the_donors_text(name: str) -> None:
    from steering import Plan

    it = on(name)
    lora = loud(it)
    swap = it.swap(GREEN, rows="both").interventions
    got = it.steered([RED, RED], [Plan(*swap, *plan_of(it, lora).interventions), None])
    plain = it.steered([RED, RED], [plan_of(it, lora), None])
    swapped = it.steered([RED, RED], [Plan(*swap), None])
    both = Plan(*it.swap(GREEN, rows="both").interventions, *plan_of(it, lora).interventions)
    want = it.steered([GREEN, RED], [both, None])
    assert apart(got[0], want[0]) < it.tolerance
    assert min(apart(got[0], plain[0]), apart(got[0], swapped[0])) > it.different


@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
def test_a_swap_on_a_joint_host_replaces_rows_after_the_adapter(name: str) -> None:
    """Its rows are those of the donor's twin, which carries no plan; so with all sites swapped the adapter of keys and
    values is gone from the picture. Single blocks of FLUX keep what it does to the picture's own rows."""
    from steering import Plan

    it = asked(name)
    double = [n for n in it.names if not n.startswith("single")]
    lora = {k: v for k, v in loud(it).items() if not k.startswith("single")}
    swap = it.swap(GREEN, double).interventions
    got = it.steered([RED, RED], [Plan(*swap, *plan_of(it, lora, rows="cond").interventions), None])
    assert apart(got[0], it.steered([RED, RED], [Plan(*swap), None])[0]) < it.tolerance
    assert apart(got[0], it.steered([RED, RED], [plan_of(it, lora, rows="cond"), None])[0]) > it.different


def test_what_is_no_projection_or_of_another_width_is_refused_before_the_call() -> None:
    from steering import BadPlan, Edit, NotSupported, Operator, Plan, UnknownSite, has_place, record

    it = asked("flux-dev")
    one = torch.ones(1, 32)
    keys = Operator(one, one, 0 * one, where="keys")
    with pytest.raises(NotSupported, match=r"no projection of its own for its result: its block projects it in one"):
        it.steered([RED], [Plan(Edit(it.names[-1:], Operator(one, one, one, where="result")))])
    with pytest.raises(BadPlan, match=r"must read 32 and change 32 for the keys of site `.*`, got 32 and 8"):
        it.steered([RED], [Plan(Edit(it.names[:1], Operator(one, one[:, :8], 0 * one, where="keys")))])
    with pytest.raises(UnknownSite, match=r"unknown site `transformer_blocks\.9\.attn`"):
        it.steered([RED], [Plan(Edit(("transformer_blocks.9.attn",), keys))])
    with pytest.raises(UnknownSite):
        it.host.projections("transformer_blocks.9.attn")
    with pytest.raises(BadPlan, match="is where pooled text enters, and the operator is for `keys`"):
        it.steered([RED], [Plan(Edit((it.host.global_sites[0].name,), keys))])
    assert it.host.projections(it.host.global_sites[0].name) == {}
    assert not has_place(it.host, it.names[0], "keys")
    with pytest.raises(NotSupported, match="`keys` are not recorded"):
        record(it.host, [RED], sites=it.names[:1], where="keys", seeds=[1])
    with pytest.raises(BadPlan, match=r"must have shapes \[r, in\], \[r, out\], \[r, in\], got"):
        Operator(one, one, one[:, :8], where="values")


@pytest.mark.parametrize("name", ["pixart-alpha", "flux-dev"])
def test_fused_projections_take_no_adapter_until_they_are_undone(name: str) -> None:
    from steering import NotSupported

    it = on(name)
    plan = plan_of(it, loud(it))
    want = it.steered([RED], [plan])
    denoiser_of(it.pipe).fuse_qkv_projections()
    with pytest.raises(NotSupported, match=r"has fused projections, so its keys cannot be changed"):
        it.steered([RED], [plan])
    denoiser_of(it.pipe).unfuse_qkv_projections()
    assert apart(it.steered([RED], [plan]), want) < it.tolerance


def test_a_projection_that_is_not_called_is_found_out() -> None:
    """A processor that does not call the module would make a silent no-op of the plan."""
    from steering import NotFired

    it = on("pixart-alpha")
    plan = plan_of(it, loud(it))
    it.steered([RED], [plan])
    module: Any = it.host.denoiser.get_submodule(it.names[1])
    module.processor = _Without(module.processor)
    with pytest.raises(NotFired, match=rf"site `{it.names[1]}` replaced 0 rows where the plans say"):
        it.steered([RED], [plan])


class _Without:
    """Attention that passes by the hooks of `to_v`."""

    def __init__(self, own: Any) -> None:
        self.own = own

    def __call__(self, attn: Any, *args: Any, **kwargs: Any) -> Any:
        hooks, attn.to_v._forward_hooks = attn.to_v._forward_hooks, {}
        try:
            return self.own(attn, *args, **kwargs)
        finally:
            attn.to_v._forward_hooks = hooks


def _output_width(it: Any, name: str) -> int:
    return int(next(p.output_width for p in it.host._prepared[0].placed if p.name == name))


def _merged_operators(acts: Any) -> Any:
    from steering.batch.edit_merging import merge_operators

    return merge_operators([a.operator for a in acts], [1.0 for _ in acts])
