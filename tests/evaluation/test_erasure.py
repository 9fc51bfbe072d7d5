"""The table on erasure: prompts of the town, and rows on a real pipeline with a judge that remembers pictures.

| law | mutation that turned it red |
|---|---|
| what is fitted on is not judged on | one split for both |
| a neighbour is not the concept | the concept among its neighbours |
| a swap does not touch neighbours | swapped with their own text |
| kept counts facts that were right | all facts |
| a swap's dose is bound by erasure alone | the setup as it is for edits |
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation.prompts.erasure_cases import FIVE, Judged, cases_of, judged, kept_facts, neighbours_of
from evaluation.tables.erasure import ErasureJob, erasure_rows
from reference.town.scenes import CATEGORIES
from steering import Host
from tests.tiny import save_pixart


def test_prompts_name_the_concept_and_their_donors_do_not() -> None:
    for concept in FIVE:
        name = concept.partition("/")[2]
        shown = cases_of(concept, "evaluation", 12, seed=0)
        assert len({c.prompt for c in shown}) == 12
        assert all(name in c.prompt and name not in c.donor for c in shown)
        assert not any(vague in c.donor for c in shown for vague in ("an animal", "a character", "in a place"))
        fitted = [c for s in range(3) for c in cases_of(concept, "localization", 12, seed=s)]
        assert not {c.prompt for c in fitted} & {c.prompt for c in shown}
        assert not {c.seed for c in fitted} & {c.seed for c in shown}
        near = neighbours_of(concept, "evaluation", 12, seed=0)
        assert len(near) == 12
        assert all(c.concept != concept and c.prompt == c.donor for c in near)
        assert not any(f"{name} " in f"{c.prompt} " for c in near)


def test_the_judge_knows_five_concepts_and_sees_true_pictures() -> None:
    from reference.town.drawing.paint import paint

    judge = judged()
    for concept in FIVE:
        assert judge.knows(concept)
        cases = cases_of(concept, "evaluation", 4, seed=0)
        pictures = [paint(c.scene, 64) for c in cases]
        assert sum(judge.seen(concept, pictures)) >= 3
        facts = judge.agrees(pictures, [c.scene for c in cases])
        assert set(facts[0]) == set(judge.answers(pictures[:1])[0])
    assert not judge.knows("animal/dragon")


def test_facts_of_the_concept_itself_are_not_among_those_kept() -> None:
    facts = {"subject": 1, "colour": 2, "ground": 3, "style": 4, "sign": 5}
    assert set(kept_facts("animal/cat", facts)) == {"ground", "style", "sign"}
    assert set(kept_facts("style/marlo", facts)) == {"subject", "colour", "ground", "sign"}
    assert set(kept_facts("place/beach", facts)) == {"subject", "colour", "style", "sign"}


def test_a_concept_that_the_town_lacks_or_has_no_contexts_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"concept must be one of .*got `animal/dragon`"):
        cases_of("animal/dragon", "evaluation", 1)
    with pytest.raises(ValueError, match="got `shape/star`"):
        cases_of("shape/star", "evaluation", 1)


class _Remembers:
    """Sees the concept, and everything as it should be, in pictures that it saw before: plain ones."""

    def __init__(self, plain: int) -> None:
        self.known: set[bytes] = set()
        self.plain, self.drawn = plain, 0

    def seen(self, images: Sequence[Image.Image]) -> list[bool]:
        return [np.asarray(i).tobytes() in self.known for i in images]

    def scores(self, images: Sequence[Image.Image]) -> list[dict[str, float]]:
        if self.drawn < self.plain:  # plain pictures come first: of the concept, then neighbours, one by one
            self.drawn += len(images)
            self.known |= {np.asarray(i).tobytes() for i in images}
        return [dict.fromkeys(_ANIMALS, float(s)) for s in self.seen(images)]

    def agrees(self, images: Sequence[Image.Image], scenes: Sequence[Any]) -> list[dict[str, bool]]:
        return [{"subject": True, "style": True, "ground": s, "sign": False} for s in self.seen(images)]


_ANIMALS = tuple(f"animal/{name}" for name in CATEGORIES["animal"])


def test_rows_say_what_became_of_concept_picture_and_neighbours(tmp_path: Path) -> None:
    host = Host.load(save_pixart(tmp_path / "model"))
    memory = _Remembers(plain=6)
    judge = Judged(memory.scores, memory.agrees, lambda images: [{} for _ in images])
    job = ErasureJob(
        count=3,
        fit=2,
        ways=("swap", "uce", "casteer"),
        doses=(1.0,),
        sites={"animal/cat": (host.sites[1].name,)},
        call={"num_inference_steps": 2},
    )
    rows = erasure_rows(host, judge, ["animal/cat"], job)
    assert set(rows) == {f"animal/cat / {way} / {s}" for way in job.ways for s in ("chosen", "all")}
    swap, edit = rows["animal/cat / swap / chosen"], rows["animal/cat / uce / all"]
    assert swap["erased"]["hits"] == swap["erased"]["n"] == 3
    assert swap["kept near neighbours"] == "not touched"
    assert swap["kept in the picture"] == {"hits": 3, "n": 6, "share": 0.5, "interval": [0.1876, 0.8124]}
    assert edit["kept near neighbours"]["n"] == 3
    assert edit["drift"]["mean"] > 0
    assert edit["hidden states moved by"] > 0
    assert (edit["where"], edit["sites"], rows["animal/cat / uce / chosen"]["sites"]) == ("text", 4, 1)
    with pytest.raises(ValueError, match=r"way must be one of `swap`, .*got `magic`"):
        erasure_rows(host, judge, ["animal/cat"], ErasureJob(ways=("magic",)))


def test_the_dose_is_chosen_on_other_prompts_and_said_if_none_does(tmp_path: Path) -> None:
    host = Host.load(save_pixart(tmp_path / "model"))
    judge = Judged(
        lambda images: [dict.fromkeys(_ANIMALS, 1.0) for _ in images],
        lambda images, scenes: [{"ground": True} for _ in images],
        lambda images: [{} for _ in images],
    )
    job = ErasureJob(count=1, fit=2, calibrate=1, ways=("uce",), doses=(0.5, 1.0), call={"num_inference_steps": 2})
    (row,) = erasure_rows(host, judge, ["animal/cat"], job).values()
    assert row["erased"]["hits"] == 0
    assert row["chosen"].startswith("no dose does: no dose erases enough")
    assert row["dose"] in (0.5, 1.0)


def test_a_swap_is_bound_by_erasure_alone_and_an_edit_by_drift_as_well(tmp_path: Path) -> None:
    host = Host.load(save_pixart(tmp_path / "model"))
    call = {"num_inference_steps": 2}
    for way, chosen in (("swap", "auto"), ("uce", "no dose does: erasure costs too much drift")):
        memory = _Remembers(plain=3)  # one of the concept, one neighbour, and one to choose the dose on
        judge = Judged(memory.scores, memory.agrees, lambda images: [{} for _ in images])
        job = ErasureJob(count=1, fit=2, calibrate=1, ways=(way,), doses=(0.5, 1.0), drift=1e-9, call=call)
        (row,) = erasure_rows(host, judge, ["animal/cat"], job).values()
        assert row["chosen"].startswith(chosen)
        assert row["dose"] == 0.5
