"""A real host behind a real queue, and the closed loop on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from service.engine.closed_loop import ClosedLoop
from service.engine.outcome import Outcome
from service.engine.queue import Queue
from service.engine.thread import Engine
from service.order import Given, Order
from service.reading.pools import DetectorPools
from tests.service.engine.scripted import PROMPT, pixels


@pytest.fixture(scope="module")
def queue(host: Any, recorder: Any) -> Iterator[Queue]:
    queue = Queue(64, recorder)
    engine = Engine(lambda: host, queue, recorder, batching="solo", max_batch=1)
    engine.start()
    yield queue
    engine.stop(timeout=30)


@pytest.fixture
def run(queue: Queue, host: Any, packs: Any, recorder: Any, policy: Any) -> Callable[..., Outcome]:
    """Runs one request through the loop under the test policy with `edits` made to its text."""
    from detectors.text import sense, without_lettering
    from policies import Loader
    from steering import Pack

    pack = Pack.load(packs / "lettering.safetensors", host=host)

    def go(
        look: Any,
        prompt: str = PROMPT,
        *,
        n: int = 1,
        edits: tuple[tuple[str, str], ...] = (),
        shelf: Any = None,
        seconds: float = 60.0,
        detector_seconds: float = 30.0,
        sense_with: Any = sense,
        steps: int = 4,
        adapter: Any = None,
        given: Given | None = None,
        at: tuple[int, int] = (64, 64),
    ) -> Outcome:
        text = policy.read_text()
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        policy.write_text(text)
        snapshot = Loader(sense).load(policy)
        readers = DetectorPools(sense_with, look, recorder, threads=2, seconds=detector_seconds)
        loop = ClosedLoop(
            queue,
            readers,
            {"lettering": pack} if shelf is None else shelf,
            recorder,
            without_lettering=without_lettering,
            deadline_seconds=seconds,
            adapters={} if adapter is None else {adapter.lora.name: adapter},
        )
        lora = None if adapter is None else adapter.lora
        asked = {"n": n, "width": at[0], "height": at[1], "steps": steps, "guidance": 3.0, "seed": 3}
        order = Order(prompt, "", "tiny", **asked, lora=lora, given=given)
        return asyncio.run(loop.answer(order, snapshot, "request-1"))

    return go


@pytest.fixture
def made(host: Any) -> Callable[..., np.ndarray]:
    """The picture that the host itself makes of a prompt, under a plan."""

    def make(prompt: str, plan: Any = None, seed: int = 3) -> np.ndarray:
        return pixels(host.generate([prompt], plans=[plan], seeds=[seed]).images[0])

    return make
