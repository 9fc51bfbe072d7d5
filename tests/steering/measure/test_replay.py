"""Captured calls: the denoiser's own answer again, and under a plan what a whole run would have given at that step.

| law | mutation that turned it red |
|---|---|
| no plan is the own call; the donor's prediction | uncond row captured |
| windows at the call's own place | every call judged as step 0 of 1 |
| a dead site is found out | counters not compared |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

TOLERANCE = 1e-5
DIFFERENT = 100 * TOLERANCE
RED, GREEN, PINK = "a red star", "green ring, sign 42", "pink moon"


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


def test_a_replay_without_a_plan_is_the_pipelines_own_call(family: Any) -> None:
    calls = family.host.capture(RED, seed=7, at=(0.0, 0.3, 0.99), negative_prompt=PINK)
    assert [(c.step, c.steps) for c in calls] == [(0, 4), (1, 4), (3, 4)]
    assert [c.fraction for c in calls] == [0, 0.25, 0.75]
    assert calls[0].timestep > calls[1].timestep > calls[2].timestep
    for call in calls:
        again = family.host.replay(call, [None, None])
        assert again.shape == (2, *call.prediction.shape)
        assert again.dtype == torch.float32
        assert apart(again[0], call.prediction) < TOLERANCE
    assert apart(calls[0].prediction, calls[1].prediction) > DIFFERENT


def test_the_capture_is_of_the_stock_run_and_leaves_nothing(ask: Any) -> None:
    """The first call of a run sees pure noise: the cond prediction does not depend on the negative prompt."""
    plain = ask.host.capture(RED, seed=7, at=(0.0,))[0]
    other = ask.host.capture(RED, seed=7, at=(0.0,), negative_prompt=GREEN)[0]
    green = ask.host.capture(GREEN, seed=7, at=(0.0,))[0]
    assert apart(plain.prediction, other.prediction) < TOLERANCE
    assert apart(plain.prediction, green.prediction) > DIFFERENT
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in ask.host.pipe.transformer.modules())


def test_all_sites_swapped_is_the_donors_prediction(family: Any) -> None:
    red = family.host.capture(RED, seed=7, at=(0.0,))[0]
    green = family.host.capture(GREEN, seed=7, at=(0.0,))[0]
    out = family.host.replay(red, [None, family.swap(GREEN), family.swap(RED)])
    assert apart(out[1], green.prediction) < TOLERANCE
    assert apart(out[2], red.prediction) < TOLERANCE
    assert apart(out[0], out[1]) > DIFFERENT


def test_a_reworded_call_is_the_other_prompts_prediction(family: Any) -> None:
    red = family.host.capture(RED, seed=7, at=(0.0, 0.5))
    green = family.host.capture(GREEN, seed=7, at=(0.0,))[0]
    with torch.no_grad():
        out = family.host.reword(red, [RED, GREEN])
    assert out.shape == (2, 2, *green.prediction.shape)
    assert apart(out[0, 0], red[0].prediction) < TOLERANCE
    assert apart(out[0, 1], green.prediction) < TOLERANCE
    assert apart(out[1, 0], red[1].prediction) < TOLERANCE
    assert apart(out[1, 0], out[1, 1]) > DIFFERENT


def test_rows_of_a_sweep_equal_single_rows_in_any_chunks(ask: Any) -> None:
    call = ask.host.capture(RED, seed=7, at=(0.5,))[0]
    plans = [ask.swap(GREEN, [name]) for name in ask.names] + [None, ask.swap(PINK, strength=0.5)]
    sweep = ask.host.replay(call, plans)
    assert apart(sweep, ask.host.replay(call, plans, rows_at_once=4)) < TOLERANCE
    assert apart(sweep, torch.cat([ask.host.replay(call, [p]) for p in plans])) < TOLERANCE
    assert min(apart(a, b) for i, a in enumerate(sweep) for b in sweep[i + 1 :]) > DIFFERENT
    assert ask.host.replay(call, []).shape == (0, *call.prediction.shape)


def test_windows_are_judged_at_the_calls_own_place(ask: Any) -> None:
    from steering import Window

    call = ask.host.capture(RED, seed=7, at=(0.5,))[0]
    early, late = (ask.swap(GREEN, window=w) for w in (Window(0, 0.5), Window(0.5, 1)))
    out = ask.host.replay(call, [None, early, late, ask.swap(GREEN)])
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[2], out[3])
    assert apart(out[0], out[2]) > DIFFERENT


def test_a_call_captured_with_more_room_gives_its_donors_the_same_room(ask: Any) -> None:
    call = ask.host.capture(RED, seed=7, at=(0.0,), max_sequence_length=40)[0]
    green = ask.host.capture(GREEN, seed=7, at=(0.0,), max_sequence_length=40)[0]
    assert call.text.shape[1] == 40
    assert apart(ask.host.replay(call, [ask.swap(GREEN)])[0], green.prediction) < TOLERANCE


def test_a_dead_site_is_found_out_in_a_replay_and_nothing_is_left(ask: Any, build: Any) -> None:
    from steering import Host, NotFired

    mine = type(ask)(Host(build(), defaults=ask.host.defaults, name="own", self_test=False))
    call = mine.host.capture(RED, seed=7, at=(0.0,))[0]
    site = mine.host.pipe.transformer.transformer_blocks[1].attn2
    site.__class__ = type("Past", (type(site),), {"__call__": lambda self, *a, **k: self.forward(*a, **k)})
    with pytest.raises(NotFired, match=r"transformer_blocks.1.attn2` replaced 0 rows where the plans say 1"):
        mine.host.replay(call, [mine.swap(GREEN), None])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in mine.host.pipe.transformer.modules())
    assert apart(mine.host.replay(call, [None])[0], call.prediction) < TOLERANCE


@pytest.mark.parametrize("at", [(1.0,), (-0.1,), (float("nan"),)])
def test_fractions_outside_the_trajectory_are_refused(ask: Any, at: tuple[float, ...]) -> None:
    from steering import BadPlan

    with pytest.raises(BadPlan, match=r"must be in \[0, 1\)"):
        ask.host.capture(RED, seed=7, at=at)


def test_a_plan_of_uncond_rows_has_no_row_in_a_replay(ask: Any) -> None:
    from steering import BadPlan

    call = ask.host.capture(RED, seed=7, at=(0.0,))[0]
    with pytest.raises(BadPlan, match="has none"):
        ask.host.replay(call, [ask.swap(GREEN, rows="uncond")])
    with pytest.raises(BadPlan, match="rows_at_once"):
        ask.host.replay(call, [None], rows_at_once=0)
