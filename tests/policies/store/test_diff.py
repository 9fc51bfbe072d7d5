# ruff: noqa: E501  tables of cases are read a case a line
"""What a change of policy means, and what it would do to given prompts.

Seen red under: growth of `unless` overlooked, thresholds compared the wrong way, `otherwise` overlooked, exceptions that
grow passing for the old ones, pictures that broke a rule late overlooked, overrides overlooked.
"""

from __future__ import annotations

import time

import pytest

from detectors.text import sense
from policies import SHIPPED, Loader, Request, diff, replay
from tests.policies.helpers import load, policy, rule

STEER = "[{do: steer, concept: lettering, toward: kind}, {do: verify, read: lettering, none_of: [grumpf, blorch], ladder: [blur]}]"
APPROVED = "reason: r, approved_by: me, expires: 2027-01-01"
BASE = policy(
    rule(then=STEER),
    rule("s", when="{prompt: {any_of: [$w], unless: [fine]}}"),
    more="lists: {w: {values: [snirt, wexl]}}\n",
)


def changes(tmp_path, old, new, **options):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    return diff(load(tmp_path / "a", old, **options), load(tmp_path / "b", new, **options))


def edited(old, new, text=BASE):
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("new", "says", "loosens"),
    [
        (edited("[grumpf, blorch]}}", "[grumpf, blorch, mirl]}}"), "rule r: `when` matches more than before", False),
        (edited("[grumpf, blorch]}}", "[grumpf]}}"), "rule r: `when` matches less than before", True),
        (edited("[grumpf, blorch]}}", "[mirl]}}"), "rule r: `when` may match less than before", True),
        (edited("[snirt, wexl]", "[snirt, wexl, mirl]"), "list p/w: 1 added (`mirl`)", False),
        (edited("[snirt, wexl]", "[snirt]"), "rule s: `when` matches less than before", True),
        (edited("unless: [fine]", "unless: [fine, so-so]"), "rule s: `when` matches less than before", True),
        (edited(", unless: [fine]", ""), "rule s: `when` matches more than before", False),
        (edited("any_of: [$w]", "views: plain, any_of: [$w]"), "rule s: `when` matches less", True),
        (edited("toward: kind", "toward: kinder"), "rule r: `then`: steer lettering is not there as it was", False),
        (edited("toward: kind", "strength: 0.2, toward: kind"), "rule r: `then`: steer lettering is not there as it was", True),
        (edited("none_of: [grumpf, blorch]", "none_of: [grumpf]"), "rule r: `then`: verifying lettering asks less", True),
        (edited("none_of: [grumpf, blorch]", "near: 1, none_of: [grumpf, blorch]"), "rule r: `then`: verifying lettering changed", False),
        (edited("[grumpf, blorch]}}", "[grumpf, blorch], near: 1}}"), "rule r: `when` matches more than before", False),
        (edited("[grumpf, blorch]}}", "[grumpf, blorch], near: 1, near_unless: [grump]}}"), "rule r: `when` matches more than before", False),
        (edited("{lettering: {any_of: [grumpf, blorch]}}", "{toxicity_at_least: 0.5}"), "rule r: `when` may match less than before", True),
        (edited("ladder: [blur]", "otherwise: review-hold, ladder: [blur]"), "rule r: `then`: verifying lettering asks less", True),
        (edited("[{do: block}]", "[{do: review-hold}]"), "rule s: `then`: block is not there as it was", True),
        (edited("[{do: block}]", "[{do: block}, {do: label, value: x}]"), "rule s: `then`: label x added", False),
        (policy(rule(then=STEER)), "rule s: removed (enforce)", True),
        (BASE + rule("t"), "rule t: added (enforce)", False),
        (edited("    category: test", "    category: test\n    rollout: {mode: shadow}"), "rule r: rollout: enforce -> shadow", True),
        (edited("    category: test", "    category: test\n    on_error: apply"), "rule r: on_error: block -> apply", True),
        (edited("    category: test", "    category: test\n    unfit: swap-prompt"), "rule r: unfit: block -> swap-prompt", True),
        (edited("    category: test", "    category: test\n    unfit: refuse-load"), "rule r: unfit: block -> refuse-load", False),
        (edited("    category: test", "    category: test\n    disclose: reason"), "rule r: disclose: category -> reason", False),
        (edited("    category: test", "    category: test\n    active: {until: 2027-01-01}"), "rule r: the time in which it is in force changed", True),
        (edited("    category: test", f"    category: test\n    exceptions: [{{id: e, tenants: [a], {APPROVED}}}]"), "rule r: exception `e` added", True),
        (edited("  - id: r\n", "  - id: q\n    renamed_from: [r]\n"), "rule q: renamed from `r`", False),
        (edited("  - id: r\n", "  - id: q\n"), "rule r: removed (enforce)", True),
        (BASE + f"overrides: [{{rule: s, set: {{mode: disabled}}, loosens: true, {APPROVED}}}]\n", "rule s: override added: mode disabled for everybody until 2027-01-01", True),
        (BASE + "overrides: [{rule: s, tenants: [a], set: {on_error: block}}]\n", "rule s: override added: on_error block for a", False),
        (edited("owner: me@example.com", "owner: you@example.com"), "policy p: owner: me@example.com -> you@example.com", False),
        (edited("version: 1.0.0", "version: 1.0.1"), "policy p: version: 1.0.0 -> 1.0.1", False),
        (edited("owner: me@example.com", "owner: me@example.com\nfreshness: {max_age: 1d, on_stale: refuse}"), "policy p: freshness: none -> 1d, then refuse", False),
        (edited("why: because", "why: just because"), "rule r: why changed", False),
    ],
)  # fmt: skip
def test_each_change_is_told_in_a_sentence_and_marked_when_it_loosens(tmp_path, new, says, loosens):
    found = changes(tmp_path, BASE, new)
    told = [f"{c.where} {c.name}: {c.text}" for c in found]
    assert any(says in line for line in told), told
    assert any(c.loosens for c in found) == loosens, told


@pytest.mark.parametrize("field", ["when", "then"])
@pytest.mark.parametrize(
    ("old", "new", "loosens"),
    [
        ("", "near: 1", False),
        ("near: 1", "", True),
        ("", "near: 1, near_unless: [grump]", False),
        ("near: 1", "near: 1, near_unless: [grump]", True),
        ("near: 1, near_unless: [grump, mumpf]", "near: 1, near_unless: [mumpf]", False),
        ("near: 1, near_unless: [grump]", "near: 1, near_unless: [mumpf]", True),
        ("near: 1, near_unless: [grump]", "", True),
    ],
)
def test_near_words_that_count_tighten_and_those_that_are_spared_loosen(tmp_path, field, old, new, loosens):
    def of(near):
        words = f"[grumpf], {near}" if near else "[grumpf]"
        if field == "when":
            return policy(rule(when=f"{{lettering: {{any_of: {words}}}}}"))
        return policy(rule(then=f"[{{do: verify, read: lettering, ladder: [blur], none_of: {words}}}]"))

    found = changes(tmp_path, of(old), of(new))
    assert found
    assert any(c.loosens for c in found) == loosens, found


@pytest.mark.parametrize(
    ("old", "new", "loosens"),
    [
        ("rollout: {mode: canary, percent: 10}", "rollout: {mode: canary, percent: 20}", False),
        ("rollout: {mode: canary, percent: 20}", "rollout: {mode: canary, percent: 10}", True),
        ("rollout: {mode: canary, percent: 20}", "rollout: {mode: canary, percent: 20, by: tenant}", True),
        ("rollout: {mode: canary, percent: 20}", "rollout: {mode: enforce}", False),
        (f"exceptions: [{{id: e, tenants: [a*], {APPROVED}}}]", f"exceptions: [{{id: f, tenants: [ab], {APPROVED}}}]", False),
        (f"exceptions: [{{id: e, tenants: [ab], {APPROVED}}}]", f"exceptions: [{{id: e, tenants: [a*], {APPROVED}}}]", True),
        (f"exceptions: [{{id: e, tenants: [a], {APPROVED}}}]", f"exceptions: [{{id: e, tenants: [a], {APPROVED.replace('2027', '2028')}}}]", True),
        (f"exceptions: [{{id: e, tenants: [a], {APPROVED}}}]", f"exceptions: [{{id: e, tenants: [a], {APPROVED.replace('2027', '2026')}}}]", False),
        (f"exceptions: [{{id: e, tenants: [a*], {APPROVED}}}]", f"exceptions: [{{id: e, tenants: [ab], {APPROVED}}}]", False),
        (f"exceptions: [{{id: e, tenants: [a], {APPROVED}}}]", "on_error: block", False),
    ],
)  # fmt: skip
def test_rollouts_and_exceptions_are_compared_by_whom_they_reach(tmp_path, old, new, loosens):
    found = changes(tmp_path, policy(rule(more=old)), policy(rule(more=new)), canary_key=b"k")
    assert any(c.loosens for c in found) == loosens, found
    assert found


def test_conditions_are_compared_in_meaning_and_not_in_text(tmp_path):
    old = "{any: [{lettering: {any_of: [b, a]}}, {none: [{toxicity_at_least: 0.2}, {tenant: {any_of: [x]}}]}]}"
    new = "{any: [{none: [{tenant: {any_of: [x]}}, {toxicity_at_least: 0.2}]}, {any: [{lettering: {any_of: [a, b]}}]}]}"
    assert changes(tmp_path, policy(rule(when=old)), policy(rule(when=new))) == ()


def test_a_rule_that_matches_earlier_may_let_pass_what_broke_it_late(tmp_path):
    """A picture that wakes a rule violates it; once the prompt wakes it, only `verify` does, which may ask for less."""
    then = "[{do: steer, concept: lettering, toward: kind}, {do: verify, read: lettering, none_of: [%s]}]"
    shown = "{picture: {lettering: {any_of: [grumpf]}}}"
    late, early = f"{{any: [{shown}]}}", f"{{any: [{{prompt: {{any_of: [hill]}}}}, {shown}]}}"
    text = policy(rule(when=late, then=then % "snirt"))
    found = changes(tmp_path, text, policy(rule(when=early, then=then % "snirt")))
    assert any(c.loosens and "matches earlier" in c.text for c in found)
    (tmp_path / "c").mkdir()
    found = changes(
        tmp_path / "c", policy(rule(when=late, then=then % "grumpf")), policy(rule(when=early, then=then % "grumpf"))
    )
    assert [(c.text, c.loosens) for c in found] == [("`when` matches more than before", False)]


@pytest.mark.parametrize("what", ["toxicity_at_least: %s", "concept: {name: character/pip, at_least: %s}"])
def test_a_higher_threshold_loosens_and_a_lower_one_does_not(tmp_path, what):
    low, high = (policy(rule(when="{" + what % score + "}")) for score in (0.5, 0.8))
    assert any(c.loosens for c in changes(tmp_path, low, high))
    (tmp_path / "c").mkdir()
    assert [c.loosens for c in changes(tmp_path / "c", high, low)] == [False]


def test_a_rule_that_leaves_the_floor_loosens(tmp_path):
    floor, other = policy(rule(), rule("s"), name="floor"), policy(rule("s"), name="floor") + "\n"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = diff(load(tmp_path / "a", floor), load(tmp_path / "b", other, policy(rule(), name="house")))
    assert [(c.name, c.text) for c in found if c.loosens] == [("r", "moved from policy `floor` to `house`")]


def test_a_replay_counts_every_prompt_once_and_lists_those_that_change(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    old, new = load(tmp_path / "a", BASE), load(tmp_path / "b", edited("[snirt, wexl]", "[wexl, mirl]"))
    prompts = ["a snirt", "a wexl", "a mirl", "a hill", 'a sign that says "grumpf"']
    result = replay([Request(p) for p in prompts], old, new, sense)
    assert result.prompts == 5
    assert result.transitions == {
        ("block", "allow"): 1,
        ("block", "block"): 1,
        ("allow", "block"): 1,
        ("allow", "allow"): 1,
        ("steer", "steer"): 1,
    }
    assert [(c.request.prompt, c.milder) for c in result.changed] == [("a snirt", True), ("a mirl", False)]
    assert result.milder == 1
    assert sum(row[v] for row in result.matrix() for v in ("allow", "label", "steer", "review-hold", "block")) == 5
    assert result.changed[0].to_dict()["reasons"] == ["the request says `snirt`"]


def test_decisions_of_five_hundred_prompts_take_a_fraction_of_a_second():
    snapshot = Loader(sense).load(SHIPPED)
    prompts = [
        Request(f'a {w} star on a blue background with a sign that says "HELLO {i}"')
        for i in range(250)
        for w in ("red", "green")
    ]
    signals = {r.prompt: sense(r) for r in prompts}  # reading is apart
    began = time.thread_time()
    assert replay(prompts, snapshot, snapshot, lambda r: signals[r.prompt]).prompts == 500
    assert time.thread_time() - began < 1.0
