"""Sentinels: they read every row in the forward that is there anyway, and change no picture.

| law | mutation that turned it red |
|---|---|
| a path score is the mean that a trace takes down | uncond rows counted |
| padding does not count | `shown` left out |
| nan is an error | `nan_to_num` in the hook |
| a change of plans does not recompile | directions sized by the number of sentinels |
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from steering import BadPlan, Edit, Host, NotFinite, NotFired, Operator, Plan, Sentinel, UnknownSite, Window
from steering.measure.traces import trace
from steering.sentinel import EncodedText

RED, GREEN, PINK = "a red star", "green ring, sign 42", "pink moon"
PROMPTS = [RED, GREEN, PINK]


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def watcher(host: Any, concept: str = "animal/cat", seed: int = 0, **more: Any) -> Sentinel:
    generator = torch.Generator().manual_seed(seed)
    names = [s.name for s in host.sites]
    return Sentinel(
        **{
            "concept": concept,
            "made_for": host.fingerprint.digest,
            "keys": torch.randn(2, 16, generator=generator),
            "values": torch.randn(2, 16, generator=generator),
            "text_bias": 0.1,
            "path": {n: torch.randn(32, generator=generator) for n in names[1:3]},
            "path_bias": 0.2,
            "window": Window(0, 0.5),
        }
        | more
    )


def logit(score: float) -> float:
    return math.log(score / (1 - score))


def test_pictures_are_the_same_bits_and_every_row_is_read(ask: Any) -> None:
    host = ask.host
    watching = [watcher(host), watcher(host, "harm/gun", 1, window=Window(0, 0.25))]
    q = torch.linalg.qr(torch.randn(32, 2, generator=torch.Generator().manual_seed(0)))[0].T.contiguous()
    for plans in (
        [None, None, None],
        [None, ask.swap("another donor"), None],
        [Plan(Edit(ask.names, Operator(q, q, q * 0, where="output"))), None, ask.swap(RED, strength=0.5)],
    ):
        want = ask.steered(PROMPTS, plans)
        out = host.generate(PROMPTS, plans=plans, seeds=[7] * 3, sentinels=watching, output_type="latent")
        assert torch.equal(out.images, want)
        for report in out.report:
            assert set(report.sentinel) == {"animal/cat", "harm/gun"}
            assert all(0 < v < 1 for r in report.sentinel.values() for v in (r.text, r.path))
        paths = {r.sentinel["animal/cat"].path for r in out.report}
        assert len(paths) == 3
    assert torch.equal(ask.steered([RED], [None]), ask.stock([RED]))


@pytest.mark.parametrize("end", [0.25, 0.5, 1.0])
def test_a_path_score_is_the_mean_that_a_trace_takes_down(ask: Any, end: float) -> None:
    sentinel = watcher(ask.host, window=Window(0, end))
    out = ask.host.generate(PROMPTS, plans=[None] * 3, seeds=[7, 8, 9], sentinels=[sentinel], output_type="latent")
    found = trace(ask.host, PROMPTS, sites=sentinel.sites, seeds=[7, 8, 9], output_type="latent")
    for i, report in enumerate(out.report):
        read = sum(float(found.means[n][i, : int(4 * end)].mean(0) @ d) for n, d in sentinel.path.items())
        assert logit(report.sentinel["animal/cat"].path) == pytest.approx(read + 0.2, abs=1e-4)
        assert report.sentinel["animal/cat"].text == pytest.approx(sentinel.text_score(found.texts[i]))


def test_a_reading_does_not_depend_on_the_other_rows_nor_on_their_plans(ask: Any) -> None:
    sentinel = watcher(ask.host)

    def read(prompts: list[str], plans: list[Any]) -> list[float]:
        out = ask.host.generate(prompts, plans=plans, seeds=[7] * len(prompts), sentinels=[sentinel])
        return [r.sentinel["animal/cat"].path for r in out.report]

    alone = read([RED], [None])[0]
    among = read(PROMPTS, [None, ask.swap(PINK), None])
    assert among[0] == pytest.approx(alone, abs=1e-5)
    assert abs(among[1] - read([GREEN], [None])[0]) > 1e-3  # a steered row is read as its plan draws it
    two = ask.host.generate([RED, PINK], plans=[None] * 2, seeds=[7] * 2, num_images_per_prompt=2, sentinels=[sentinel])
    paths = [r.sentinel["animal/cat"].path for r in two.report]
    assert paths[0] == pytest.approx(alone, abs=1e-5)
    assert paths[2] == pytest.approx(among[2], abs=1e-5)


def test_texts_are_told_once_before_the_denoiser_runs_and_may_end_the_call(ask: Any, pipe: Any) -> None:
    sentinel, told, calls = watcher(ask.host), [], []
    handle = pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(len(told)))
    out = ask.host.generate([RED, PINK], plans=[None] * 2, seeds=[1, 2], sentinels=[sentinel], on_text=told.append)
    assert [set(t) for t in told[0]] == [{"animal/cat"}] * 2
    assert [t["animal/cat"] for t in told[0]] == [r.sentinel["animal/cat"].text for r in out.report]
    assert len(told) == 1
    assert set(calls) == {1}
    calls.clear()

    class Stop(Exception):
        pass

    def stop(scores: Any) -> None:
        raise Stop

    with pytest.raises(Stop):
        ask.host.generate([RED], plans=[None], seeds=[1], sentinels=[sentinel], on_text=stop)
    assert calls == []
    handle.remove()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in pipe.transformer.modules())
    assert torch.equal(ask.steered([RED], [None]), ask.stock([RED]))


def test_padding_does_not_count(ask: Any) -> None:
    sentinel = watcher(ask.host)
    rows = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
    shown = torch.tensor([1, 1, 1, 0, 0, 0]).bool()
    loud = torch.cat([rows[:3], 100 * sentinel.keys[0].repeat(3, 1)])
    want = sentinel.text_score(EncodedText(rows[:3]))
    assert sentinel.text_score(EncodedText(loud, shown)) == want
    assert abs(sentinel.text_score(EncodedText(loud)) - want) > 1e-3
    padded: list[Any] = []
    for prompts in ([RED], [RED, "a much longer one"]):
        ask.host.generate(prompts, plans=[None] * len(prompts), seeds=[1] * len(prompts), sentinels=[sentinel],
                          on_text=lambda s: padded.append(s[0]["animal/cat"]))  # fmt: skip
    assert padded[0] == pytest.approx(padded[1], abs=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_an_error_and_never_nothing(ask: Any, build: Any, value: float) -> None:
    sentinel = watcher(ask.host)
    rows = torch.zeros(3, 16)
    rows[1, 3] = value
    with pytest.raises(NotFinite, match="the encoded text is not finite"):
        sentinel.text_score(EncodedText(rows))
    mine = Host(build(), defaults=ask.host.defaults, name="broken", self_test=False)
    block = mine.pipe.transformer.transformer_blocks[2].attn2

    def spoil(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return output.index_fill(0, torch.tensor([1]), value)

    block.register_forward_hook(spoil)
    with pytest.raises(NotFinite, match=r"transformer_blocks\.[12]\.attn2.*must not be used"):
        mine.generate([RED, PINK], plans=[None] * 2, seeds=[1, 2], sentinels=[watcher(mine)], output_type="latent")


def test_a_sentinel_of_another_host_or_another_shape_is_refused(ask: Any) -> None:
    own = watcher(ask.host)

    def run(*sentinels: Any, **more: Any) -> Any:
        return ask.host.generate([RED], plans=[None], seeds=[1], sentinels=sentinels, **more)

    with pytest.raises(BadPlan, match="made for another host than `tiny`"):
        run(replace(own, made_for="0" * 64))
    with pytest.raises(UnknownSite, match=r"nearest"):
        run(replace(own, path={"transformer_blocks.1.attn": torch.ones(32)}))
    with pytest.raises(BadPlan, match="16 wide at site"):
        run(replace(own, path={ask.names[0]: torch.ones(16)}))
    with pytest.raises(BadPlan, match="reads text 8 wide, got 16"):
        run(replace(own, keys=torch.ones(2, 8), values=torch.ones(2, 8)))
    with pytest.raises(BadPlan, match="`animal/cat` twice"):
        run(own, own)
    with pytest.raises(NotFired, match="no step of this run lies in the window"):
        run(replace(own, window=Window(0.55, 0.6)))
    with pytest.raises(BadPlan, match="must be finite"):
        replace(own, path_bias=math.nan)


def test_plans_change_without_a_recompile_and_sentinels_move_no_bit(ask: Any, build: Any) -> None:
    from torch._dynamo.testing import CompileCounter

    pipe, graphs = build(blocks=3), CompileCounter()
    pipe.transformer.compile(backend=graphs, fullgraph=True)
    mine = type(ask)(Host(pipe, defaults=ask.host.defaults, name="compiled", self_test=False))
    watching = [watcher(mine.host, c, i) for i, c in enumerate(("animal/cat", "harm/gun", "place/beach"))]
    stock = mine.steered(PROMPTS, [None] * 3)
    watched = mine.steered(PROMPTS, [None] * 3, sentinels=watching)
    mine.steered(PROMPTS, [mine.swap(GREEN), None, None], sentinels=watching)
    before = graphs.frame_count
    assert torch.equal(watched, stock)
    for plans in (
        [None, mine.swap(PINK, mine.names[:1]), mine.swap(RED, strength=0.5)],
        [mine.swap(PINK), mine.swap(RED, rows="both"), mine.swap(GREEN, window=Window(0.5, 1))],
        [None, None, None],
    ):
        assert torch.equal(mine.steered(PROMPTS, plans, sentinels=watching), mine.steered(PROMPTS, plans))
    more = [*watching, watcher(mine.host, "lettering", 5)]
    mine.steered(PROMPTS, [mine.swap(GREEN), None, None], sentinels=more)
    assert graphs.frame_count <= before + 1  # the plans of a call that nobody watches: its own graph
    mine.host.close()
