"""The laws of decisions, on policies with everything that the format has.

Each was seen red under the mutation that stands beside it (`policies/` changed by hand, then put back):

| law | mutation that turned it red |
|---|---|
| order does not matter | rules left in the order they come; of several overrides the last wins |
| one more rule is never milder | the last verdict for the strictest |
| shadow changes nothing | shadow rules composed with the enforced |
| exactly the rules whose removal changes it | exemptions not recorded; no note of an error |
| reasons point at their words | spans one to the left |
| a dumped policy is the same | overrides left out; a dumper without our resolvers |
| a naive engine agrees | `none` as none-of-all; expired, or unknown, exceptions spare |
| the same | no trigger for a failed detector; `unless` ignored; words found inside words |
| the same | `between` not over midnight; prefixes of tenants ignored; a late violation forgotten |
| stale is never milder | exceptions still spare (by the naive engine); `refuse` only says so |
| canaries | the percentage inside the hash; its parts joined without their lengths |
| no loosening, no milder verdict | `any` implied by one part; exceptions overlooked; removed rules never loosen |
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from policies import SHIPPED, VERDICTS, Request, Signals, decide, diff, dump_policy, explain
from policies.decide.example_tests import run_tests
from policies.format.model import PolicyModel
from policies.format.strict_yaml import parse_yaml
from policies.near import Near
from tests.policies.naive import naive
from tests.policies.random_policies import (
    KEY,
    NOW,
    both_stages,
    models,
    policies,
    rules,
    snapshot_of,
    sound_worlds,
    worlds,
)

AGES = st.sampled_from((None, NOW, NOW - timedelta(minutes=5), NOW - timedelta(days=2), NOW - timedelta(days=60)))
EVERYBODY = {"id": "r", "why": "w", "category": "c", "when": {"tenant": {"any_of": ["*"]}}, "then": [{"do": "block"}]}
# before all others by its name, or after them
ONE_MORE = rules(sparing=False, prefix="a", most=1) | rules(sparing=False, prefix="z", most=1)
MANY = settings(max_examples=60, deadline=None)


def strictness(decision):
    return VERDICTS.index(decision.verdict)


@MANY
@given(policies(), worlds(), AGES, st.randoms(use_true_random=False))
def test_the_order_of_rules_files_overrides_and_exceptions_does_not_matter(items, world, as_of, rng):
    def shuffled(values):
        return rng.sample(values, len(values))

    other = shuffled([_shuffled_inside(p, shuffled) for p in items])
    one, two = snapshot_of(models(items), as_of), snapshot_of(models(other), as_of)
    for a, b in zip(both_stages(world, one), both_stages(world, two), strict=True):
        # which of several exceptions is named may differ, and nothing else
        assert [e.rule for e in a.exempted] == [e.rule for e in b.exempted]
        blank = {"policy": "", "exempted": (), "shadow": None}
        assert replace(a, **blank) == replace(b, **blank)
        assert (a.shadow and (a.shadow.verdict, a.shadow.rules)) == (b.shadow and (b.shadow.verdict, b.shadow.rules))


def _shuffled_inside(policy, shuffled):
    """The policy with its rules, their exceptions and its overrides in another order."""
    rules = [{**r, "exceptions": shuffled(r.get("exceptions", []))} for r in shuffled(policy["rules"])]
    return {**policy, "rules": rules, "overrides": shuffled(policy.get("overrides", []))}


@MANY
@given(policies(), ONE_MORE, worlds(), AGES)
def test_one_more_rule_without_exceptions_never_makes_the_answer_milder(items, extra, world, as_of):
    more = [{**items[0], "rules": [*items[0]["rules"], *extra]}, *items[1:]]
    less, now = snapshot_of(models(items), as_of), snapshot_of(models(more), as_of)
    for before, after in zip(both_stages(world, less), both_stages(world, now), strict=True):
        assert strictness(after) >= strictness(before)
        assert set(before.rules) <= set(after.rules)


@MANY
@given(policies(), worlds(), AGES)
def test_rules_in_shadow_change_nothing_but_the_shadow(items, world, as_of):
    plain = [{k: v for k, v in p.items() if k != "overrides"} for p in items]
    dark = [
        {**p, "rules": [{**r, "id": f"{r['id']}-dark", "rollout": {"mode": "shadow"}} for r in p["rules"]]}
        for p in plain
    ]
    both = [{**p, "rules": [*p["rules"], *d["rules"]]} for p, d in zip(plain, dark, strict=True)]
    lit, full = snapshot_of(models(plain), as_of), snapshot_of(models(both), as_of)
    for a, b in zip(both_stages(world, lit), both_stages(world, full), strict=True):
        for name in ("verdict", "actions", "rules", "reasons", "errors", "violations", "disclosures", "exempted"):
            assert getattr(a, name) == getattr(b, name)
        assert b.reads >= a.reads


@MANY
@given(policies(), worlds(), AGES)
def test_a_decision_names_exactly_the_rules_whose_removal_changes_it(items, world, as_of):
    full = snapshot_of(models(items), as_of)
    for stage, decision in enumerate(both_stages(world, full)):
        for rule in full.rules:
            less = snapshot_of(models([_without(p, rule.id) for p in items]), as_of)
            without = both_stages(world, less)[stage]
            assert (_outcome(without) != _outcome(decision)) == (rule.id in _named(decision))


def _without(policy, rule):
    """The policy without a rule; if that was its last one, with one that is never in force."""
    asleep = {**EVERYBODY, "id": f"{policy['name']}-asleep", "rollout": {"mode": "disabled"}}
    rules = [r for r in policy["rules"] if r["id"] != rule]
    return {**policy, "rules": rules or [asleep]}


def _named(decision):
    shadow = decision.shadow
    watched = (*shadow.rules, *(e.rule for e in shadow.errors), *(e.rule for e in shadow.exempted)) if shadow else ()
    return {*decision.rules, *(e.rule for e in decision.errors), *(e.rule for e in decision.exempted), *watched}


def _outcome(decision):
    """What a decision does, and what it would do."""
    shadow = decision.shadow
    watched = (shadow.rules, shadow.errors, shadow.exempted) if shadow else ((), (), ())
    done = ("verdict", "actions", "rules", "reasons", "errors", "violations", "exempted")
    return [getattr(decision, name) for name in done], watched


@MANY
@given(policies(), worlds())
def test_every_reason_points_at_the_words_that_it_names(items, world):
    request = world[0]
    for decision in both_stages(world, snapshot_of(models(items))):
        for reason in decision.reasons:
            if reason.word and reason.view == "folded" and reason.span.source == "prompt":
                said = reason.span.of(request.prompt).casefold()
                near = reason.predicate == "near" and "l" in Near({"l": [reason.word]}).find(said)
                assert near or said.split() == reason.word.split()
        assert json.loads(json.dumps(decision.to_dict()))["verdict"] == decision.verdict


@MANY
@given(policies())
def test_a_dumped_policy_is_the_same_policy(items):
    made = models(items)
    again = [PolicyModel.model_validate(parse_yaml(dump_policy(m), file="x")[0]) for m in made]
    assert again == made
    assert snapshot_of(again).digest == snapshot_of(made).digest
    assert [dump_policy(m) for m in again] == [dump_policy(m) for m in made]


def test_a_shipped_policy_loads_dumps_and_loads(tmp_path):
    from detectors.text import sense
    from policies import Loader

    first = Loader(sense).load(SHIPPED)
    (tmp_path / "lists").symlink_to(SHIPPED / "lists")
    folder = tmp_path / "again"
    folder.mkdir()
    (folder / "lists").mkdir()
    for file in (SHIPPED / "lists").iterdir():
        (folder / "lists" / file.name).write_bytes(file.read_bytes())
    for policy in first.policies:
        (folder / f"{policy.name}.yaml").write_text(dump_policy(policy), "utf-8")
    again = Loader(sense).load(folder)
    assert again.digest == first.digest
    assert diff(first, again) == ()


@settings(max_examples=150, deadline=None)
@given(policies(), worlds(), AGES)
def test_a_second_naive_engine_agrees(items, world, as_of):
    made = models(items)
    snapshot = snapshot_of(made, as_of)
    request, prompt, picture = world
    first, second = both_stages(world, snapshot)
    expected = naive(made, request, prompt, as_of=as_of, key=KEY)
    assert _plain(first, made) == expected
    shadow = expected["shadow"]
    before = {
        "all_rules": [*expected["rules"], *shadow["rules"]],
        "all_errors": [*expected["errors"], *shadow["errors"]],
    }
    wanted = naive(made, request, prompt + picture, as_of=as_of, picture=True, before=before, key=KEY)
    assert _plain(second, made) == wanted


def _plain(decision, made):
    """A decision as the naive engine tells it; it does not count the errors of whole policies."""
    names = {m.name for m in made}
    shadow = decision.shadow
    return {
        "verdict": decision.verdict,
        "rules": sorted(decision.rules),
        "errors": sorted({e.rule for e in decision.errors} - names),
        "violations": sorted(v.rule for v in decision.violations),
        "exempted": sorted(e.rule for e in decision.exempted),
        "stale": sorted(decision.stale),
        "shadow": {
            "verdict": shadow.verdict if shadow else decision.verdict,
            "rules": sorted(shadow.rules) if shadow else [],
            "errors": sorted({e.rule for e in shadow.errors}) if shadow else [],
            "exempted": sorted(e.rule for e in shadow.exempted) if shadow else [],
        },
    }


@MANY
@given(policies(), worlds())
def test_a_stale_policy_that_tightens_or_refuses_is_never_milder(items, world):
    fresh, stale = (snapshot_of(models(items), at) for at in (NOW, NOW - timedelta(days=60)))
    for before, after in zip(both_stages(world, fresh), both_stages(world, stale), strict=True):
        assert strictness(after) >= strictness(before)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=8), st.text(max_size=8), st.sampled_from(("request", "tenant", "prompt")))
def test_a_canary_keeps_whom_it_has_drawn_when_its_share_grows(tenant, identity, by):
    def acts(percent):
        rollout = {"mode": "canary", "percent": percent, "by": by}
        rule = {
            "id": "r",
            "why": "w",
            "category": "c",
            "when": {"tenant": {"any_of": ["*"]}},
            "then": [{"do": "block"}],
        }
        snapshot = snapshot_of(models([{"name": "p", "rules": [{**rule, "rollout": rollout}]}]))
        request = Request("a hill", tenant=tenant, id=identity)
        return [decide(request, Signals(), snapshot).verdict == "block" for _ in range(2)]

    drawn = [acts(percent) for percent in (1, 10, 40, 70, 99)]
    assert all(a == b for a, b in drawn)
    shares = [a for a, _ in drawn]
    assert shares == sorted(shares)


def test_requests_whose_parts_run_together_alike_are_drawn_apart():
    rollout = {"mode": "canary", "percent": 50}
    snapshot = snapshot_of(models([{"name": "p", "rules": [{**EVERYBODY, "rollout": rollout}]}]))

    def drawn(tenant, identity):
        return decide(Request("x", tenant=tenant, id=identity), Signals(), snapshot).verdict

    pairs = [(drawn(f"a{i}|", "b"), drawn(f"a{i}", "|b")) for i in range(64)]
    assert any(a != b for a, b in pairs)


@MANY
@given(policies(), st.data(), AGES)
def test_without_a_change_that_loosens_no_verdict_becomes_milder(items, data, as_of):
    other = data.draw(edits(items))
    old, new = snapshot_of(models(items), as_of), snapshot_of(models(other), as_of)
    changes = diff(old, new)
    assert diff(old, old) == ()
    if any(c.loosens for c in changes):
        return
    for world in sound_worlds():
        for a, b in zip(both_stages(world, old), both_stages(world, new), strict=True):
            assert strictness(b) >= strictness(a)
            assert changes or (a.verdict, a.rules) == (b.verdict, b.rules)


@st.composite
def edits(draw, items):
    """The policies with one thing changed, so that nothing else hides what it does; now and then with a second one."""
    fresh = draw(policies())
    made = [dict(p) for p in items]
    for _ in range(draw(st.sampled_from((1, 1, 1, 2)))):
        at = draw(st.integers(0, len(made) - 1))
        policy, other = made[at], draw(st.sampled_from([r for p in fresh for r in p["rules"]]))
        k = draw(st.integers(0, len(policy["rules"]) - 1))
        rule = policy["rules"][k]
        kinds = ("part", "part", "exceptions", "wider", "narrower", "fewer", "spared", "drop", "around")
        kind = draw(st.sampled_from(kinds))
        if kind == "around":
            field = draw(st.sampled_from(("overrides", "freshness")))
            policy = {n: v for n, v in policy.items() if n != field} | {n: v for n, v in fresh[0].items() if n == field}
            rules = policy["rules"]
        else:
            changed = [] if kind == "drop" and len(policy["rules"]) > 1 else [_edited(draw, rule, other, kind)]
            rules = [*policy["rules"][:k], *changed, *policy["rules"][k + 1 :]]
        made[at] = {**policy, "rules": rules}
    return made


def _edited(draw, rule, other, kind):
    if kind in ("wider", "narrower"):
        return {**rule, "when": {"any" if kind == "wider" else "all": [rule["when"], other["when"]]}}
    if kind == "spared":
        ((name, words),) = rule["when"].items()
        spares = name in ("lettering", "prompt") and "any_of" in words
        return {**rule, "when": {name: {**words, "unless": ["grumpf", "$odd", "snirt"]}}} if spares else rule
    if kind == "fewer":
        ((name, parts),) = rule["when"].items()
        return {**rule, "when": {name: parts[1:]}} if name in ("all", "any", "none") else rule
    fields = ("when", "then", "on_error", "rollout", "active") if kind == "part" else ("exceptions",)
    field = draw(st.sampled_from(fields))
    return {n: v for n, v in rule.items() if n != field} | ({field: other[field]} if field in other else {})


def test_an_exception_is_inert_from_the_same_moment_on_every_path(tmp_path):
    from detectors.text import sense
    from policies import Loader
    from policies.decide.replay import replay
    from tests.policies.helpers import policy, rule

    more = "exceptions: [{id: e, tenants: [acme], reason: r, approved_by: me, expires: 2027-01-01T00:00:00Z}]"
    tests = """
tests:
  - name: before
    given: {prompt: 'a sign that says "grumpf"', tenant: acme, now: 2026-12-31T23:59:59Z}
    expect: {verdict: allow, rules: [], exempted: [r]}
  - name: after
    given: {prompt: 'a sign that says "grumpf"', tenant: acme, now: 2027-01-01T00:00:00Z}
    expect: {verdict: block, rules: [r], exempted: []}
"""
    (tmp_path / "p.yaml").write_text(policy(rule(more=more)) + tests)
    snapshot = Loader(sense).load(tmp_path)
    assert all(r.passed for r in run_tests(snapshot, sense))
    end = snapshot.rules[0].exceptions[0].expires
    for now, verdict in ((end - timedelta(seconds=1), "allow"), (end, "block")):
        request = Request('a sign that says "grumpf"', tenant="acme", now=now)
        assert decide(request, sense(request), snapshot).verdict == verdict
        assert explain(request, snapshot, sense)["verdict"] == verdict
        assert list(replay([request], snapshot, snapshot, sense).transitions) == [(verdict, verdict)]
