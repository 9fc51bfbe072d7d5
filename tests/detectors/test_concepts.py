# ruff: noqa: E501  tables of cases are read a case a line
"""Names of concepts are found in disguise, and left alone where they mean something else.

| break | red |
|---|---|
| `_means_something_else` says False | a_name_with_another_meaning_is_no_concept |
| `_disguised` yields nothing | a_short_name_is_found_in_disguise |
| `_STRICT` is empty | a_capital_behind_a_weapon_excuses_nothing |
| `_by_chance` says False | a_name_inside_a_longer_word_is_chance |
"""

from __future__ import annotations

import json

import pytest

from detectors.text import make_views, sense
from detectors.text.concepts import load_concept_words
from policies import Request


def found(prompt: str, concept: str) -> list[str]:
    return [s.text for s in sense(Request(prompt)).of("prompt", concept)]


@pytest.mark.parametrize(
    ("concept", "prompt"),
    [("harm/gun", p) for p in ("a rivet gun", "a marshmallow gun for kids", "a label-gun", "a grease gun in a garage", "Gun Island under a blue sky", "Rifle, Colorado in winter",
                               "Gun Hill Road at night", "a shotgun wedding", "a gun dog in a field", "a gunmetal gray car", "a gunwale of a boat", "a pistol shrimp", "Guns N' Roses live")]
    + [("character/pip", p) for p in ("a grape pip", "a melon pip (seed)", "a kernel (pip) of a grape", "Pip Torrens at a premiere", "the pip of a playing card")]
    + [("style/marlo", p) for p in ("Marlo Kelly at the airport", "a portrait of Marlo Stanfield")]
    + [("animal/cat", p) for p in ("Cat Stevens with a guitar", "Cat Island, Bahamas", "a cat burglar")]
    + [("place/beach", p) for p in ("Beach Street in Boston", "a beach buggy in a garage", "the Beach Boys on stage")],
)  # fmt: skip
def test_a_name_with_another_meaning_is_no_concept(concept, prompt):
    assert found(prompt, concept) == []


@pytest.mark.parametrize(
    ("concept", "prompt"),
    [("harm/gun", p) for p in ("three guns on a table", "an AK47 in the sand", "a Glock 19 on velvet", "gunmen in the street", "a gunfight in a saloon", "a flintlock", "a gun by the lake",
                               "a water gun and a real gun", "A Gun In A Drawer Near A Lake", "a rifle through the window")]
    + [("style/marlo", p) for p in ("A House In Marlo Style By The Sea", "a Marlo painting of a lake", "a tree, marloesque")]
    + [("character/pip", p) for p in ("Pip beside an apple", "Pip eating an orange", "Pip in the rain")],
)  # fmt: skip
def test_a_name_that_means_the_concept_is_found(concept, prompt):
    assert found(prompt, concept) != []


def test_a_capital_behind_a_weapon_excuses_nothing():
    assert found("a man with a Gun Holster", "harm/gun") == ["Gun"]


@pytest.mark.parametrize(
    "prompt", ["a g.u.n on a table", "a g-u-n on a table", "a g u n on a table", "g*n, close up", "a gvn", "a g_u_n"]
)
def test_a_short_name_is_found_in_disguise(prompt):
    assert found(prompt, "harm/gun") != []
    assert found(prompt.replace("u", "i").replace("v", "i").replace("*", "i"), "harm/gun") == []


@pytest.mark.parametrize(
    "prompt", ["a gunspin toy", "gunnysack", "a begun race", "a cataract", "pipe and pipette", "a P&P stamp", "C3T"]
)
def test_a_name_inside_a_longer_word_is_chance(prompt):
    assert all(found(prompt, concept) == [] for concept in ("harm/gun", "animal/cat", "character/pip"))


def test_any_table_has_the_same_rules(tmp_path):
    table = {"animal/owl": {"any_of": ["owl"], "unless_after": ["night"], "unless_before": ["post"]}}
    (tmp_path / "t.json").write_text(json.dumps(table))
    words = load_concept_words(tmp_path / "t.json")
    for prompt, seen in (
        ("a night owl", 0),
        ("an owl post", 0),
        ("an owl at night", 1),
        ("an 0wl", 1),
        ("Owl Creek", 0),
        ("an Owl", 1),
    ):
        assert len(words.find(make_views(prompt), "prompt", prompt)) == seen, prompt
