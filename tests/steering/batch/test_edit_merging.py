"""Several edits at one site: independent of each other, or refused with the reason.

| law | mutation that turned it red |
|---|---|
| two orthogonalised edits commute | `change` left out |
| each keeps its own reading of its own direction | rows of the plain inverse |
| both concepts are removed | offsets not carried along |
| merged is the sequence | strengths not folded in |
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.steering.measure.test_fitters import applied, two_classes

D = 12
RED = "a red star"


def pair(gate: str = "linear", seed: int = 0) -> tuple[Any, Any]:
    """Two edits that read what the other one moves."""
    from steering.measure.fitters import casteer, leace_anchored

    one = leace_anchored(*two_classes(seed=seed), clipped=gate == "positive")
    other = casteer(*two_classes(seed=seed + 1), clipped=gate == "positive")
    return one, other


@pytest.mark.parametrize("gate", ["linear", "positive"])
def test_two_orthogonalised_edits_commute_and_their_sum_is_their_sequence(gate: str) -> None:
    from steering.batch.edit_merging import merge_operators, orthogonalise

    before = pair(gate)
    a, b = orthogonalise(before)
    x = torch.randn(40, D) * 3
    there, back = applied(b, applied(a, x, 0.7), 1.4), applied(a, applied(b, x, 1.4), 0.7)
    assert float((there - back).abs().max()) < 1e-4
    assert float((applied(merge_operators(before, (0.7, 1.4)), x) - there).abs().max()) < 1e-4
    plain = applied(before[1], applied(before[0], x)), applied(before[0], applied(before[1], x))
    assert float((plain[0] - plain[1]).abs().max()) > 0.01  # they did disturb each other


def test_each_keeps_its_own_reading_and_both_concepts_go() -> None:
    from steering.batch.edit_merging import orthogonalise

    before = pair()
    after = orthogonalise(before)
    stronger = before[0], replace(before[1], e=1.5 * before[1].e)  # takes out more than there is, and goes on to
    for olds, news in ((before, after), (stronger, orthogonalise(stronger))):
        for n, (old, new) in enumerate(zip(olds, news, strict=True)):
            assert torch.allclose(new.e @ new.d.T, old.e @ old.d.T, atol=1e-4)
            assert float((new.e @ news[1 - n].d.T).abs().max()) < 1e-4
            assert torch.equal(new.d, old.d)
    y = applied(after[1], applied(after[0], torch.randn(40, D) * 3))
    for old in before:
        assert float((y @ old.e.double().T - (old.e.double() * old.m.double()).sum(1)).abs().max()) < 1e-3


def test_edits_that_are_independent_come_back_as_they_are() -> None:
    from steering import Operator
    from steering.batch.edit_merging import orthogonalise

    unit = torch.eye(D)
    ops = [Operator(unit[i : i + 2], unit[i : i + 2], torch.randn(2, D)) for i in (0, 4)]
    assert orthogonalise(ops) == tuple(ops)


def test_edits_along_one_direction_are_refused_with_the_reason() -> None:
    from steering import BadPlan, Edit
    from steering.batch.edit_merging import merge_edits, merge_operators, overlap

    a, b = pair()
    near = replace(a, d=a.d + 0.01 * torch.randn(1, D))
    assert overlap(a.d, near.d) > 0.99 > overlap(a.d, b.d)
    with pytest.raises(BadPlan, match=r"edits 1 and 2 have nearly the same direction \(cosine \d"):
        merge_operators([a, near], [1, 1])
    with pytest.raises(BadPlan, match="`linear` and `positive`"):
        merge_operators([a, pair("positive")[1]], [1, 1])
    with pytest.raises(BadPlan, match="2 edits meet at site `s`: edits 1 and 2 have nearly the same direction"):
        merge_edits([Edit(("s", "t"), a), Edit(("s",), near)])


def test_edits_of_two_packs_become_what_a_plan_can_hold() -> None:
    from steering import BadPlan, Edit, Plan, Window
    from steering.batch.edit_merging import merge_edits

    a, b = pair()
    one, other = Edit(("s", "t"), a, strength=0.5), Edit(("t", "u"), b)
    with pytest.raises(BadPlan, match="two edits meet at site `t`"):
        Plan(one, other)
    merged = merge_edits([one, other, one])
    at = {site: e for e in merged for site in e.sites}
    assert sorted(at) == ["s", "t", "u"]
    assert at["s"] == replace(one, sites=("s",))
    assert at["u"] == replace(other, sites=("u",))
    assert at["t"].operator.e.shape[0] == 2
    assert Plan(*merged).sites
    early = replace(one, window=Window(0, 0.5))
    late = replace(other, window=Window(0.5, 1))
    assert set(merge_edits([early, late])) == {early, late}  # their windows do not overlap
    (first, then) = sorted((e for e in merge_edits([early, other]) if "t" in e.sites), key=lambda e: e.window.start)
    assert (first.window, first.operator.e.shape[0]) == (Window(0, 0.5), 2)
    assert (then.window, then.operator) == (Window(0.5, 1), b)


def test_a_host_takes_two_merged_edits_as_one_after_the_other(ask: Any) -> None:
    """With orthogonalised operators the merged edit is what two nested hooks would do."""
    from steering import Edit, Operator, Plan
    from steering.batch.edit_merging import merge_edits, orthogonalise

    g = torch.Generator().manual_seed(5)
    ops = [Operator(*(torch.randn(1, 32, generator=g) / 8 for _ in range(3)), where="output") for _ in range(2)]
    a, b = orthogonalise(ops)
    site = ask.names[1]

    def by_hand(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        y = output.clone()
        for op in (a, b):
            y[1:] = applied(op, y[1].float())[None].to(y)
        return y

    handle = ask.host.pipe.transformer.get_submodule(site).register_forward_hook(by_hand)
    try:
        want = ask.stock([RED])
    finally:
        handle.remove()
    plan = Plan(*merge_edits([Edit((site,), op) for op in ops]))
    assert float((want - ask.stock([RED])).abs().max()) > 1e-3
    assert float((ask.steered([RED], [plan]) - want).abs().max()) < 1e-4
