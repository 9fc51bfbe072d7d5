"""Both papers' own procedures on a tiny host: what they score, what they take, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from localization import Aim, LocalExecutor, LocalizationError, Search, Worker, lettering_contrasts, localize
from localization.prompts import control_contrasts
from localization.search.published import as_published_a, as_published_b
from localization.verify import differences, verify
from steering import CalibrationPoint, Host
from steering.packs.pack import read_header
from tests.tiny import save_pixart

PAIRS = lettering_contrasts(2, seed=1)
STEPS = 4


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host.load(save_pixart(tmp_path_factory.mktemp("tiny") / "model"), self_test=False)


def test_paper_b_scores_with_the_bias_and_ours_without(host: Host) -> None:
    """A loud bias at one site: theirs is taken in, ours is not."""
    bias = host.pipe.transformer.transformer_blocks[1].attn2.to_out[0].bias
    kept = bias.detach().clone()
    before = as_published_b(host, LocalExecutor(Worker(host)), PAIRS, steps=STEPS)
    (call,) = host.capture(PAIRS[0].prompt, seed=1, at=(0.25,))
    ours = host.contributions(call, PAIRS[0].donor)
    with torch.no_grad():
        bias.add_(50.0)
    try:
        fooled = as_published_b(host, LocalExecutor(Worker(host)), PAIRS, steps=STEPS)
        assert fooled.top([s.name for s in host.sites], 1) == (host.sites[1].name,)
        assert fooled.scores[1] > 10 * before.scores[1]
        assert float((host.contributions(call, PAIRS[0].donor) - ours)[1].abs()) < 1e-4 * float(ours[1])
    finally:
        with torch.no_grad():
            bias.copy_(kept)
    assert before.chosen is None
    assert before.rows == len(PAIRS) * STEPS * 2  # their measure rides on the run, both halves of it


def test_paper_a_takes_the_best_site_and_neighbours_until_it_is_as_all(host: Host) -> None:
    """A witness by hand: one picture is repaired by the third site alone, both by any two sites."""
    names = [s.name for s in host.sites]
    worker, now = Worker(host), []
    original = worker.answer

    def see(images: Any, contrasts: Any) -> tuple[list[bool], list[bool]]:
        left = 0 if len(now) > 1 else 1 if now == names[2:3] else 2
        return [i < left for i in range(len(images))], [False] * len(images)

    def answer(cell: Any) -> Any:
        now[:] = cell.treatment.sites
        return original(cell)

    worker.witness, worker.answer = see, answer  # type: ignore[method-assign]
    told = as_published_a(host, LocalExecutor(worker), PAIRS, witness="by hand")
    assert told.scores == (0.0, 0.0, 0.5, 0.0)
    assert told.chosen in ((names[1], names[2]), (names[2], names[3]))
    assert told.rows == (1 + 1 + 4 + 1) * len(PAIRS) * STEPS * 2


def test_the_procedure_of_paper_a_needs_a_witness(host: Host) -> None:
    with pytest.raises(LocalizationError, match="judges pictures"):
        as_published_a(host, LocalExecutor(Worker(host)), PAIRS, witness="")


def test_a_pack_that_claims_too_much_does_not_hold(host: Host, tmp_path: Path) -> None:
    def visible(images: Any, contrasts: Any) -> tuple[list[bool], list[bool]]:
        return [True] * len(images), [False] * len(images)

    outcome = localize(
        host,
        Aim("lettering", target=0.6),
        search=PAIRS,
        check=lettering_contrasts(2, seed=2),
        controls=control_contrasts(2, seed=3),
        how=Search(levels=(0.1, 0.6), steps=3),
        witness=visible,
    )
    fresh = lettering_contrasts(2, seed=5)
    honest = verify(host, outcome.pack, fresh, witness=visible)
    assert (honest.n, honest.shown, honest.gone) == (2, 2, 0)
    assert honest.drift > 0
    boast = replace(outcome.pack, calibration=(CalibrationPoint(1.0, 0.95, 0.01),))
    found = verify(host, boast, fresh, witness=visible)
    assert not found.holds
    assert "erased in 0 of 2, the pack says 0.95" in found.faults
    files = [p.save(tmp_path / f"{n}.safetensors") for n, p in (("one", outcome.pack), ("other", boast))]
    rows = differences(*(read_header(f) for f in files))
    assert [row["what"] for row in rows] == ["calibration"]
