"""Plans are plain values: validated when made, hashable, equal when they say the same, with a digest that is stable."""

from __future__ import annotations

from typing import Any

import pytest
import torch

SITES = ("a.0", "a.1")


def swap(donor: Any = "x", **more: Any) -> Any:
    from steering import Swap

    return Swap(donor, **({"sites": SITES, "pooled": "keep"} | more))


def test_pooled_and_sites_have_no_default() -> None:
    from steering import Swap

    with pytest.raises(TypeError, match="pooled"):
        Swap("x", sites=SITES)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="sites"):
        Swap("x", pooled="keep")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"pooled": "drop"}, "pooled must be one of `keep`, `donor`, `null`, got `drop`"),
        ({"source": "cache"}, "source must be one of"),
        ({"rows": "all"}, "rows must be one of"),
        ({"mode": "q"}, "mode must be one of"),
        ({"strength": 1.5}, r"strength of a swap must be a number in \[0, 1\], got `1.5`"),
        ({"strength": float("nan")}, "strength of a swap"),
        ({"sites": "a.0"}, "got the string `a.0`"),
        ({"sites": ()}, "at least one name"),
        ({"sites": ("a", "a")}, "got `a` twice"),
        ({"donor": 3}, "must be a prompt or a `Donor`"),
    ],
)
def test_a_swap_that_cannot_be_meant_is_refused(more: dict[str, Any], says: str) -> None:
    from steering import BadPlan

    with pytest.raises(BadPlan, match=says):
        swap(**more)


def test_stream_is_refused_with_the_reason() -> None:
    from steering import NotSupported

    with pytest.raises(NotSupported, match="does not localize"):
        swap(mode="stream")


@pytest.mark.parametrize(("start", "end"), [(-0.1, 1), (0, 1.1), (0.6, 0.5), (float("nan"), 1), (0, float("nan"))])
def test_a_window_outside_the_trajectory_is_refused(start: float, end: float) -> None:
    from steering import BadPlan, Window

    with pytest.raises(BadPlan, match="0 <= start <= end <= 1"):
        Window(start, end)


def test_equal_plans_have_one_digest_and_one_hash_and_others_another() -> None:
    from steering import Donor, Plan, Window

    text = torch.randn(3, 4)
    same = [Plan(swap(Donor(text))), Plan(swap(Donor(text.clone(), None)))]
    assert same[0] == same[1]
    assert len(set(same)) == 1
    variants = [
        swap(),
        swap("y"),
        swap(Donor(text)),
        swap(Donor(text + 1)),
        swap(Donor(text, torch.tensor([1, 1, 0]))),
        swap(sites=SITES[:1]),
        swap(pooled="null"),
        swap(mode="pinned"),
        swap(window=Window(0, 0.5)),
        swap(strength=0.5),
        swap(rows="both"),
    ]
    assert len({Plan(v).digest for v in variants}) == len(variants)


def test_the_digest_of_a_plan_is_the_same_on_every_machine() -> None:
    """A frozen value: it stands in audit records."""
    from steering import Plan

    assert Plan(swap()).digest == "e862e55233849fa39fd05871d48d4c8d3a30fd036f34efe73364d51528b7fcb7"


def test_two_swaps_that_meet_are_refused_and_side_by_side_are_not() -> None:
    from steering import BadPlan, Plan, Window

    with pytest.raises(BadPlan, match=r"two swaps meet at site `a.0`"):
        Plan(swap(), swap("y", sites=("a.0",)))
    Plan(swap(window=Window(0, 0.5)), swap("y", window=Window(0.5, 1)))
    Plan(swap(rows="cond"), swap("y", rows="uncond"))
    Plan(swap(sites=("a.0",)), swap("y", sites=("a.1",)))


def test_a_plan_is_made_of_interventions() -> None:
    from steering import BadPlan, Plan

    with pytest.raises(BadPlan, match="has the plan `None`"):
        Plan()
    with pytest.raises(BadPlan, match="got `str`"):
        Plan("swap")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "mask", "says"),
    [
        (torch.full((2, 3), float("nan")), None, "must be finite, got 6 values"),
        (torch.ones(3), None, r"must be a float tensor \[tokens, width\]"),
        (torch.ones(2, 3, dtype=torch.int64), None, "must be a float tensor"),
        (torch.ones(2, 3), torch.ones(3), r"mask must be \[2\]"),
        (torch.ones(2, 3), torch.tensor([0.0, 2.0]), "only 0 and 1"),
    ],
)
def test_a_donor_with_values_that_are_none_is_refused(text: torch.Tensor, mask: torch.Tensor | None, says: str) -> None:
    from steering import BadDonor, Donor

    with pytest.raises(BadDonor, match=says):
        Donor(text, mask)


def test_operators_of_uneven_shape_or_without_finite_values_are_refused() -> None:
    from steering import BadPlan, Edit, Operator

    one = torch.ones(1, 4)
    with pytest.raises(BadPlan, match="one shape"):
        Operator(one, one, torch.ones(2, 4))
    with pytest.raises(BadPlan, match="finite"):
        Operator(one, one, one * float("inf"))
    with pytest.raises(BadPlan, match="gate must be one of"):
        Operator(one, one, one, gate="soft")  # type: ignore[arg-type]
    with pytest.raises(BadPlan, match="strength of an edit"):
        Edit(("a",), Operator(one, one, one), strength=-1)


def test_every_name_that_is_exported_is_there_and_every_error_is_one_of_ours() -> None:
    import steering

    assert all(hasattr(steering, name) for name in steering.__all__)
    errors = [getattr(steering, n) for n in steering.__all__ if isinstance(getattr(steering, n), type)]
    raised = [e for e in errors if issubclass(e, Exception)]
    assert all(issubclass(e, steering.SteeringError) for e in raised)
    assert len(raised) == 21


def test_a_blend_is_a_mixture_of_texts_and_of_attention_weights() -> None:
    from steering.maths import swap_bias, swap_rows

    own, bank = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    src, alpha = torch.tensor([3, 1]), torch.tensor([0.25, 1.0])
    assert torch.allclose(swap_rows(own, bank, src, alpha)[0], 0.75 * own[0] + 0.25 * bank[1])
    assert torch.equal(swap_rows(own, bank, src, alpha)[1], own[1])
    shown, hidden = 0.0, -10000.0
    mine = torch.tensor([[[shown, shown, hidden]], [[shown, hidden, hidden]]])
    theirs = torch.tensor([[[hidden, hidden, hidden]], [[shown, hidden, shown]]])
    mixed = swap_bias(mine, theirs, src, alpha)
    assert torch.allclose(mixed[0, 0].exp(), torch.tensor([1.0, 0.75, 0.25]))
    assert torch.equal(mixed[1], mine[1])
