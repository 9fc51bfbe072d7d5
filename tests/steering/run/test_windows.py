"""Windows: fractions of the trajectory, read from the scheduler, the same for every scheduler and at any number of
steps.

| law | mutation that turned it red |
|---|---|
| a window fires on its own steps only (heun) | evaluations ranked instead of timesteps |
| whole, early, late (ddim) | place taken from `step_index` only |
| early and late differ; windows do not mix | the tables not written after a step |
| whole and empty; any cut covers each step once | `<=` at the end of a window |
| a window without a step is an error | `check_acted` left out |
| a window is widened to the nearest step | the first step taken |
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


@pytest.fixture(scope="module", params=["dpm", "euler", "ancestral", "heun", "ddim"])
def timed(request: pytest.FixtureRequest, ask: Any, build: Any) -> Any:
    """Asks a host with each kind of scheduler; heun evaluates timesteps twice, ddim keeps no index of its own."""
    from steering import Host

    pipe = build(scheduler=request.param)
    return type(ask)(Host(pipe, defaults=ask.host.defaults, name=request.param))


def test_the_whole_window_is_full_and_an_empty_one_is_stock(timed: Any) -> None:
    from steering import Window

    stock = timed.stock([RED, GREEN])
    full = timed.steered([RED, GREEN], [timed.swap(GREEN, window=Window(0, 1)), None])
    assert apart(stock[0], stock[1]) > DIFFERENT
    assert apart(full[0], stock[1]) < TOLERANCE
    for empty in (Window(0, 0), Window(0.5, 0.5), Window(1, 1)):
        assert torch.equal(timed.steered([RED, GREEN], [timed.swap(GREEN, window=empty), None]), stock)


def test_early_and_late_differ_from_both_and_from_each_other(timed: Any) -> None:
    from steering import Window

    stock = timed.stock([RED, GREEN])
    early = timed.steered([RED, GREEN], [timed.swap(GREEN, window=Window(0, 0.5)), None])
    late = timed.steered([RED, GREEN], [timed.swap(GREEN, window=Window(0.5, 1)), None])
    pictures = [stock[0], stock[1], early[0], late[0]]
    assert all(apart(a, b) > DIFFERENT for i, a in enumerate(pictures) for b in pictures[i + 1 :])
    assert torch.equal(early[1], stock[1])


def test_two_windows_side_by_side_are_one(timed: Any) -> None:
    from steering import Plan, Swap, Window

    halves = Plan(*(Swap(GREEN, sites=timed.names, pooled="keep", window=w) for w in (Window(0, 0.5), Window(0.5, 1))))
    assert torch.equal(timed.steered([RED], [halves]), timed.steered([RED], [timed.swap(GREEN)]))


def test_a_window_fires_on_its_own_steps_only(timed: Any) -> None:
    """8 steps, a quarter: 2 steps. Heun evaluates the first timestep once and the others twice, 15 in all."""
    from steering import Window

    def fired(window: Any) -> int:
        plan = timed.swap(GREEN, timed.names[:1], window=window)
        return (
            timed.host.generate([RED], plans=[plan], seeds=[1], num_inference_steps=8, output_type="latent")
            .report[0]
            .fired[timed.names[0]]
        )

    quarters = [fired(Window(k / 4, (k + 1) / 4)) for k in range(4)]
    heun = timed.host.name == "heun"
    assert quarters == ([3, 4, 4, 4] if heun else [2, 2, 2, 2])
    assert fired(Window(0, 1)) == sum(quarters)


def test_windows_follow_the_timesteps_that_are_really_used(ask: Any, build: Any) -> None:
    """Custom timesteps that crowd at the start: half of the trajectory is half of *them*, not half of the noise."""
    from steering import Host, Window

    mine = type(ask)(Host(build(scheduler="euler"), defaults=ask.host.defaults, self_test=False))
    plan = mine.swap(GREEN, mine.names[:1], window=Window(0, 0.5))
    out = mine.host.generate([RED], plans=[plan], seeds=[1], timesteps=[999, 989, 979, 100], output_type="latent")
    assert out.report[0].fired == {mine.names[0]: 2}


def test_progress_comes_after_each_step_in_order(timed: Any) -> None:
    seen: list[tuple[int, int]] = []
    timed.steered([RED], [None], on_step=lambda i, n: seen.append((i, n)))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]
    seen.clear()
    timed.steered([RED], [timed.swap(GREEN)], on_step=lambda i, n: seen.append((i, n)))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_windows_of_different_requests_in_one_batch_do_not_mix(ask: Any) -> None:
    from steering import Window

    plans = [ask.swap(GREEN, window=Window(0, 0.25)), ask.swap(GREEN, window=Window(0.25, 1)), None]
    mixed = ask.steered([RED] * 3, plans)
    for i in range(3):
        alone = ask.steered([RED] * 3, [plans[i] if k == i else None for k in range(3)])
        assert torch.equal(mixed[i], alone[i])
    assert apart(mixed[0], mixed[1]) > DIFFERENT


def test_a_window_without_a_step_of_the_run_is_an_error(ask: Any) -> None:
    """4 steps: 0, 0.25, 0.5, 0.75. Also for one of several acts, and for one of several pictures."""
    from steering import NotFired, Plan, Swap, Window

    between = Window(0.3, 0.45)
    halves = Plan(*(Swap(GREEN, sites=ask.names, pooled="keep", window=w) for w in (between, Window(0.5, 1))))
    for plans in ([None, ask.swap(GREEN, window=between)], [halves, None]):
        with pytest.raises(NotFired, match=r"no step of this run, of 4, lies in the window \[0.3, 0.45\] of the swap"):
            ask.steered([RED, PINK], plans)
    it = ask.host.generate([RED], plans=[ask.swap(GREEN, ask.names[:1], window=between.with_step(4))], seeds=[1])
    assert it.report[0].fired == {ask.names[0]: 1}


@pytest.mark.parametrize(
    ("start", "end", "steps", "covered"),
    [
        (0.1, 0.3, 1, [0]),
        (0.3, 0.48, 4, [2]),
        (0.3, 0.5, 4, [2]),
        (0.26, 0.4, 4, [1]),
        (0.9, 1.0, 3, [2]),
        (0.2, 0.6, 4, [1, 2]),
    ],
)
def test_a_window_is_widened_to_the_nearest_step(start: float, end: float, steps: int, covered: list[int]) -> None:
    from steering import Window

    wide = Window(start, end).with_step(steps)
    assert [i for i in range(steps) if wide.covers(i, steps)] == covered
    assert (wide.start, wide.end) == (start, end) or len(covered) == 1
    assert Window(0.5, 0.5).with_step(steps) == Window(0.5, 0.5)


@pytest.mark.parametrize(
    ("start", "end", "steps", "covered"),
    [
        (0.0, 1.0, 3, [0, 1, 2]),
        (0.3, 0.6, 10, [3, 4, 5]),
        (0.0, 0.1, 4, [0]),
        (0.1, 0.2, 4, []),
        (0.7, 1.0, 10, [7, 8, 9]),
        (1 / 3, 2 / 3, 3, [1]),
    ],
)
def test_a_step_lies_in_a_window_when_its_fraction_does(
    start: float, end: float, steps: int, covered: list[int]
) -> None:
    from steering import Window

    assert [i for i in range(steps) if Window(start, end).covers(i, steps)] == covered


def test_any_cut_of_the_trajectory_covers_each_step_once() -> None:
    from hypothesis import given
    from hypothesis import strategies as st

    from steering import Window

    @given(st.integers(1, 60), st.floats(0, 1))
    def law(steps: int, cut: float) -> None:
        left, right = Window(0, cut), Window(cut, 1)
        assert all(left.covers(i, steps) + right.covers(i, steps) == 1 for i in range(steps))

    law()
