"""The predicate `strikes`: which earlier requests count, what happens when not all are known, and which rules give one.

Mutations seen red: `within` not looked at; kinds or categories not looked at; an unknown count taken for none; a rule
that asks for strikes gives one; a rule that could not be judged gives one; `implies` that overlooks `within`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from detectors.text import sense
from policies import PolicyError, Request, Signal, Strike, Strikes, decide, diff, struck
from tests.policies.helpers import LETTERING, load, policy, rule

HOUR = timedelta(hours=1)
ASKS = "{strikes: {at_least: 2, within: 24h%s}}"


def strike(kind="refused", ago=HOUR, **categories):
    return Strike(kind, frozenset(categories or {"test"}), ago)


def verdict(snapshot, *items, error=None, prompt="a hill"):
    request = Request(prompt, strikes=Strikes(items, error))
    return decide(request, sense(request), snapshot).verdict


@pytest.mark.parametrize(
    ("more", "counted", "not_counted"),
    [
        ("", strike(ago=24 * HOUR), strike(ago=24 * HOUR + timedelta(seconds=1))),
        (", of: [held, repaired]", strike("held"), strike("refused")),
        (", category: hate", strike(hate=1, test=1), strike(test=1)),
        (", of: [held], category: hate", Strike(), strike("held", test=1)),
    ],
)
def test_only_the_strikes_that_a_condition_asks_for_count(tmp_path, more, counted, not_counted):
    snapshot = load(tmp_path, policy(rule(when=ASKS % more)))
    assert snapshot.strikes == 24 * HOUR
    assert verdict(snapshot, counted, counted) == "block"
    assert verdict(snapshot, counted, not_counted, not_counted) == "allow"


def test_a_count_that_is_not_known_is_an_error_unless_what_is_known_is_enough(tmp_path):
    for on_error, expected in (("block", "block"), ("apply", "label"), ("allow", "allow")):
        text = policy(rule(when=ASKS % "", then="[{do: label, value: often}]", more=f"on_error: {on_error}"))
        snapshot = load(tmp_path, text)
        assert verdict(snapshot, strike(), error="nobody answers") == expected
        assert verdict(snapshot, strike(), strike(), error="nobody answers") == "label"
    spared = policy(rule(when=f"{{all: [{LETTERING}, {{none: [{ASKS % ''}]}}]}}"))
    asked = 'a sign that says "grumpf"'
    assert verdict(load(tmp_path, spared), strike(), strike(), prompt=asked) == "allow"
    assert verdict(load(tmp_path, spared), strike(), error="nobody answers", prompt=asked) == "block"


def test_fewer_strikes_in_a_longer_time_of_more_kinds_are_no_loosening(tmp_path):
    def loosens(old, new):
        a, b = (load(tmp_path, policy(rule(when=f"{{strikes: {{{when}}}}}"))) for when in (old, new))
        return any(change.loosens for change in diff(a, b))

    middle = "at_least: 3, within: 24h, of: [refused, held]"
    for milder in (
        "at_least: 4, within: 24h, of: [refused, held]",
        "at_least: 3, within: 23h, of: [refused, held]",
        "at_least: 3, within: 24h, of: [refused]",
        "at_least: 3, within: 24h, of: [refused, held], category: hate",
    ):
        assert loosens(middle, milder)
        assert not loosens(milder, middle)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("{strikes: {at_least: 0, within: 1h}}", "at_least: must be greater than or equal to 1, got `0`"),
        ("{strikes: {at_least: 101, within: 1h}}", "at_least: must be less than or equal to 100, got `101`"),
        (
            "{strikes: {at_least: 3, within: 31d}}",
            "`within` must be at most 30d: older strikes are forgotten, got `31d`",
        ),
        ("{strikes: {at_least: 3, within: soon}}", "must be a length of time such as `15m`, `24h` or `7d`, got `soon`"),
        (
            "{strikes: {at_least: 3, within: 1h, of: [label]}}",
            "must be one of `refused`, `held`, `repaired`, got `label`",
        ),
    ],
)
def test_what_cannot_be_counted_is_refused_by_name(tmp_path, when, said):
    with pytest.raises(PolicyError) as error:
        load(tmp_path, policy(rule(when=when)))
    assert said in str(error.value)


def test_tests_of_a_policy_say_which_strikes_there_are(tmp_path):
    tests = """
tests:
  - name: often
    given: {prompt: a hill, strikes: [{count: 2, ago: 23h}]}
    expect: {verdict: block}
  - name: long ago, or of another kind
    given: {prompt: a hill, strikes: [{count: 9, ago: 25h}, {of: held}, {of: refused, category: hate}]}
    expect: {verdict: allow}
"""
    load(tmp_path, policy(rule(when=ASKS % ", of: [refused], category: test")) + tests)
    with pytest.raises(PolicyError, match=r"expected verdict `allow`, got `block`"):
        load(tmp_path, policy(rule(when=ASKS % "")) + tests)


def test_rules_that_act_on_a_request_give_a_strike_and_others_give_none(tmp_path):
    rules = (
        rule("words", more="").replace("category: test", "category: hate"),
        rule("tone", "{toxicity_at_least: 0.5}", more="on_error: apply"),
        rule("marked", "{prompt: {any_of: [hill]}}", "[{do: label, value: hills}]"),
        rule("watched", "{prompt: {any_of: [hill]}}", more="rollout: {mode: shadow}"),
        rule("patience", f"{{all: [{{tenant: {{any_of: ['*']}}}}, {ASKS % ''}]}}"),
    )
    snapshot = load(tmp_path, policy(*rules))

    def given(prompt, *more, **options):
        request = Request(prompt, **options)
        heard = sense(request)
        decision = decide(request, replace(heard, items=(*heard.items, *more)), snapshot)
        return decision.rules, struck([decision], snapshot)

    assert given('a sign that says "grumpf"') == (("words",), {"hate"})
    assert given("a hill") == (("marked",), frozenset())
    assert given("a cat", strikes=Strikes.of(2)) == (("patience",), frozenset())
    failed = Signal("toxicity", "t", "1", error="it is away")
    assert given("a cat", failed) == (("tone",), frozenset()), "it blocks, and the request did not do that"
    assert given("a cat", Signal("toxicity", "t", "1", score=1.0))[1] == {"test"}
