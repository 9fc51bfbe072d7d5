"""Prompts that the pipeline rewrites: what it wrote is judged as a prompt, before anything is drawn.

| break | red |
|---|---|
| draw what was written without a second decision | what is written is refused, and is steered |
| judge the prompt again in place of what was written | what is written is refused, and is steered |
| let the rewriter go on after the decision | a harmless rewriting is drawn as it was written |
| rewrite a prompt that is steered | a steered prompt is drawn in its own words |
| draw what a rewriter wrote that cannot be switched off | a rewriter without a switch makes no picture |
| leave the setting out where the worker is put together | the setting decides |
| tell a row what stands for its neighbour | each of a batch is told what stands for its own prompt |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.engine.closed_loop import ClosedLoop
from service.engine.outcome import Outcome
from service.engine.queue import BatchKey, Job, Queue, Rewritten
from service.engine.thread import Engine
from service.errors import TextUnjudged
from service.order import Order
from service.reading.pools import DetectorPools
from tests.rewriting import rewrite_prompts
from tests.service.engine.scripted import BENIGN, PROMPT, Script, pixels

WRITTEN = "a blue ring on a hill"


class Writer:
    """Writes `says` in place of every prompt, or the prompt itself and ` too`."""

    def __init__(self) -> None:
        self.says: str | None = WRITTEN
        self.asked = 0

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        if self.says is None:
            return torch.cat([given, torch.tensor([[b + 3 for b in b" too"]])], 1)
        return torch.tensor([[b + 3 for b in self.says.encode()]])


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def host(model: Path, writer: Writer) -> Any:
    from steering import Host

    return rewrite_prompts(Host.load(model, self_test=False), writer)


@contextmanager
def engine(host: Any, queue: Queue, recorder: Any, **how: Any) -> Iterator[Engine]:
    running = Engine(lambda: host, queue, recorder, **how)
    running.start()
    try:
        yield running
    finally:
        running.stop(timeout=30)


@pytest.fixture
def ask(host: Any, packs: Path, policy: Path, recorder: Any) -> Callable[..., Outcome]:
    """Runs one request through the loop on a host that rewrites."""
    from detectors.text import sense, without_lettering
    from policies import Loader
    from steering import Pack

    pack = Pack.load(packs / "lettering.safetensors", host=host)

    def go(prompt: str, *, rewrites: bool = True, n: int = 1) -> Outcome:
        queue = Queue(64, recorder)
        readers = DetectorPools(sense, Script(None), recorder, threads=1, seconds=30.0)
        loop = ClosedLoop(
            queue,
            readers,
            {"lettering": pack},
            recorder,
            without_lettering=without_lettering,
            deadline_seconds=60.0,
            rewrites=rewrites,
        )
        order = Order(prompt, "", "tiny", n=n, width=64, height=64, steps=4, guidance=3.0, seed=3)
        with engine(host, queue, recorder, batching="solo", max_batch=1):
            return asyncio.run(loop.answer(order, Loader(sense).load(policy), "request-1"))

    return go


def drawn(host: Any, prompt: str, plan: Any = None, seed: int = 3) -> np.ndarray:
    call = {"height": 64, "width": 64, "num_inference_steps": 4, "guidance_scale": 3.0, "use_pe": False}
    return pixels(host.generate([prompt], plans=[plan], seeds=[seed], **call).images[0])


def test_a_harmless_rewriting_is_drawn_as_it_was_written(ask: Any, host: Any, writer: Writer, recorder: Any) -> None:
    got = ask(BENIGN, n=2)
    assert (got.verdict, got.refused, writer.asked) == ("allow", None, 2)
    for k, picture in enumerate(got.pictures):
        assert np.array_equal(pixels(picture.image), drawn(host, WRITTEN, seed=3 + k))
        assert (picture.how, picture.revised) == ("untouched", WRITTEN), "by the rules"
    assert recorder.series("rewritten_prompts_total", "accepted")._value.get() == 2
    assert not np.array_equal(drawn(host, WRITTEN), drawn(host, BENIGN))


def test_the_caller_is_told_what_was_written_and_drawn_at_once_by_link_and_in_a_stream(
    serve: Callable[..., Any], hosts: Any, host: Any, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "load", lambda settings: host)
    client = serve(picture_urls="data")

    def told(prompt: str, **more: Any) -> Any:
        return client.post("/v1/images/generations", json={"prompt": prompt, "num_inference_steps": 2, **more})

    for form in ("b64_json", "url"):
        (item,) = told(BENIGN, response_format=form).json()["data"]
        assert (list(item), item["revised_prompt"]) == ([form, "revised_prompt"], WRITTEN)
    assert f'"revised_prompt":"{WRITTEN}"' in told(BENIGN, stream=True).text
    assert list(told(PROMPT).json()["data"][0]) == ["b64_json"], "a steered prompt is drawn in its own words"


def test_a_held_picture_is_released_with_what_was_written(
    holding: Callable[..., Any], hosts: Any, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "load", lambda settings: host)
    client = holding()
    asked = {"prompt": "an election", "num_inference_steps": 2, "n": 2}
    case_id = client.post("/v1/images/generations", json=asked).json()["error"]["review"]["id"]
    decided = client.post(f"/v1/reviews/{case_id}", json={"decision": "release"})
    assert decided.status_code == 200, decided.text
    items = client.get(f"/v1/reviews/{case_id}").json()["answer"]["data"]
    assert [(list(item), item["revised_prompt"]) for item in items] == [(["b64_json", "revised_prompt"], WRITTEN)] * 2


def test_what_is_written_is_refused_as_a_prompt_is(ask: Any, writer: Writer, recorder: Any) -> None:
    writer.says = "something forbidden on a hill"
    got = ask(BENIGN)
    assert (got.verdict, got.refused, got.pictures) == ("block", "prompt", ())
    assert recorder.series("rewritten_prompts_total", "refused")._value.get() == 1


def test_what_is_written_is_steered_as_a_prompt_is(ask: Any, host: Any, writer: Writer) -> None:
    writer.says = PROMPT
    got = ask(BENIGN)
    (picture,) = got.pictures
    assert (got.verdict, picture.how, picture.sites, picture.revised) == ("steer", "steered", 2, PROMPT)
    assert len(picture.made.report.fired) == 2
    assert not np.array_equal(pixels(picture.image), drawn(host, PROMPT))


def test_a_steered_prompt_is_drawn_in_its_own_words(ask: Any, writer: Writer) -> None:
    got = ask(PROMPT)
    assert (got.verdict, got.pictures[0].how, writer.asked) == ("steer", "steered", 0)


def test_a_rewriter_that_is_refused_is_switched_off(ask: Any, host: Any, writer: Writer) -> None:
    got = ask(BENIGN, rewrites=False)
    assert (got.verdict, writer.asked) == ("allow", 0)
    assert np.array_equal(pixels(got.pictures[0].image), drawn(host, BENIGN))


def test_a_rewriter_without_a_switch_makes_no_picture(
    ask: Any, host: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(host), "rewriter_off", {})
    with pytest.raises(TextUnjudged):
        ask(BENIGN, rewrites=False)
    with pytest.raises(TextUnjudged):
        ask(PROMPT)
    assert recorder.series("rewritten_prompts_total", "unjudged")._value.get() == 2


@pytest.mark.parametrize("setting", ["judge", "refuse"])
def test_the_setting_decides(setting: str, settings: Any, recorder: Any, writer: Writer) -> None:
    from service.engine.host import load_host
    from service.worker.runtime import Runtime

    runtime = Runtime(settings(rewriters=setting), recorder, load=lambda s: rewrite_prompts(load_host(s), writer))
    runtime.start()
    try:
        runtime.wait()
        order = Order(BENIGN, "", "tiny", n=1, width=64, height=64, steps=4, guidance=3.0, seed=3)
        got = asyncio.run(runtime.ready().loop.answer(order, runtime.ready().store.snapshot, "request-1"))
    finally:
        runtime.stop()
    assert (got.verdict, writer.asked) == ("allow", 1 if setting == "judge" else 0)


def test_each_of_a_batch_is_told_what_stands_for_its_own_prompt(host: Any, recorder: Any, writer: Writer) -> None:
    writer.says = None
    queue = Queue(64, recorder)
    key = BatchKey(64, 64, 4, 3.0, rewrites=True)
    jobs = [Job(p, None, 1, None, key, time.monotonic() + 60) for p in ("a red star", BENIGN)]
    queue.put(jobs)
    with engine(host, queue, recorder, batching="fixed", max_batch=4):
        for job in jobs:
            with pytest.raises(Rewritten) as told:
                job.done.result(60)
            assert told.value.text == f"{job.prompt} too"
