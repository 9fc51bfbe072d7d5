"""The engine: what is batched, what a batch's failure costs, who waits and who is given up. On a real, tiny host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from service.engine.queue import BatchKey, Job, Queue
from service.engine.thread import Engine
from service.errors import Busy, DeadlineExceeded, Unavailable

KEY = BatchKey(64, 64, 4, 3.0)
STOCK = {"height": 64, "width": 64, "num_inference_steps": 4, "guidance_scale": 3.0}
PROMPTS = ("a red star", "a blue ring", "pip", "an orange moon on a gray background")


def job(prompt: str = PROMPTS[0], *, seed: int = 1, plan: Any = None, key: BatchKey = KEY, seconds: float = 60) -> Job:
    return Job(prompt, None, seed, plan, key, time.monotonic() + seconds)


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.fixture
def engine(host: Any, recorder: Any) -> Callable[..., Any]:
    """Starts an engine on the host after its jobs are in line, so that batches do not depend on timing."""

    @contextmanager
    def start(
        *jobs: Job, batching: Any = "dynamic", max_batch: int = 8, on: Any = None, size: int = 64
    ) -> Iterator[Engine]:
        queue = Queue(size, recorder)
        if jobs:
            queue.put(jobs)
        engine = Engine(lambda: on or host, queue, recorder, batching=batching, max_batch=max_batch)
        engine.start()
        try:
            yield engine
        finally:
            engine.stop(timeout=30)

    return start


@pytest.fixture
def stock(host: Any) -> Callable[..., list[np.ndarray]]:
    """Pictures of the stock pipeline for prompts that run together."""
    import torch

    def run(*prompts: str, seed: int = 1, **more: Any) -> list[np.ndarray]:
        generators = [torch.Generator("cpu").manual_seed(seed) for _ in prompts]
        arguments = {**host.defaults.arguments(), **STOCK, **more}
        return [pixels(i) for i in host.pipe(prompt=list(prompts), generator=generators, **arguments).images]

    return run


def plan_of(host: Any, donor: str) -> Any:
    from steering import Plan, Swap

    return Plan(Swap(donor, sites=[s.name for s in host.sites][1:3], pooled="keep"))


def test_a_lone_request_has_the_pixels_of_the_stock_solo_run(engine: Any, stock: Any) -> None:
    one = job()
    with engine(one):
        made = one.done.result(60)
    assert (made.report.shape.batch, made.report.shape.row) == (1, 0)
    assert np.array_equal(pixels(made.image), stock(PROMPTS[0])[0])


def test_untouched_rows_of_a_mixed_batch_have_the_stock_pixels_at_the_same_shape(
    engine: Any, stock: Any, host: Any
) -> None:
    plan = plan_of(host, "a green cross")
    jobs = [job(prompt, plan=plan if k % 2 else None) for k, prompt in enumerate(PROMPTS)]
    with engine(*jobs):
        made = [j.done.result(60) for j in jobs]
    plain = stock(*PROMPTS)
    assert [(m.report.shape.batch, m.report.shape.row) for m in made] == [(4, k) for k in range(4)]
    for k, m in enumerate(made):
        assert np.array_equal(pixels(m.image), plain[k]) is (k % 2 == 0), f"row {k}"


def test_in_fixed_batching_a_picture_does_not_depend_on_its_neighbours(engine: Any, host: Any) -> None:
    alone = job()
    with engine(alone, batching="fixed", max_batch=4):
        first = alone.done.result(60)
    among = [job(), job(PROMPTS[1], plan=plan_of(host, "a green cross"), seed=5), job(PROMPTS[2], seed=9)]
    with engine(*among, batching="fixed", max_batch=4):
        second = among[0].done.result(60)
    assert first.report.shape.batch == second.report.shape.batch == 4
    assert np.array_equal(pixels(first.image), pixels(second.image))


def test_solo_batching_runs_every_picture_alone(engine: Any) -> None:
    jobs = [job(p) for p in PROMPTS]
    with engine(*jobs, batching="solo"):
        assert {j.done.result(60).report.shape.batch for j in jobs} == {1}


def test_only_compatible_requests_share_a_batch(engine: Any) -> None:
    keys = (KEY, BatchKey(32, 32, 4, 3.0), BatchKey(64, 64, 2, 3.0), BatchKey(64, 64, 4, 5.0), KEY)
    jobs = [job(key=key) for key in keys]
    with engine(*jobs):
        sizes = [j.done.result(60).report.shape.batch for j in jobs]
    assert sizes == [2, 1, 1, 1, 2]
    assert jobs[1].done.result().image.size == (32, 32)


def test_a_negative_prompt_reaches_the_model_and_no_other_row(engine: Any, stock: Any) -> None:
    key = BatchKey(64, 64, 4, 3.0, negative=True)
    with_negative = Job(PROMPTS[0], "pip", 1, None, key, time.monotonic() + 60)
    plain = job()
    with engine(with_negative, plain):
        made = [pixels(j.done.result(60).image) for j in (with_negative, plain)]
    assert np.array_equal(made[0], stock(PROMPTS[0], negative_prompt=["pip"])[0])
    assert np.array_equal(made[1], stock(PROMPTS[0])[0])
    assert not np.array_equal(made[0], made[1])


def test_one_bad_row_does_not_cost_its_neighbours_their_pictures(engine: Any, host: Any, stock: Any) -> None:
    from steering import Plan, Swap, UnknownSite

    bad = Plan(Swap("x", sites=("no.such.site",), pooled="keep"))
    jobs = [job(), job(plan=bad), job(PROMPTS[1])]
    with engine(*jobs):
        with pytest.raises(UnknownSite):
            jobs[1].done.result(60)
        made = [pixels(jobs[k].done.result(60).image) for k in (0, 2)]
    assert np.array_equal(made[0], stock(PROMPTS[0])[0])
    assert np.array_equal(made[1], stock(PROMPTS[1])[0])


def test_a_full_queue_refuses_a_request_as_a_whole_and_says_when_to_come_back(recorder: Any) -> None:
    queue = Queue(3, recorder)
    queue.put([job(), job()])
    with pytest.raises(Busy) as error:
        queue.put([job(), job()])
    assert int(error.value.headers["Retry-After"]) >= 1
    assert len(queue) == 2
    queue.put([job()])
    queue.put_first(job())  # a retry is admitted already
    assert len(queue) == 4


def test_a_retry_runs_before_what_waits(recorder: Any) -> None:
    queue = Queue(8, recorder)
    old, other, retry = job(), job(key=BatchKey(32, 32, 4, 3.0)), job(key=BatchKey(32, 32, 4, 3.0), seed=7)
    queue.put([old, other])
    queue.put_first(retry)
    assert queue.take(8, timeout=0) == [retry, other]
    assert queue.take(8, timeout=0) == [old]


def test_a_request_past_its_deadline_is_not_run(engine: Any) -> None:
    late, good = job(seconds=-1), job()
    with engine(late, good):
        with pytest.raises(DeadlineExceeded):
            late.done.result(60)
        assert good.done.result(60).report.shape.batch == 1


def test_a_picture_that_nobody_waits_for_any_more_stops_the_pipeline(engine: Any) -> None:
    long = job(key=BatchKey(64, 64, 5000, 3.0))
    with engine(long) as running:
        running.ready.wait(30)
        time.sleep(0.5)
        long.abandon()
        with pytest.raises(CancelledError):
            long.done.result(10)
        after = job()
        running.queue.put([after])
        after.done.result(30)


def test_a_running_batch_is_ended_when_its_deadline_passes(engine: Any) -> None:
    long = job(key=BatchKey(64, 64, 5000, 3.0), seconds=1)
    with engine(long), pytest.raises(DeadlineExceeded):
        long.done.result(20)


def test_what_waits_at_shutdown_is_told_so(host: Any, recorder: Any) -> None:
    queue, waiting = Queue(8, recorder), job()
    queue.put([waiting])
    engine = Engine(lambda: host, queue, recorder, batching="dynamic", max_batch=8)
    engine._stopping.set()
    engine.start()
    engine.join(30)
    with pytest.raises(Unavailable):
        waiting.done.result(1)


def test_an_engine_that_cannot_load_its_model_says_why_and_ends(recorder: Any) -> None:
    def broken() -> Any:
        raise OSError("no weights")

    engine = Engine(broken, Queue(8, recorder), recorder, batching="dynamic", max_batch=8)
    engine.start()
    assert engine.settled.wait(10)
    engine.join(10)
    assert str(engine.failure) == "no weights"
    assert not engine.ready.is_set()
    assert not engine.alive(within=60)


def test_only_the_engine_thread_touches_the_model(engine: Any, host: Any) -> None:
    threads = set()

    class Watched:
        """The host, noting who calls it."""

        trusted = True
        rewriter_off: Mapping[str, Any] = {}

        def generate(self, *args: Any, **more: Any) -> Any:
            threads.add(threading.current_thread().name)
            return host.generate(*args, **more)

    jobs = [job(p) for p in PROMPTS]
    with engine(*jobs, on=Watched()):
        for j in jobs:
            j.done.result(60)
    assert threads == {"palimpsest-engine"}


class Small:
    """The host on a device with room for so many rows, which fails beyond it as torch does."""

    trusted = True
    rewriter_off: Mapping[str, Any] = {}

    def __init__(self, host: Any, rows: int) -> None:
        self.host, self.rows, self.asked = host, rows, list[int]()

    def generate(self, prompts: Any, **more: Any) -> Any:
        self.asked.append(len(prompts))
        if len(prompts) > self.rows:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: not enough memory")
        return self.host.generate(prompts, **more)


def test_a_batch_that_does_not_fit_into_memory_runs_in_halves_and_later_ones_begin_smaller(
    engine: Any, host: Any, stock: Any
) -> None:
    small, jobs = Small(host, 2), [job(p) for p in PROMPTS]
    with engine(*jobs, on=small) as running:
        made = [j.done.result(60) for j in jobs]
        again = [job(p) for p in PROMPTS]
        running.queue.put(again)
        assert [j.done.result(60).report.shape.batch for j in again] == [2, 2, 2, 2]
    assert small.asked == [4, 2, 2, 2, 2]
    for k in (0, 2):
        for m, want in zip(made[k : k + 2], stock(*PROMPTS[k : k + 2]), strict=True):
            assert np.array_equal(pixels(m.image), want)


def test_a_picture_that_does_not_fit_at_all_is_told_so_and_the_engine_goes_on(engine: Any, host: Any) -> None:
    small, alone = Small(host, 0), job()
    with engine(alone, on=small) as running:
        with pytest.raises(Unavailable) as error:
            alone.done.result(60)
        assert error.value.code == "out_of_memory"
        small.rows = 8
        running.queue.put([after := job()])
        after.done.result(60)


def test_an_error_after_which_the_device_is_lost_ends_the_engine_and_answers_everybody(engine: Any) -> None:
    class Lost:
        """A device after an illegal access."""

        trusted = True
        rewriter_off: Mapping[str, Any] = {}

        def generate(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    jobs = [job(), job(key=BatchKey(32, 32, 4, 3.0))]
    with engine(*jobs, on=Lost()) as running:
        for j in jobs:
            with pytest.raises(Unavailable):
                j.done.result(60)
        running.join(30)
        assert not running.alive(within=60)


def test_steps_of_a_picture_are_told_as_they_are_made(engine: Any) -> None:
    heard: list[tuple[int, int]] = []
    one = job()
    one.on_step = lambda step, steps: heard.append((step, steps))
    with engine(one):
        one.done.result(60)
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_broken_picture_is_an_error_of_its_own_and_its_neighbours_are_the_stock_pictures(
    engine: Any, host: Any, stock: Any, recorder: Any
) -> None:
    """The decoder gives NaN for one prompt's latents only; a plan of that row does not make it a fallback."""
    from service.errors import PictureBroken
    from steering.attach import after

    counted = recorder.series("broken_pictures_total", "decoded")
    before = counted._value.get()
    jobs = [job(p, plan=plan_of(host, PROMPTS[1]) if k == 2 else None) for k, p in enumerate(PROMPTS)]
    latents: list[Any] = []
    with after(host.pipe.vae.post_quant_conv, lambda m, a, out: latents.append(a[0].clone())):
        host.generate([jobs[2].prompt], plans=[jobs[2].plan], seeds=[1], **STOCK)

    def damage(module: Any, arguments: Any, out: Any) -> Any:
        near = (arguments[0] - latents[0]).abs().flatten(1).amax(1) < 1e-3
        assert near.sum() <= 1
        return out.masked_fill(near.view(-1, 1, 1, 1), float("nan"))

    with after(host.pipe.vae.post_quant_conv, damage), engine(*jobs):
        made = [j.done.result(60) for k, j in enumerate(jobs) if k != 2]
        with pytest.raises(PictureBroken) as error:
            jobs[2].done.result(60)
    assert (error.value.status, error.value.code) == (500, "picture_broken")
    assert counted._value.get() == before + 1
    for m, prompt in zip(made, (p for k, p in enumerate(PROMPTS) if k != 2), strict=True):
        assert np.array_equal(pixels(m.image), stock(prompt)[0])
