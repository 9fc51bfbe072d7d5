"""What is taken down of activations is what an edit finds at the same place: on every kind of host.

| law | mutation that turned it red |
|---|---|
| the dose of an edit is its operator on the samples | uncond rows taken down; padding, too |
| nothing is left on the pipeline | hook not removed |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.steering.family_cases import GREEN, RED, asked
from tests.steering.zoo import CALL

# one family for each way in which text lies at a site
HOSTS = ("sd1", "sdxl", "if1", "pixart-alpha", "sana", "sd3", "flux-dev")


def steps_of(it: Any) -> int:
    return int(CALL[it.name].get("num_inference_steps", 4))


def dose_of(samples: torch.Tensor, operator: Any) -> float:
    """samples: [levels, t, d]."""
    s = samples.double() @ operator.e.double().T - (operator.e.double() * operator.m.double()).sum(1)
    return float(s.abs().sum(-1).mean())


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("where", ["text", "output", "context", "pooled"])
def test_the_dose_of_an_edit_is_its_operator_on_what_was_taken_down(name: str, where: Any) -> None:
    from steering import BadPlan, Edit, NotSupported, Operator, Plan
    from steering.measure.activations import record

    it = asked(name)
    names = [s.name for s in (it.host.global_sites if where == "pooled" else it.host.sites)]
    if where == "pooled" and not names:
        return
    site = names[min(1, len(names) - 1)]
    steps = steps_of(it)
    options = it.options(2)
    options.pop("output_type")
    call = {"sites": [site], "where": where, "seeds": [7, 8], "at": [k / steps for k in range(steps)], "most": None}
    if where == "context" and not it.joint:
        with pytest.raises(NotSupported, match="no text on to later blocks"):
            record(it.host, [RED, GREEN], **call, **options)
        one = Operator(*(torch.ones(1, 8) for _ in range(3)), where=where)
        with pytest.raises(BadPlan, match="no text on to later blocks"):
            it.steered([RED], [Plan(Edit((site,), one))])
        return
    found = record(it.host, [RED, GREEN], **call, **options)[site]
    width = found[0].shape[-1]
    generator = torch.Generator().manual_seed(width)
    e, m = torch.randn(2, width, generator=generator), 0.1 * torch.randn(2, width, generator=generator)
    op = Operator(e, e, m, where=where)
    plans = [Plan(Edit((site,), op, strength=1e-9))] * 2
    out = it.output_of([RED, GREEN], plans, seeds=[7, 8])
    for samples, report in zip(found, out.report, strict=True):
        assert report.dose[site] == pytest.approx(dose_of(samples, op), rel=2e-3)
        assert 0 < report.moved[site] < 1e-6
    assert abs(dose_of(found[0], op) - dose_of(found[1], op)) > 1e-3 * dose_of(found[0], op)  # prompts differ
    moved = it.output_of([RED, GREEN], [Plan(Edit((site,), op, strength=0.5)), None], seeds=[7, 8])
    stock = it.stock([RED, GREEN], seeds=[7, 8])
    assert torch.equal(torch.as_tensor(moved.images)[1], stock[1])
    assert float((torch.as_tensor(moved.images)[0] - stock[0]).abs().max()) > 1e-6
    assert moved.report[1].moved is None


def test_nothing_is_left_on_the_pipeline_and_bad_questions_are_refused() -> None:
    from steering import BadPlan, UnknownSite
    from steering.measure.activations import record

    it = asked("pixart-alpha")
    before = it.stock([RED])
    options = it.options(1)
    options.pop("output_type")
    record(it.host, [RED], sites=it.names, where="output", seeds=[7], **options)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in it.pipe.transformer.modules())
    assert torch.equal(it.stock([RED]), before)
    with pytest.raises(UnknownSite, match="unknown site `x`"):
        record(it.host, [RED], sites=["x"], where="output", seeds=[7], **options)
    with pytest.raises(BadPlan, match="`cross` and has no `pooled`"):
        record(it.host, [RED], sites=it.names[:1], where="pooled", seeds=[7], **options)


def test_the_dose_is_zero_exactly_where_nothing_is_moved() -> None:
    from steering import Edit, Operator, Plan

    it = asked("pixart-alpha")
    width = it.host._prepared[0].sites[0].output_width
    e = torch.zeros(1, width)
    e[0, 0] = 1.0
    far, near = (Operator(e, e, m * e, gate="positive", where="output") for m in (1e6, -1e3))
    out = it.output_of([RED, RED], [Plan(Edit(it.names[:1], far)), Plan(Edit(it.names[:1], near, strength=1e-3))])
    assert out.report[0].dose == {it.names[0]: 0.0} == out.report[0].moved
    assert torch.equal(torch.as_tensor(out.images)[0], it.stock([RED, RED])[0])
    assert out.report[1].dose[it.names[0]] > 900
    assert out.report[1].moved[it.names[0]] > 0.01
    assert not torch.equal(torch.as_tensor(out.images)[1], it.stock([RED, RED])[1])


def test_an_operator_as_wide_as_other_pooled_text_is_refused() -> None:
    from steering import BadPlan, Edit, Operator, Plan

    for name in ("sdxl", "sd3"):
        it = asked(name)
        op = Operator(*(torch.ones(1, 7) for _ in range(3)), where="pooled")
        with pytest.raises(BadPlan, match=r"must be \d+ wide for pooled text here, got 7"):
            it.steered([RED], [Plan(Edit((it.host.global_sites[0].name,), op))])
        with pytest.raises(BadPlan, match="pooled text is edited at global sites and nowhere else"):
            it.steered([RED], [Plan(Edit((it.names[0],), op))])
