"""The curve of doses, the strength that `auto` means, and the way from a pack that swaps to one that edits.

| law | mutation that turned it red |
|---|---|
| the smallest dose that does | the largest taken |
| none does: why | drift not looked at |
| erasure counts only pictures that showed the concept | all counted |
| an edit's drift is of prompts without the concept | taken on the concept's own |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from localization.calibrate import Setup, Way, calibrate, choose, drift_of, measure_dose
from localization.edit_packs import fit_pack, with_edit
from localization.fit import FitRecipe
from steering import BadPlan, CalibrationPoint, Choice, Edit, Host, Pack, Plan, Swap, Window
from tests.tiny import save_pixart

FAST = {"num_inference_steps": 2}


@dataclass(frozen=True)
class Pair:
    prompt: str
    donor: str
    seed: int


PAIRS = [Pair(f"pip on {c}", f"a thing on {c}", n) for n, c in enumerate(("red", "blue", "green"))]
BENIGN = [Pair(f"a star on {c}", "", n) for n, c in enumerate(("red", "blue"))]


class Changed:
    """A judge for whom a picture shows the concept as long as it looks like the first that it saw in its place."""

    def __init__(self, threshold: float, blind: int = 0) -> None:
        self.threshold, self.blind = threshold, blind
        self.first: list[Image.Image] = []

    def __call__(self, images: Sequence[Image.Image]) -> list[bool]:
        if not self.first:
            self.first = list(images)[self.blind :]
            return [i >= self.blind for i in range(len(images))]
        return [drift_of(a, b) < self.threshold for a, b in zip(self.first, images, strict=True)]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host.load(save_pixart(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture(scope="module")
def pack(host: Host) -> Pack:
    names = tuple(s.name for s in host.sites)
    return Pack(
        concept="character/pip",
        host=host.fingerprint,
        sites=names[:2],
        wider=names[:3],
        site_names=names,
        scores=torch.zeros(len(names), 1),
        bins=(Window(),),
        choice=Choice(2, 0.9, 0.8, 1.0),
        phrases=("pip",),
        neutral="a thing",
        evidence={"kind": "measured"},
    )


def point(strength: float, erasure: float, drift: float) -> CalibrationPoint:
    return CalibrationPoint(strength, erasure, drift, n=10)


def test_auto_is_the_smallest_dose_that_erases_enough_with_drift_in_bounds() -> None:
    points = [point(2, 1.0, 0.02), point(0.5, 0.5, 0.0), point(1, 0.97, 0.01), point(3, 1.0, 0.5)]
    curve = choose(points, target=0.95, drift=0.03)
    assert curve.strength == 1
    assert [p.strength for p in curve.points] == [0.5, 1, 2, 3]
    assert curve.why == "1 is the smallest dose with erasure of at least 0.95 with drift of at most 0.03"
    assert choose(points, target=1.0, drift=0.03).strength == 2


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([point(1, 0.5, 0.0), point(2, 0.7, 0.9)], "no dose erases enough.*most is dose 2: erased 0.700"),
        ([point(1, 0.5, 0.0), point(2, 1.0, 0.9)], "erasure costs too much drift.*first is dose 2"),
    ],
)
def test_where_no_dose_does_the_curve_says_why(points: Any, why: str) -> None:
    import re

    curve = choose(points, target=0.95, drift=0.03)
    assert curve.strength is None
    assert re.match(why, curve.why)


def test_a_curve_is_measured_on_pictures_that_showed_the_concept(host: Host, pack: Pack) -> None:
    curve = calibrate(host, pack, Setup(PAIRS, (), Changed(1e-9, blind=1), call=FAST), doses=(0.01, 1.0))
    assert [p.n for p in curve.points] == [2, 2]
    assert curve.points[1].erasure == 1.0
    assert 0 < curve.points[0].drift < curve.points[1].drift  # a swap's is on its own pictures
    assert curve.points[0].moved is None
    with pytest.raises(BadPlan, match="none of 3 plain pictures shows `character/pip`"):
        calibrate(host, pack, Setup(PAIRS, (), lambda images: [False] * len(images), call=FAST))


def test_an_edits_drift_is_of_pictures_without_the_concept(host: Host, pack: Pack) -> None:
    edited = with_edit(host, pack, PAIRS, recipe=FitRecipe("uce", call=FAST))
    plans = [edited.plan(strength=2.0)] * 2
    prompts = [b.prompt for b in BENIGN]
    images = [host.generate(prompts, plans=p, seeds=[0, 1], **FAST).images for p in ([None] * 2, plans)]
    want = sum(drift_of(a, b) for a, b in zip(*images, strict=True)) / 2
    look = Changed(0.5)
    setup = Setup(PAIRS, BENIGN, look, lambda images: [{"same": True, "size": i.size} for i in images], call=FAST)
    got = measure_dose(host, edited, setup, 2.0)
    assert got.drift == pytest.approx(want)
    assert (got.drift_n, got.kept, got.kept_n) == (2, 1.0, 6)
    assert got.moved is not None
    assert got.moved > 0
    with pytest.raises(BadPlan, match="drift is measured on prompts without the concept"):
        measure_dose(host, edited, Setup(PAIRS, (), look, call=FAST), 1.0)


def test_fit_calibrate_verify_makes_a_pack_that_says_what_it_does(host: Host, pack: Pack, tmp_path: Path) -> None:
    fitted = fit_pack(
        host,
        pack,
        PAIRS,
        Setup(PAIRS, BENIGN, Changed(1e-9), target=0.9, drift=1.0, call=FAST),
        recipe=FitRecipe("leace", call=FAST),
        check=Setup(PAIRS, BENIGN, Changed(1e-9), call=FAST),
        doses=(1.0, 2.0),
    )
    back = Pack.load(fitted.pack.save(tmp_path / "pip.safetensors"), host=host)
    assert back.edits
    assert back.strength == 1.0
    assert set(back.operators) == set(pack.wider)
    assert back.calibration == fitted.curve.points
    assert back.evidence["fit"]["method"] == "leace"
    assert back.evidence["calibration"]["verified"]["erasure"] == fitted.verified.erasure == 1.0
    out = host.generate(["pip on red"], plans=[back.plan()], seeds=[0], **FAST)
    assert set(out.report[0].fired) == set(pack.sites)
    never = fit_pack(
        host, pack, PAIRS, Setup(PAIRS, BENIGN, Changed(2.0), call=FAST), recipe=FitRecipe(call=FAST), doses=(1.0,)
    )
    assert never.pack.strength is None
    assert never.verified is None
    assert "no dose erases enough" in never.pack.evidence["calibration"]["answer"]


def test_any_way_to_steer_can_be_calibrated(host: Host) -> None:
    names = tuple(s.name for s in host.sites)
    way = Way("x", False, lambda a, dose: Plan(Swap(a.donor, sites=names, pooled="keep", strength=dose)))
    assert calibrate(host, way, Setup(PAIRS, (), Changed(1e-9), drift=1.0, call=FAST), doses=(1.0,)).strength == 1.0
    assert all(isinstance(i, Edit | Swap) for i in way.plan(PAIRS[0], 1.0).interventions)
