"""Sentinels are fitted from what pictures show, on halves that share no wording."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from localization import LocalizationError
from localization.probes import Texts, area_under_curve, fit_path, fit_text, threshold
from localization.sentinels import SentinelRecipe, fit_sentinel, measure_repair, sample_texts
from steering import Choice, Host, Pack, Window
from tests.tiny import save_pixart


def test_a_text_probe_finds_one_token_among_many_and_ignores_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    sign = torch.randn(24, generator=generator)
    shows = torch.arange(240) % 3 == 0
    texts = [torch.randn(5 + i % 9, 24, generator=generator) for i in range(240)]
    for i in range(0, 240, 3):
        texts[i][i % len(texts[i])] += 1.5 * sign
    seen = Texts.of(texts[:160])
    taught = torch.where(shows[:160], 3.0, -3.0)
    probe = fit_text(seen, shows[:160].float(), taught)
    again = fit_text(seen, shows[:160].float(), taught)
    assert torch.equal(probe.keys, again.keys)
    held = probe.logits(Texts.of(texts[160:]))
    assert area_under_curve(held, shows[160:]) > 0.95
    wide = Texts.of([*texts[160:], torch.randn(40, 24)])
    wide.rows[~wide.shown] = 1000.0
    assert torch.allclose(probe.logits(wide)[:-1], held, atol=1e-4)


def test_a_path_probe_tells_a_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    y, e = torch.randn(300, 12, generator=generator), torch.randn(12, generator=generator)
    shows = y @ e > 1.0
    probe = fit_path(y[:200], shows[:200].float(), strength=1.0)
    assert area_under_curve(probe.logits(y[200:]), shows[200:]) > 0.97


@pytest.mark.parametrize("rate", [0.0, 0.005, 0.1])
@pytest.mark.parametrize("n", [3, 199, 400, 1000])
def test_a_threshold_lets_through_what_was_asked_for_and_no_more(rate: float, n: int) -> None:
    innocent = torch.randn(n, generator=torch.Generator().manual_seed(n))
    limit = threshold(innocent, rate)
    assert int((innocent.double() >= limit).sum()) == math.floor(rate * n)


def test_auroc_is_a_share_of_pairs_and_half_for_ties() -> None:
    shows = torch.tensor([True, True, False, False])
    assert area_under_curve(torch.tensor([3.0, 1.0, 2.0, 0.0]), shows) == 0.75
    assert area_under_curve(torch.zeros(4), shows) == 0.5
    assert math.isnan(area_under_curve(torch.zeros(2), shows[:2]))


@dataclass(frozen=True, slots=True)
class Case:
    prompt: str
    seed: int
    kind: str
    about: str | None
    wording: str


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host.load(save_pixart(tmp_path_factory.mktemp("model")), self_test=False)


def pack_for(host: Host) -> Pack:
    names = tuple(s.name for s in host.sites)
    return Pack(
        "animal/cat",
        host.fingerprint,
        names[1:3],
        names[:3],
        names,
        torch.ones(len(names), 1),
        (Window(0, 1),),
        Choice(2, 0.9, 0.8, 1.0),
        phrases=("cat",),
        neutral="dog",
    )


def cases() -> list[Case]:
    words = [f"{a}{b}" for a in "bcdfg" for b in "aeiou"]
    cats = [Case(f"a cat {w}", i, "plain", "animal/cat", w) for i, w in enumerate(words)]
    return [*cats, *(Case(f"a hut {w}", 50 + i, "innocent", None, w) for i, w in enumerate(words))]


def by_name(asked: Any, images: Any) -> list[dict[str, float]]:
    assert len(asked) == len(images)
    return [{"animal/cat": float("cat" in c.prompt)} for c in asked]


def test_a_sentinel_is_fitted_on_a_tiny_host_and_its_scores_are_what_generate_reports(tiny: Host) -> None:
    recipe = SentinelRecipe(false_alarms=0.05, windows=(0.25,), passes=60, call={"num_inference_steps": 4})
    pack = pack_for(tiny)
    samples = sample_texts(tiny, cases(), pack.wider, by_name, recipe=recipe)
    found, again = (fit_sentinel(tiny, pack, samples, recipe) for _ in range(2))
    assert torch.equal(found.keys, again.keys)
    assert found.evidence == again.evidence
    assert found.evidence["auroc"]["path"] > 0.75
    assert found.evidence["prompts"] == 50
    assert found.evidence["false alarms"]["path"]["n"] == 25
    assert found.evidence["recall by text, path, either, of"]["plain"][3] == 25
    assert found.sites in (pack.sites, pack.wider)
    asked = cases()[20:30]
    out = tiny.generate(
        [c.prompt for c in asked], plans=[None] * 10, seeds=[c.seed for c in asked], sentinels=[found], **recipe.call
    )
    told = [r.sentinel["animal/cat"] for r in out.report]
    paths = torch.tensor([r.path for r in told], dtype=torch.float64)
    assert area_under_curve(paths, torch.arange(10) < 5) > 0.75
    read = sum(samples.means[n][20:30, :1].mean(1) @ e.float() for n, e in found.path.items())
    assert torch.allclose((read + found.path_bias).sigmoid().double(), paths, atol=1e-3)
    texts = [found.text_score(samples.texts[i]) for i in range(20, 30)]
    assert [r.text for r in told] == pytest.approx(texts, abs=1e-5)


def test_wordings_of_one_half_are_not_in_the_other_and_too_few_are_refused(tiny: Host) -> None:
    recipe = SentinelRecipe(passes=5, call={"num_inference_steps": 2})
    pack = pack_for(tiny)
    same = [Case(c.prompt, c.seed, c.kind, c.about, "one wording") for c in cases()[:4]]
    samples = sample_texts(tiny, same, pack.wider, by_name, recipe=recipe)
    with pytest.raises(LocalizationError, match="at least 8 prompts in each half whose pictures show it, got"):
        fit_sentinel(tiny, pack, samples, recipe)


def test_a_repair_is_counted_from_the_start_and_from_now_on(tiny: Host) -> None:
    asked = cases()[:4]
    judged = []

    def judge(given: Any, images: Any) -> list[dict[str, float]]:
        judged.append(len(images))
        return [{"animal/cat": 1.0 if len(judged) == 1 and i == 0 else 0.0} for i in range(len(images))]

    repair = measure_repair(
        tiny, pack_for(tiny), asked, pack_for(tiny).donor_for, judge, 0.5, call={"num_inference_steps": 4}
    )
    assert (repair.n, repair.restart, repair.from_now_on) == (4, 1, 0)
    assert repair.better == "from-now-on"
    assert repair.to_json()["seen after"] == {"restart": 1, "from-now-on": 0}
