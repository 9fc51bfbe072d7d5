"""The predicate `sentinel`, and `verify` that reads one: pending until the model has encoded; silence is an error."""

from __future__ import annotations

import pytest

from detectors.text import sense
from policies import PolicyError, Request, Signal, Signals, decide, sentinel_of
from tests.policies.helpers import load, policy, rule

NAME = sentinel_of("harm/gun")
WOKEN = "{any: [{concept: {name: harm/gun}}, {sentinel: {name: harm/gun}}]}"
THEN = "[{do: steer, concept: harm/gun, toward: an object}, {do: verify, read: %s, below: 0.5, ladder: [wider]}]"
ASKED = Request("a thing that lies on the table")


def told(stage, score):
    return Signals((Signal(NAME, "sentinel", "1", stage, score),), frozenset({(stage, NAME)}))


def judge(score):
    return Signals((Signal("harm/gun", "judge", "1", "picture", score),), frozenset({("picture", "harm/gun")}))


@pytest.fixture
def snapshot(tmp_path):
    return load(tmp_path, policy(rule(when=WOKEN, then=THEN % "harm/gun")))


def test_before_the_model_has_encoded_nothing_is_known_and_the_sentinel_is_asked(snapshot):
    first = decide(ASKED, sense(ASKED), snapshot)
    assert (first.verdict, first.rules, first.errors) == ("allow", (), ())
    assert first.reads == {NAME, "harm/gun"}
    assert snapshot.sentinels == {"harm/gun"}


def test_text_that_could_write_the_concept_wakes_the_rule_before_the_first_step(snapshot):
    for score, verdict in ((0.49, "allow"), (0.5, "steer")):
        got = decide(ASKED, sense(ASKED) + told("prompt", score), snapshot)
        assert got.verdict == verdict
    assert "the encoded prompt tells `harm/gun` with a score of 0.50" in got.reasons[0].text


def test_sites_that_wrote_it_make_the_picture_again(snapshot):
    signals = sense(ASKED) + told("prompt", 0.1)
    first = decide(ASKED, signals, snapshot)
    seen = told("picture", 0.8) + judge(0.1)
    got = decide(ASKED, signals + seen, snapshot, stage="picture", before=first)
    assert (got.verdict, got.ladder.rungs) == ("block", ("steer", "wider"))
    again = decide(ASKED, signals + told("picture", 0.1) + judge(0.1), snapshot, stage="picture", before=got)
    assert (again.verdict, again.violations) == ("steer", ())


def test_a_silent_sentinel_is_a_failure(snapshot):
    first = decide(ASKED, sense(ASKED), snapshot)
    got = decide(ASKED, sense(ASKED) + judge(0.1), snapshot, stage="picture", before=first)
    assert (got.verdict, [e.rule for e in got.errors]) == ("block", ["r"])


def test_a_rule_without_a_classifier_verifies_by_the_sentinel(tmp_path):
    when = "{prompt: {any_of: [pistol]}}"
    snapshot = load(tmp_path, policy(rule(when=when, then=THEN % f'"{NAME}"')))
    first = decide(ASKED, sense(ASKED), snapshot)
    assert first.reads == {NAME}
    got = decide(ASKED, sense(ASKED) + told("picture", 0.7), snapshot, stage="picture", before=first)
    assert (got.verdict, got.ladder.rungs) == ("block", ("steer", "wider"))


def test_files_test_it_without_a_model(tmp_path):
    tests = """
tests:
  - {name: early, given: {prompt: a thing, signals: {sentinel: {harm/gun: 0.9}}}, expect: {verdict: steer}}
  - {name: late, given: {prompt: a thing, picture: {sentinel: {harm/gun: 0.9}}}, expect: {violations: [r]}}
  - {name: quiet, given: {prompt: a thing, picture: {}}, expect: {verdict: allow, errors: []}}
"""
    load(tmp_path, policy(rule(when=WOKEN, then=THEN % "harm/gun")) + tests)
    with pytest.raises(PolicyError, match="expected verdict `block`, got `steer`"):
        load(tmp_path, policy(rule(when=WOKEN, then=THEN % "harm/gun")) + tests.replace("steer}", "block}"))


def test_a_rule_that_steers_because_of_it_must_check_the_picture(tmp_path):
    with pytest.raises(PolicyError, match="must check the new picture"):
        load(tmp_path, policy(rule(when=WOKEN, then="[{do: steer, concept: harm/gun, toward: an object}]")))
