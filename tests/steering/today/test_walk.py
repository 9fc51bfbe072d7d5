"""The page of all pipelines holds what a walk over the installed diffusers finds: no class is missing, and none is said
to be steered by a record that has none, or whose laws no test tries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.steering import zoo
from tests.steering.today import zoo as today
from tests.steering.walk import Outcome, classes, outcome_of, render

PAGE = Path(__file__).resolve().parents[3] / "docs" / "pipelines.md"
ROW = re.compile(r"^\| `(\w+)` \| (\S+(?: \w+)?) \| (.*) \|$", re.MULTILINE)


def rows() -> dict[str, tuple[str, str]]:
    return {name: (how.strip("*"), detail) for name, how, detail in ROW.findall(PAGE.read_text("utf-8"))}


def test_every_class_that_draws_from_a_prompt_is_on_the_page_and_no_other() -> None:
    from steering.families.table import FAMILIES

    described = {pipeline for family in FAMILIES for pipeline in family.pipelines}
    assert set(rows()) - described <= set(classes())
    assert set(rows()) >= set(classes()) | described


def test_a_class_is_said_to_have_a_record_where_it_has_one() -> None:
    from steering.families.table import FAMILIES

    described = {pipeline: family.name for family in FAMILIES for pipeline in family.pipelines}
    said = {name: detail for name, (how, detail) in rows().items() if how == "record"}
    assert said == {name: family for name, family in described.items() if name in rows()}
    assert len(set(said.values())) >= 30


def test_the_laws_are_tried_on_every_class_with_a_record() -> None:
    from steering.families.table import FAMILIES

    tried = {type(zoo.build(n)).__name__ for n in zoo.NAMES} | {type(today.build(n)).__name__ for n in today.NAMES}
    assert {pipeline for family in FAMILIES for pipeline in family.pipelines} - tried == set()


def test_what_is_not_steered_has_a_reason() -> None:
    for name, (how, detail) in rows().items():
        assert how in ("record", "probing", "refused", "not tried"), name
        assert len(detail) > 2, name
        assert "Error:" not in detail, f"{name}: an internal error is no reason"


def test_an_outcome_is_what_a_host_finds() -> None:
    import diffusers

    wan = today.build("wan")
    assert outcome_of(type(wan), {"WanPipeline": wan}) == Outcome("WanPipeline", "record", "Wan", 4)
    told = outcome_of(diffusers.StableDiffusionControlNetPipeline, {})
    assert (told.how, "ControlNet" in told.detail) == ("refused", True)
    assert outcome_of(diffusers.MochiPipeline, {}).how == "untried"
    assert "| `MochiPipeline` | not tried |" in render([outcome_of(diffusers.MochiPipeline, {})])


@pytest.mark.parametrize("name", ["StableDiffusionXLImg2ImgPipeline", "FluxFillPipeline", "AudioLDM2Pipeline"])
def test_what_starts_from_a_picture_or_makes_sound_is_no_such_class(name: str) -> None:
    assert name not in classes()
