"""Fitting on real pipelines of several families: every method gives operators that the engine takes, where they belong.

| law | mutation that turned it red |
|---|---|
| UCE at run time is the closed-form edit of the weights | guides and concepts swapped |
| an operator a site, and pooled text with it | `pooled` left out |
| strength 0 is the identity | acts of strength 0 laid out |
| LEACE of what was recorded hides the label | levels of one prompt only |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from localization.fit import FitRecipe, fit_edit, usual_place
from localization.fit_methods import METHODS
from steering import BadPlan, Edit, Plan, record
from steering.measure import fitters
from tests.steering.family_cases import GREEN, PINK, RED, asked

SHOWN = ["a red star", "a red ring"]
NEUTRAL = ["a blue thing", "a blue circle"]


def call_of(it: Any) -> dict[str, Any]:
    options = it.options(1)
    return {k: v for k, v in options.items() if k != "output_type"}


@pytest.mark.parametrize("name", ["pixart-alpha", "sdxl", "sd3", "flux-dev"])
def test_every_method_fits_on_every_kind_of_host(name: str) -> None:
    it = asked(name)
    sites = it.names[:2]
    pooled = [s.name for s in it.host.global_sites]
    stock = it.stock([RED, GREEN])
    for method in METHODS:
        how = FitRecipe(method, at=(0.0, 0.5), call=call_of(it))
        operators = fit_edit(it.host, SHOWN, NEUTRAL, sites, seeds=[1, 2], recipe=how, preserve=[PINK])
        assert list(operators) == [*sites, *pooled]
        assert {operators[s].where for s in sites} == {usual_place(METHODS[method], it.host)}
        assert {operators[s].where for s in pooled} <= {"pooled"}
        acts = [Edit((site,), operator, strength=2.0) for site, operator in operators.items()]
        out = it.output_of([RED, GREEN], [Plan(*acts), None])
        images = torch.as_tensor(out.images)
        assert torch.equal(images[1], stock[1])
        assert set(out.report[0].fired) == {*sites, *pooled}
        if not method.startswith(("casteer", "means", "leace-a")):  # those move only what points to the concept
            assert float((images[0] - stock[0]).abs().max()) > 1e-4
            assert min(out.report[0].moved.values()) > 0
    none = Plan(*(Edit((site,), operator, strength=0.0) for site, operator in operators.items()))
    assert torch.equal(it.steered([RED, GREEN], [none, None]), stock)


def test_text_is_edited_by_one_operator_on_hosts_whose_sites_read_one_text() -> None:
    it = asked("pixart-alpha")
    operators = fit_edit(
        it.host, SHOWN, NEUTRAL, it.names, seeds=[1, 2], recipe=FitRecipe("uce", rank=3, call=call_of(it))
    )
    assert len(set(operators.values())) == 1
    assert operators[it.names[0]].e.shape[0] == 3


@pytest.mark.parametrize("name", ["pixart-alpha", "sdxl", "sd3"])
def test_uce_at_run_time_is_the_closed_form_edit_of_the_weights(name: str) -> None:
    """On joint hosts text also asks, so its queries' weights are edited with those of keys and values."""
    it = asked(name)
    placed = it.host._prepared[0].sites[1]
    d = placed.text_width
    g = torch.Generator().manual_seed(d)
    c, v, p = (torch.randn(n, d, generator=g) for n in (3, 3, 5))
    plan = Plan(Edit((placed.name,), fitters.uce(c, v, preserve=p), rows="both"))
    got = it.steered([RED], [plan])
    names = ("add_q_proj", "add_k_proj", "add_v_proj") if it.joint else ("to_k", "to_v")
    layers = [getattr(placed.module, n) for n in names]
    before = [layer.weight.data.clone() for layer in layers]
    a = 0.5 * torch.eye(d) + c.T @ c + p.T @ p
    try:
        for layer in layers:
            w = layer.weight.data
            layer.weight.data = (0.5 * w + (w @ v.T) @ c + (w @ p.T) @ p) @ torch.linalg.inv(a)
        want = it.stock([RED])
    finally:
        for layer, weight in zip(layers, before, strict=True):
            layer.weight.data = weight
    assert float((want - it.stock([RED])).abs().max()) > 1e-2
    assert float((got - want).abs().max()) < 1e-4


def test_sites_that_give_no_text_on_are_left_out() -> None:
    from steering import NotSupported

    it = asked("sd3")
    how = FitRecipe("means", at=(0.0,), call=call_of(it))
    last = it.names[-1]
    operators = fit_edit(it.host, SHOWN[:1], NEUTRAL[:1], it.names[-2:], seeds=[1], recipe=how)
    assert last not in operators
    assert it.names[-2] in operators
    with pytest.raises(NotSupported, match="no site of 1 has a `context` to edit"):
        fit_edit(it.host, SHOWN[:1], NEUTRAL[:1], [last], seeds=[1], recipe=how)


def test_leace_hides_what_was_recorded() -> None:
    it = asked("pixart-alpha")
    call = call_of(it)
    site = it.names[1]
    how = FitRecipe("leace", at=(0.0, 0.5), call=call)
    op = fit_edit(it.host, SHOWN, NEUTRAL, [site], seeds=[1, 2], recipe=how)[site]
    rows = record(it.host, [*SHOWN, *NEUTRAL], sites=[site], where="output", seeds=[1, 2, 1, 2], at=(0.0, 0.5), **call)[
        site
    ]
    x = torch.cat([r.flatten(0, 1) for r in rows]).double()
    y = x - ((x @ op.e.double().T) - (op.e.double() * op.m.double()).sum(1)) @ op.d.double()
    half = len(x) // 2
    gap = float((x[:half].mean(0) - x[half:].mean(0)).norm())
    assert float((y[:half].mean(0) - y[half:].mean(0)).norm()) < 1e-4 * gap


def test_what_cannot_be_fitted_is_said() -> None:
    it = asked("pixart-alpha")
    with pytest.raises(BadPlan, match="in pairs with a seed each, at least one, got 0, 0 and 0"):
        fit_edit(it.host, [], [], it.names, seeds=[])
    with pytest.raises(BadPlan, match=r"unknown method `magic`; known: `casteer`, `leace`"):
        FitRecipe("magic")
    with pytest.raises(BadPlan, match="unknown method `leac`; did you mean `leace`"):
        FitRecipe("leac")
    with pytest.raises(BadPlan, match=f"site `{it.names[0]}`: samples .* no direction"):
        fit_edit(it.host, [RED], [RED], it.names, seeds=[1], recipe=FitRecipe(call=call_of(it)))
    with pytest.raises(BadPlan, match="no place of its own"):
        FitRecipe(where="pooled")
