"""What the service adds to the bare pipeline, and what batching gains: ratios of one run on this machine.

Run by `make bench`; not part of `make test`.
"""

from __future__ import annotations

import asyncio
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

PROMPTS = [f"a {colour} star on a blue background" for colour in ("red", "green", "yellow", "purple")] * 4
ROUNDS = 5


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A runtime on the embedded model with the shipped policies."""
    from prometheus_client import CollectorRegistry

    from service.loading.source import embedded_models
    from service.metrics.recorder import Recorder
    from service.settings import Settings
    from service.worker.runtime import Runtime

    if not embedded_models():
        pytest.skip("there is no embedded model")
    runtime = Runtime(Settings(state=tmp_path_factory.mktemp("state"), threads=1), Recorder(CollectorRegistry()))
    runtime.start()
    runtime.wait()
    yield runtime
    runtime.stop()


def median(work: Callable[[], Any]) -> float:
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def ask(runtime: Any, prompts: list[str]) -> None:
    from palimpsest.cli.shared.in_process import LocalAnswerer

    answers = LocalAnswerer(runtime).answer(prompts, list(range(len(prompts))), together=len(prompts))
    assert all(answer.image is not None for answer in answers)


def test_service_overhead_over_the_bare_pipeline(runtime: Any) -> None:
    host = runtime.ready().host

    def bare() -> None:
        host.generate(PROMPTS[:1], plans=[None], seeds=[0])

    plain, served = median(bare), median(lambda: ask(runtime, PROMPTS[:1]))
    print(f"\n{platform.processor() or platform.machine()}, one picture: bare {plain:.3f} s, served {served:.3f} s,")
    print(f"ratio {served / plain:.3f} (queue, prompt detectors, decision, plan and PNG; no HTTP)")


def test_throughput_of_batching(runtime: Any) -> None:
    host = runtime.ready().host

    def solo() -> None:
        for seed, prompt in enumerate(PROMPTS):
            host.generate([prompt], plans=[None], seeds=[seed])

    alone, together = median(solo), median(lambda: ask(runtime, PROMPTS))
    print(f"\n16 requests: solo {alone:.2f} s, dynamic batches of up to {runtime.settings.max_batch} {together:.2f} s,")
    print(f"ratio {together / alone:.3f}")


def test_what_the_service_makes_of_the_machine_against_the_bare_pipeline_and_under_64_clients() -> None:
    """Real processes; writes `results/service.md`. The soak is a command of its own, because it takes long."""
    from service.loading.source import embedded_models
    from tests.bench.service_load import main

    if not embedded_models():
        pytest.skip("there is no embedded model")
    assert main([]) == 0


def test_the_event_loop_stays_free_while_pictures_are_made(runtime: Any) -> None:
    async def watch() -> float:
        from service.http.requests import GenerationRequest

        asked = GenerationRequest(prompt=PROMPTS[0], seed=1).within(runtime.ready().limits)
        work = asyncio.create_task(runtime.generate(asked, (), "bench"))
        longest = 0.0
        while not work.done():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began)
        return longest

    print(f"\nlongest pause of the event loop during a picture: {1000 * asyncio.run(watch()):.0f} ms")
