"""The prompts that sentinels are fitted and judged on share no wording, and the table counts what it says."""

from __future__ import annotations

import random

import pytest
import torch

from evaluation.prompts.sentinel_cases import KINDS, misspelt, sentinel_cases
from evaluation.tables.sentinel import sentinel_row
from localization.sentinels import SentinelSamples
from steering import Sentinel, Window
from steering.sentinel import EncodedText

CONCEPTS = ("character/pip", "style/marlo", "person/ada-brook", "place/beach", "lettering")


def test_no_prompt_and_no_wording_is_in_both_splits() -> None:
    fit = sentinel_cases(CONCEPTS, "localization", each=24, innocent=60)
    held = sentinel_cases(CONCEPTS, "evaluation", each=24, innocent=60)
    assert fit == sentinel_cases(CONCEPTS, "localization", each=24, innocent=60)
    assert len({c.prompt for c in fit}) == len(fit) >= 170
    assert {c.kind for c in fit} == {c.kind for c in held} == set(KINDS)
    assert not {c.prompt for c in fit} & {c.prompt for c in held}
    assert not {c.wording for c in fit} & {c.wording for c in held}
    assert not {c.seed for c in fit} & {c.seed for c in held}
    for case in (*fit, *held):
        if case.kind in ("misspelt", "described", "near") and case.about not in (None, "lettering"):
            assert case.wording in case.prompt


def test_a_misspelling_is_never_the_name_itself() -> None:
    rng = random.Random(0)
    found = {misspelt("pip", "localization", rng) for _ in range(300)}
    assert "pip" not in found
    assert len(found) > 60
    assert not found & {misspelt("pip", "evaluation", rng) for _ in range(300)}


def test_a_concept_that_the_town_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="concept must be one of"):
        sentinel_cases(["animal/zebra"], "localization", each=8, innocent=1)


def test_a_picture_on_which_judges_differ_counts_in_neither_column() -> None:
    cases = sentinel_cases(["character/pip"], "evaluation", each=16, innocent=16)[:6]
    sentinel = Sentinel(
        "character/pip", "0" * 64, torch.zeros(1, 2), torch.ones(1, 2), 0.0, {"a": torch.ones(1)}, 0.0, Window(0, 1)
    )
    levels = (3.0, 2.0, 1.0, -1.0, -2.0, -3.0)
    samples = SentinelSamples(
        tuple(cases),
        tuple(EncodedText(torch.full((4, 2), v)) for v in levels),
        {"a": torch.tensor(levels).reshape(6, 1, 1)},
        tuple({"character/pip": v} for v in (1.0, 1.0, 0.0, 1.0, 0.0, 0.0)),
    )
    second = [{"character/pip": v} for v in (1.0, 0.0, 1.0, 1.0, 0.0, 0.0)]
    row = sentinel_row(sentinel, samples, second, [set()] * 6)
    assert (row["pictures"], row["judges differ"]) == (6, 2)
    assert row["recall"]["all"]["n"] == 2
    assert row["recall"]["all"]["path"] == row["recall"]["all"]["text"] == 1
    assert row["recall"]["all"]["text rules"] == 0
    assert row["false alarms by path"]["n"] == 2
    assert row["AUROC"]["path"] == 1.0
    assert row["AUROC by the first judge, all pictures"]["path"] == pytest.approx(8 / 9, abs=1e-4)
    assert row["recall of the first judge, of what the second sees"]["hits"] == 2
