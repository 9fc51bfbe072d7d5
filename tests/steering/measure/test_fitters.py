"""Fitters are pure: laws of each operator, on samples whose truth is known.

| law | mutation that turned it red |
|---|---|
| LEACE: no linear probe beats chance | `e` not divided by `S' C^-1 S` |
| LEACE moves less than any other projection that guards | `C^-1` left out |
| anchored: neutral samples stay | mean of all samples as `m` |
| CASteer clipped never adds | gate `linear` |
| UCE adapter is the weight edit | `+` for `-`; `lam` left out of A |
| SAFREE is idempotent | basis not orthonormal |
| triggers | `>=` turned round |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

D = 12


def two_classes(n: int = 200, d: int = D, seed: int = 0, gap: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples with and without a concept, of one covariance that is far from round."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=g)
    way = torch.randn(d, generator=g)
    shown = torch.randn(n, d, generator=g) @ mix + gap * way + 3
    return shown, torch.randn(n + 40, d, generator=g) @ mix + 3


def applied(op: Any, x: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """The formula, written out; x: [n, d]."""
    s = (x.double() @ op.e.double().T) - (op.e.double() * op.m.double()).sum(1)
    s = s.clamp(min=0) if op.gate == "positive" else s
    return x.double() - strength * s @ op.d.double()


def best_probe(x: torch.Tensor, z: torch.Tensor) -> float:
    """The share of variance of z that the best linear probe explains; 0 is chance.

    Directions below 1e-5 of the largest are left out: there is nothing but the rounding of operators to float32.
    """
    a = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64)], 1)
    told = a @ torch.linalg.lstsq(a, z.double()[:, None], rcond=1e-5, driver="gelsd").solution
    return 1 - float((z.double()[:, None] - told).square().sum() / (z.double() - z.double().mean()).square().sum())


def labels(shown: torch.Tensor, neutral: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.ones(len(shown)), torch.zeros(len(neutral))])


@pytest.mark.parametrize("shrink", [None, 0.0, 0.5])
def test_after_leace_no_linear_probe_beats_chance_on_the_fitted_data(shrink: float | None) -> None:
    from steering.measure.fitters import leace

    shown, neutral = two_classes()
    x, z = torch.cat([shown, neutral]), labels(shown, neutral)
    y = applied(leace(x, z, shrink=shrink), x)
    assert best_probe(x, z) > 0.3
    assert best_probe(y, z) < 1e-6
    w = torch.zeros(D + 1, dtype=torch.float64, requires_grad=True)
    a = torch.cat([(y - y.mean(0)) / y.std(0).clamp(min=1e-3), torch.ones(len(y), 1, dtype=torch.float64)], 1)
    descent = torch.optim.LBFGS([w], max_iter=100)

    def loss() -> torch.Tensor:
        descent.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(a @ w, z.double())
        value.backward()  # type: ignore[no-untyped-call]
        return value

    descent.step(loss)  # type: ignore[no-untyped-call]
    p = float(z.mean())
    chance = -(p * torch.tensor(p).log() + (1 - p) * torch.tensor(1 - p).log())
    assert float(loss().detach()) == pytest.approx(float(chance), abs=1e-6)


def test_leace_is_idempotent_and_hides_several_things_at_once() -> None:
    from steering.measure.fitters import leace

    g = torch.Generator().manual_seed(3)
    z = torch.randn(300, 2, generator=g)
    x = torch.randn(300, D, generator=g) + z @ torch.randn(2, D, generator=g)
    op = leace(x, z)
    y = applied(op, x)
    assert op.e.shape == (2, D)
    assert float((applied(op, y) - y).abs().max()) < 1e-4
    assert max(best_probe(y, z[:, i]) for i in range(2)) < 1e-6
    twice = leace(x, torch.cat([z, z[:, :1] + z[:, 1:]], 1))  # the third says what the others say
    assert twice.e.shape[0] == 2 or float((applied(twice, x) - y).abs().max()) < 1e-3


def test_leace_moves_less_than_projecting_straight_off() -> None:
    from steering.measure.fitters import casteer, leace

    shown, neutral = two_classes()
    x, z = torch.cat([shown, neutral]), labels(shown, neutral)
    straight = casteer(shown, neutral, clipped=False)
    x0 = x - x.mean(0)
    assert best_probe(applied(straight, x0), z) < 1e-6  # guards as well, at a greater price
    moved = (applied(leace(x, z, shrink=0.0), x) - x).square().sum()
    assert float(moved) < 0.9 * float((applied(straight, x0) - x0).square().sum())


def test_the_anchored_variant_leaves_neutral_samples_and_brings_the_others_to_their_mean() -> None:
    from steering.measure.fitters import leace_anchored

    shown, neutral = two_classes(gap=6.0)
    op = leace_anchored(shown, neutral, clipped=False)
    assert float((applied(op, shown).mean(0) - neutral.double().mean(0)).abs().max()) < 1e-4
    assert float((applied(op, neutral).mean(0) - neutral.double().mean(0)).abs().max()) < 1e-4
    clipped = leace_anchored(shown, neutral)
    s = (neutral.double() @ clipped.e.double().T) - (clipped.e.double() * clipped.m.double()).sum(1)
    untouched = s[:, 0] <= 0
    assert torch.equal(applied(clipped, neutral)[untouched], neutral.double()[untouched])
    assert 0.3 < float(untouched.double().mean()) < 0.7


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 3), st.integers(0, 1000))
def test_casteer_clipped_never_adds_the_concept(strength: float, seed: int) -> None:
    from steering.measure.fitters import casteer

    shown, neutral = two_classes(20, seed=seed)
    op = casteer(shown, neutral)
    x = torch.randn(50, D, generator=torch.Generator().manual_seed(seed + 1)) * 3
    y = applied(op, x, strength)
    s = op.e[0].double()
    before, after = x.double() @ s, y @ s
    assert bool((after <= before + 1e-6).all())
    assert torch.equal(y[before <= 0], x.double()[before <= 0])
    assert bool((x.double() - y - (x.double() - y) @ s[:, None] * s).abs().max() < 1e-5)  # along s only


def test_casteer_at_two_mirrors_and_keeps_the_norm_and_folds_into_the_weight() -> None:
    from steering.measure.fitters import casteer

    shown, neutral = two_classes()
    op = casteer(shown, neutral, clipped=False)
    x = torch.randn(9, D)
    assert torch.allclose(applied(op, x, 2.0).norm(dim=1), x.double().norm(dim=1), atol=1e-5)
    layer = torch.nn.Linear(7, D)
    h = torch.randn(9, 7)
    fold = torch.eye(D) - 1.3 * op.e.T @ op.e
    folded = h @ (fold @ layer.weight).T + fold @ layer.bias
    assert torch.allclose(applied(op, layer(h), 1.3).float(), folded, atol=1e-5)


def test_means_leaves_the_neutral_mean_where_it_is() -> None:
    from steering.measure.fitters import means

    shown, neutral = two_classes()
    op = means(shown, neutral, clipped=False)
    middle = neutral.mean(0, keepdim=True)
    assert float((applied(op, middle) - middle).abs().max()) < 1e-5
    assert op.where == "context"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(0, 6), st.floats(0.05, 2), st.floats(0.2, 3), st.integers(0, 1000))
def test_the_uce_adapter_is_the_closed_form_weight_edit(n: int, k: int, lam: float, erase: float, seed: int) -> None:
    from steering.measure.fitters import uce

    g = torch.Generator().manual_seed(seed)
    c, v, p, w = (torch.randn(r, D, generator=g, dtype=torch.float64) for r in (n, n, k, 7))
    a = lam * torch.eye(D, dtype=torch.float64) + erase * c.T @ c + 0.7 * p.T @ p
    edited = (lam * w + erase * (w @ v.T) @ c + 0.7 * (w @ p.T) @ p) @ torch.linalg.inv(a)
    op = uce(c, v, preserve=p if k else None, lam=lam, erase=erase, keep=0.7)
    x = torch.randn(30, D, generator=g, dtype=torch.float64)
    assert op.e.shape[0] == min(n, D)
    assert torch.allclose(applied(op, x) @ w.T, x @ edited.T, atol=1e-4, rtol=1e-4)


def test_a_uce_of_lower_rank_is_its_strongest_part() -> None:
    from steering.measure.fitters import uce

    g = torch.Generator().manual_seed(1)
    c = torch.randn(8, D, generator=g)
    v = c - torch.randn(8, 2, generator=g) @ torch.randn(2, D, generator=g)  # a change of rank two
    whole, two, one = (uce(c, v, rank=r) for r in (None, 2, 1))
    x = torch.randn(9, D, generator=g)
    assert torch.allclose(applied(two, x), applied(whole, x), atol=1e-4)
    assert one.e.shape[0] == 1
    assert float((applied(one, x) - applied(whole, x)).abs().max()) > 1e-2


def test_safree_projects_off_the_phrases_and_twice_is_once() -> None:
    from steering.measure.fitters import concept_space, safree

    g = torch.Generator().manual_seed(1)
    phrases = torch.randn(4, 2, generator=g) @ torch.randn(2, D, generator=g)
    op = safree(phrases)
    assert concept_space(phrases).shape == (2, D)
    x = torch.randn(9, D, generator=g)
    y = applied(op, x)
    c = phrases.T.double()
    want = x.double() - x.double() @ (c @ torch.linalg.pinv(c.T @ c) @ c.T)
    assert torch.allclose(y, want, atol=1e-5)
    assert torch.allclose(applied(op, y), y, atol=1e-5)
    about = safree(phrases, origin=torch.ones(D))
    assert float((applied(about, torch.ones(1, D)) - 1).abs().max()) < 1e-6


def test_only_trigger_tokens_are_projected_and_the_rest_is_bit_for_bit() -> None:
    from steering.measure.fitters import concept_space, project_tokens, trigger_tokens

    g = torch.Generator().manual_seed(1)
    space = concept_space(torch.randn(1, D, generator=g))
    base = torch.randn(D, generator=g)
    masked = (base - base @ space.T @ space).repeat(5, 1) + 0.01 * torch.randn(5, D, generator=g)
    masked += 4 * space  # the concept is in all of them
    masked[2] = masked[2] - 4 * space[0] + 3 * base  # and gone without token 2
    triggers = trigger_tokens(masked, space)
    assert triggers.tolist() == [False, False, True, False, False]
    text = torch.randn(5, D, generator=g)
    prompt = concept_space(torch.randn(5, D, generator=g))
    moved = project_tokens(text, triggers, space, prompt)
    assert torch.equal(moved[~triggers], text[~triggers])
    assert float((moved[2] @ space.T).abs().max()) < 1e-5
    assert float((moved[2] - text[2]).abs().max()) > 0.1


def test_prompts_are_aligned_around_the_phrase_that_differs() -> None:
    from steering.measure.fitters import aligned

    g = torch.Generator().manual_seed(1)
    before, after, cat, neutral = (torch.randn(n, D, generator=g) for n in (4, 5, 1, 3))
    noise = 0.05 * torch.randn(10, D, generator=g)
    own = torch.cat([before, cat, after]) + noise
    at = aligned(own, torch.cat([before, neutral, after]))
    assert at[:4].tolist() == [0, 1, 2, 3]
    assert at[5:].tolist() == [7, 8, 9, 10, 11]
    assert 4 <= int(at[4]) <= 6
    assert aligned(own, own).tolist() == list(range(10))


def test_samples_without_a_difference_have_no_direction() -> None:
    from steering import BadPlan
    from steering.measure.fitters import casteer, leace, uce

    x = torch.randn(5, D)
    with pytest.raises(BadPlan, match="no direction to take out"):
        casteer(x, x)
    with pytest.raises(BadPlan, match="nothing to erase"):
        leace(torch.cat([x, x]), torch.tensor([0.0] * 5 + [1.0] * 5))
    with pytest.raises(BadPlan, match=r"needs its guide, got \[5, 12\] and \[4, 12\]"):
        uce(x, x[:4])
