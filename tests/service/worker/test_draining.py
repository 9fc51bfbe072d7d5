"""How a worker ends, without BentoML around it.

| the law that goes red | when this is broken |
|---|---|
| draining comes first, the old handler later, and turning away last | a delay of `_put_before` is left out |
| a second signal is not put off | `seen` is not looked at |
| a worker with a dead engine ends itself | `end` is not called |
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.worker.draining import drain_on_signals, end_when_dead


@pytest.fixture
def heard() -> Iterator[list[tuple[str, float]]]:
    """What SIGTERM does in the end, told as `ended`; the process's own handler is put back."""
    told: list[tuple[str, float]] = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append(("ended", time.monotonic())))
    yield told
    signal.signal(signal.SIGTERM, before)


def run(heard: list[tuple[str, float]], *, seconds: float, signals: int, until: int) -> None:
    async def go() -> None:
        drain_on_signals(
            lambda: heard.append(("drained", time.monotonic())),
            lambda: heard.append(("turned away", time.monotonic())),
            seconds=seconds,
            grace=0.8,
        )
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
        for _ in range(1000):
            if len(heard) >= until:
                return
            await asyncio.sleep(0.02)

    interrupt = signal.getsignal(signal.SIGINT)
    try:
        asyncio.run(go())
    finally:
        signal.signal(signal.SIGINT, interrupt)


def test_draining_comes_first_then_the_end_then_turning_away(heard: list[tuple[str, float]]) -> None:
    run(heard, seconds=0.4, signals=1, until=3)
    assert [name for name, _ in heard] == ["drained", "ended", "turned away"]
    assert heard[1][1] - heard[0][1] >= 0.35
    assert heard[2][1] - heard[1][1] >= 0.35, "half of the grace is theirs that wait"


def test_a_second_signal_is_not_put_off(heard: list[tuple[str, float]]) -> None:
    began = time.monotonic()
    run(heard, seconds=60, signals=2, until=2)
    assert [name for name, _ in heard] == ["drained", "ended"]
    assert time.monotonic() - began < 30


class Worker:
    """A runtime whose engine may die."""

    def __init__(self, state: str, alive: bool) -> None:
        self.state, self.alive = state, alive

    def is_alive(self) -> bool:
        return self.alive


@pytest.mark.parametrize(("state", "alive", "ends"), [("ready", False, True), ("stopping", False, False)])
def test_a_worker_whose_engine_died_while_it_was_ready_ends_itself(state: str, alive: bool, ends: bool) -> None:
    codes: list[int] = []
    end_when_dead(Worker(state, alive), every=0.01, end=codes.append).join(30)
    assert bool(codes) is ends
    assert all(codes)


def test_a_worker_that_lives_is_left_alone() -> None:
    worker, codes = Worker("ready", True), list[int]()
    thread = end_when_dead(worker, every=0.01, end=codes.append)
    time.sleep(0.1)
    worker.state = "stopping"
    thread.join(30)
    assert codes == []


def test_a_drained_runtime_is_unready_and_answers_until_it_turns_away(serve: Callable[..., Any]) -> None:
    client = serve()
    for _ in range(2):
        client.runtime.drain()
        assert (client.runtime.is_ready(), client.runtime.is_alive()) == (False, True)
        assert client.post("/v1/images/generations", json={"prompt": "a red star"}).status_code == 200
    client.runtime.turn_away()
    answer = client.post("/v1/images/generations", json={"prompt": "a red star"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert int(answer.headers["retry-after"]) >= 1
    assert (client.runtime.is_ready(), client.runtime.is_alive()) == (False, True)
