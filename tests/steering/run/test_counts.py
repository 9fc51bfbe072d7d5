"""What steering costs in exact counts: forwards of the denoiser, rows in them, texts encoded, graphs, recompiles.

Times say what a machine did one afternoon; counts say what the engine does. The same cases are timed by `make bench`.

| count | mutation that turned it red |
|---|---|
| a cross-attention host adds a new donor's text and nothing else | donors encoded anew in each call |
| a joint host adds rows for twins | a clean copy for every swap, not for pinned ones alone |
| and none for what was recorded | no room for recorded streams |
| the peers compute half as many rows again | the third text in a call of its own |
| a way of steering is one graph | bank sized by the number of donors |
| the baseline without its term is the stock picture | cond and third prediction exchanged |
| the published formula | momentum left out; threshold compared by size |
| a trigger token loses its part in the concept | `P_I` alone |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from evaluation.tables.peers import MAX, Sld, SldConfig, safe_text, safety_guidance, third_branch
from steering import Plan, Swap
from tests.bench.steering_cases import AVOID, MANY, Count, Graphs, Subject, cases, counted, tiny

CROSS, JOINT, GUIDED = ("pixart-alpha", "sdxl"), ("sd3", "flux-dev"), ("pixart-alpha", "sdxl", "sd3")
STEPS = 3


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def counts(subject: Subject) -> dict[str, Count]:
    """Of each case, when it is run for the second time."""
    found = {}
    for case in cases(subject):
        case.run(0)
        found[case.name] = counted(subject, case, 0)
    return found


@pytest.mark.parametrize("name", CROSS)
def test_a_cross_attention_host_adds_a_new_donors_text_and_nothing_else(name: str) -> None:
    found = counts(tiny(name))
    stock, many = found["stock"], found["stock, 16"]
    assert (stock.forwards, stock.rows) == (STEPS, 2 * STEPS)
    assert (many.forwards, many.rows) == (STEPS, 2 * STEPS * MANY)
    for case in ("stock again", "attached, no plan", "one plan"):
        assert found[case] == stock
    for case in ("attached, no plan, 16", "16 plans"):
        assert found[case] == many
    assert found["one plan, new donor"] == Count(stock.forwards, stock.rows, stock.texts + 1)
    assert found["16 plans, new donors"] == Count(many.forwards, many.rows, many.texts + MANY)


@pytest.mark.parametrize("name", JOINT)
def test_a_joint_host_adds_rows_for_twins_and_none_for_what_was_recorded(name: str) -> None:
    found = counts(tiny(name))
    stock, many = found["stock"], found["stock, 16"]
    halves = 1 if name == "flux-dev" else 2
    assert (stock.forwards, stock.rows, many.rows) == (STEPS, STEPS * halves, STEPS * halves * MANY)
    assert found["attached, no plan"] == found["one plan, canonical"] == stock
    assert found["attached, no plan, 16"] == found["16 plans, canonical"] == many
    rows = {"twin": 2, "lockstep": 2, "pinned twin": 3}
    for way, times in rows.items():
        assert found[f"one plan, {way}"].forwards == STEPS
        assert found[f"one plan, {way}"].rows == times * stock.rows
    assert (found["16 plans, twin"].forwards, found["16 plans, twin"].rows) == (STEPS, 2 * many.rows)
    fresh = found["one plan, canonical, new donor"]
    assert (fresh.forwards, fresh.rows) == (2 * STEPS, 2 * stock.rows)  # the recording is a stock run


@pytest.mark.parametrize("name", GUIDED)
def test_the_peers_compute_half_as_many_rows_again(name: str) -> None:
    subject = tiny(name)
    found = {c.name: counted(subject, c, 0) for c in cases(subject) if c.name.startswith(("SLD", "SAFREE", "stock"))}
    for peer in ("SLD", "SAFREE-style"):
        assert found[peer].forwards == found["stock"].forwards
        assert 2 * found[peer].rows == 3 * found["stock"].rows
        assert 2 * found[f"{peer}, 16"].rows == 3 * found["stock, 16"].rows


def test_a_distilled_host_has_no_place_for_a_third_branch() -> None:
    subject = tiny("flux-dev")
    assert not [c for c in cases(subject) if c.name.startswith(("SLD", "SAFREE"))]
    with pytest.raises(ValueError, match="no unconditional rows"), third_branch(subject.stock, Sld(["blood"], MAX)):
        pass


@pytest.mark.parametrize(
    ("name", "chosen", "graphs"),
    [
        ("pixart-alpha", ("stock, 16", "attached, no plan, 16", "16 plans", "16 plans, new donors", "SLD, 16"), 4),
        ("sd3", ("stock, 16", "attached, no plan, 16", "16 plans, canonical", "16 plans, twin"), 4),
        ("flux-dev", ("stock", "attached, no plan", "one plan, canonical", "one plan, twin", "one plan, lockstep"), 4),
    ],
)
def test_a_way_of_steering_is_one_graph_whatever_the_plans(name: str, chosen: tuple[str, ...], graphs: int) -> None:
    """One for the stock call and one for each way and number of rows; then other plans, donors and windows add none,
    nor do fewer of them."""
    subject = tiny(name, compiled=Graphs)
    some = [c for c in cases(subject) if c.name in chosen]
    assert len(some) == len(chosen)
    for case in some:
        case.run(-1)
    assert subject.traced == graphs
    for k in range(2):
        for case in some:
            case.run(k)
    one_of_all(subject, some[0].pictures)
    assert subject.traced == graphs
    subject.host.close()


def one_of_all(subject: Subject, n: int) -> None:
    """A call of `n` prompts, one of which has a plan at full strength."""
    joint = subject.host.joint
    sites = subject.sites[:2] if n > 1 else subject.sites[::2]
    plan = Plan(Swap("alone", sites=sites, pooled="donor", source="canonical" if joint else "text"))
    prompts, plans = [f"a red star {i}" for i in range(n)], [plan] + [None] * (n - 1)
    subject.host.generate(prompts, plans=plans, seeds=list(range(n)), output_type="latent", **subject.call)


def latents(subject: Subject, peer: Any = None, n: int = 1) -> torch.Tensor:
    run = next(c.run for c in cases(subject) if c.name == ("stock" if n == 1 else f"stock, {n}"))
    if peer is None:
        return run(0)
    with third_branch(subject.stock, peer):
        return run(0)


@pytest.mark.parametrize("name", GUIDED)
def test_the_baseline_without_its_term_is_the_stock_picture(name: str) -> None:
    """So what is timed is the pipeline itself, with a row more: not another sampler."""
    subject = tiny(name)
    stock = latents(subject)
    late = SldConfig(warmup=99, scale=5000.0, threshold=1.0, momentum_scale=0.5, momentum=0.7)
    off = latents(subject, Sld([", ".join(AVOID)], late))
    assert float((off - stock).abs().max()) < 1e-4
    assert float((latents(subject, Sld([", ".join(AVOID)], MAX)) - stock).abs().max()) > 1e-2


def test_safe_latent_diffusion_is_the_published_formula() -> None:
    """By hand on three numbers: far, near, and past the threshold."""
    uncond, cond, safety = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 0.001, 3.0]), torch.tensor([2.0, 0.0, 1.0])
    config = SldConfig(warmup=0, scale=100.0, threshold=1.0, momentum_scale=0.5, momentum=0.4)
    moment = torch.tensor([0.2, 0.2, 0.2])
    got = safety_guidance(uncond, cond, safety, moment, config)
    assert torch.allclose(got, torch.tensor([1 * 2.0 + 0.1, 0.1 * 0.0 + 0.1, 0 * 1.0 + 0.1]))


def test_a_trigger_token_loses_its_part_in_the_concept_and_others_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(6, 16, generator=generator) * 0.1
    own[2] = torch.nn.functional.one_hot(torch.tensor(3), 16).float() * 5
    concept = torch.nn.functional.one_hot(torch.tensor([3]), 16).float()
    safe, beta = safe_text(own, concept)
    assert float(safe[2, 3].abs()) < 1e-5
    assert torch.equal(safe[[0, 1, 3, 4, 5]], own[[0, 1, 3, 4, 5]])
    assert 0 < beta < 2
