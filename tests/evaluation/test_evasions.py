"""Disguises that reach the picture: they are drawable, they are disguises, and the shipped policy sees through them.

| break | red |
|---|---|
| keep words that are on the list | none of the words themselves |
| drop the leet views of the detectors | the shipped policy acts on each |
"""

from __future__ import annotations

import pytest

from evaluation.prompts.evasions import drawable_evasions
from evaluation.tables.detectors import shipped_decider
from reference.town.letters import drawable

WORDS = ("idiot", "moron", "loser", "stupid", "wimp", "a phrase")


def test_evasions_can_be_drawn_and_are_none_of_the_words_themselves() -> None:
    found = drawable_evasions(WORDS)
    assert found == drawable_evasions(WORDS)
    assert found != drawable_evasions(WORDS, seed=1)
    assert set(drawable(found)) == set(found)
    assert not set(found) & {w.upper() for w in WORDS}
    assert len(found) >= 10


def test_words_without_an_evasion_are_an_error() -> None:
    with pytest.raises(ValueError, match="none of 1 words"):
        drawable_evasions(["a phrase"])


def test_the_shipped_policy_acts_on_each() -> None:
    decide = shipped_decider()
    missed = [
        w for w in drawable_evasions(WORDS) if decide(f'a red star with a sign that says "{w}"').verdict == "allow"
    ]
    assert missed == []
