# ruff: noqa: E501  tables of cases are read a case a line
"""What the format offers beyond single rules: time, exceptions, overrides, the floor, requirements, freshness."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
import yaml

import policies
from detectors.text import sense
from policies import SHIPPED, Loader, PolicyError, Request, advice, decide, json_schema, narrate, run_tests
from policies.format.strict_yaml import parse_yaml
from tests.policies.helpers import HEAD, load, policy, rule

RUDE = 'a sign that says "grumpf"'
NOW = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)  # a Saturday
APPROVED = "approved_by: boss@example.com, expires: 2027-01-01"


def answer(snapshot, prompt=RUDE, **request):
    asked = Request(prompt, **{"now": NOW, **request})
    return decide(asked, sense(asked), snapshot)


def refusal(tmp_path, *texts, **options):
    with pytest.raises(PolicyError) as error:
        load(tmp_path, *texts, **options)
    return error.value


@pytest.mark.parametrize(
    ("time", "holds"),
    [
        ("{weekdays: [sat, sun]}", True),
        ("{weekdays: [mon]}", False),
        ('{between: ["22:00", "06:00"]}', True),
        ('{between: ["23:30", "23:31"]}', True),
        ('{between: ["06:00", "23:30"]}', False),
        ("{between: [22:00, 06:00], weekdays: [fri]}", False),
        ("{from: 2026-11-21, until: 2026-11-22}", True),
        ("{until: 2026-11-21T23:30:00Z}", False),
        ("{from: 2026-11-21T23:30:00Z}", True),
    ],
)
def test_a_rule_may_look_at_the_time_in_utc(tmp_path, time, holds):
    snapshot = load(tmp_path, policy(rule(when=f"{{time: {time}}}")))
    decision = answer(snapshot, "a hill")
    assert decision.verdict == ("block" if holds else "allow")
    assert not holds or decision.reasons[0].text == "the time is 2026-11-21 23:30 UTC"


@pytest.mark.parametrize(
    ("time", "says"),
    [
        ("{}", "must hold at least one of"),
        ("{from: 2026-02-01, until: 2026-01-01}", "must be later than `from`"),
        ('{between: ["22:00"]}', "at least 2"),
        ('{between: ["22:00", "24:00"]}', "two times of day"),
        ('{between: ["22:00", "22:00"]}', "two different times"),
        ("{weekdays: [saturday]}", "must be one of `mon`"),
    ],
)
def test_a_time_that_never_comes_or_means_nothing_is_refused(tmp_path, time, says):
    assert says in str(refusal(tmp_path, policy(rule(when=f"{{time: {time}}}"))))


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("{lettering: {any_of: [x], near_unless: [y]}}", "`near_unless` needs `near: 1`"),
        ("{picture: {lettering: {any_of: [x], near_unless: [y]}}}", "`near_unless` needs `near: 1`"),
        ("{lettering: {asked: true, near: 1}}", "belong to `any_of`"),
        ("{lettering: {any_of: [x], near: 2}}", "must be one of `0`, `1`"),
        ("{prompt: {any_of: [x], near: 1}}", "unknown field `near`"),
        ("{lettering: {any_of: [x], near: 1, near_unless: [$nope]}}", "unknown list `$nope`"),
    ],
)
def test_near_words_are_refused_where_they_mean_nothing(tmp_path, when, says):
    assert says in str(refusal(tmp_path, policy(rule(when=when))))


@pytest.mark.parametrize("more", ["near: 1", "near_unless: [y]"])
def test_a_verify_of_a_concept_takes_no_near_words(tmp_path, more):
    then = f"[{{do: verify, read: character/pip, below: 0.5, {more}}}]"
    assert "reading a concept needs `below: SCORE`" in str(refusal(tmp_path, policy(rule(then=then))))
    then = "[{do: verify, read: lettering, none_of: [x], near_unless: [y]}]"
    assert "`near_unless` needs `near: 1`" in str(refusal(tmp_path, policy(rule(then=then))))


EXCEPTION = f"exceptions: [{{id: museum, tenants: [acme, edu-*], reason: exhibit, ticket: TS-1, {APPROVED}}}]"


def test_an_exception_spares_its_tenants_until_it_ends_and_says_so(tmp_path):
    snapshot = load(tmp_path, policy(rule(more=EXCEPTION)))
    spared = answer(snapshot, tenant="edu-9")
    assert (spared.verdict, spared.rules, spared.disclosures) == ("allow", (), ())
    assert [(e.rule, e.exception, e.reasons[0].word) for e in spared.exempted] == [("r", "museum", "grumpf")]
    assert spared.to_dict()["exempted"][0]["exception"] == "museum"
    request = Request(RUDE, tenant="acme", now=NOW)
    assert any("exception `museum`" in line for line in narrate(request, spared, snapshot))
    assert answer(snapshot, tenant="other").verdict == "block"
    assert answer(snapshot, "a hill", tenant="acme").exempted == ()
    assert answer(snapshot, tenant="acme", now=datetime(2027, 1, 1, tzinfo=UTC)).verdict == "block"


def test_an_exception_may_have_a_condition_and_an_unknown_one_spares_nobody(tmp_path):
    more = f"exceptions: [{{id: e, when: {{toxicity_at_least: 0.0}}, reason: r, {APPROVED}}}]"
    snapshot = load(tmp_path, policy(rule(more=more)))
    request = Request(RUDE, now=NOW)
    signals = sense(request)
    without = replace(
        signals,
        items=tuple(s for s in signals.items if s.name != "toxicity"),
        covered=signals.covered - {("prompt", "toxicity")},
    )
    assert decide(request, without, snapshot).verdict == "block"


def test_an_exempted_rule_stays_exempted_when_the_picture_shows_it(tmp_path):
    from detectors.text import read_text
    from policies import Signal, Signals

    then = "[{do: steer, concept: lettering, toward: kind}, {do: verify, read: lettering, none_of: [grumpf]}]"
    when = "{any: [{lettering: {any_of: [grumpf]}}, {picture: {lettering: {any_of: [grumpf]}}}]}"
    snapshot = load(tmp_path, policy(rule(when=when, then=then, more=EXCEPTION)))
    seen = Signals(
        (Signal("lettering", "ocr", "1", "picture", text="grumpf", views=read_text("grumpf")),),
        frozenset({("picture", "lettering")}),
    )
    for prompt in (RUDE, "a hill"):
        request = Request(prompt, tenant="acme", now=NOW)
        first = decide(request, sense(request), snapshot)
        second = decide(request, sense(request) + seen, snapshot, stage="picture", before=first)
        assert (first.verdict, second.verdict) == ("allow", "allow")
        assert [e.rule for e in second.exempted] == ["r"]


@pytest.mark.parametrize(
    ("more", "path", "says"),
    [
        ("exceptions: [{id: e, tenants: [a], reason: r, expires: 2027-01-01}]", "rules[0].exceptions[0].approved_by", "required"),
        ("exceptions: [{id: e, tenants: [a], reason: r, approved_by: me}]", "rules[0].exceptions[0].expires", "required"),
        ("exceptions: [{id: e, tenants: [a], approved_by: me, expires: 2027-01-01}]", "rules[0].exceptions[0].reason", "required"),
        (f"exceptions: [{{id: e, reason: r, {APPROVED}}}]", "rules[0].exceptions[0]", "it would spare every request"),
        (f"exceptions: [{{id: e, when: {{picture: {{lettering: {{any_of: [x]}}}}}}, reason: r, {APPROVED}}}]", "rules[0].exceptions[0].when.picture", "before there is a picture"),
        (f"exceptions: [{{id: e, when: {{prompt: {{any_of: [$nope]}}}}, reason: r, {APPROVED}}}]", "rules[0].exceptions[0].when.prompt.any_of[0]", "unknown list `$nope`"),
        (f"exceptions: [{{id: e, when: {{concept: {{name: animal/unicorn}}}}, reason: r, {APPROVED}}}]", "rules[0].exceptions[0].when.concept.name", "no detector finds"),
        ("renamed_from: [r]", "rules[0].renamed_from[0]", "is still a rule"),
        ("rollout: {mode: shadow, by: tenant}", "rules[0].rollout", "`by` goes with `mode: canary`"),
        ("unfit:", "rules[0].unfit", "has no value"),
    ],
)  # fmt: skip
def test_a_wrong_exception_or_rollout_is_refused_with_its_place(tmp_path, more, path, says):
    (problem,) = refusal(tmp_path, policy(rule(more=more))).problems
    assert problem.path == path
    assert says in problem.message
    assert problem.line > 0


def overriding(setting, more="", base=""):
    return policy(rule(more=base)) + f"overrides:\n  - {{rule: r, set: {setting}{more}}}\n"


def test_an_override_tightens_freely_and_for_its_tenants_only(tmp_path):
    snapshot = load(tmp_path, overriding("{mode: enforce}", ", tenants: [edu-*]", "rollout: {mode: shadow}"))
    assert answer(snapshot, tenant="edu-1").verdict == "block"
    other = answer(snapshot, tenant="acme")
    assert (other.verdict, other.shadow.verdict) == ("allow", "block")


def test_an_override_may_wake_a_disabled_rule(tmp_path):
    snapshot = load(tmp_path, overriding("{mode: enforce}", ", tenants: [acme]", "rollout: {mode: disabled}"))
    assert (answer(snapshot, tenant="acme").verdict, answer(snapshot).verdict) == ("block", "allow")
    assert not snapshot.rules[0].sleeps


def test_of_two_overrides_the_strictest_counts_whatever_their_order(tmp_path):
    lines = [
        f"  - {{rule: r, set: {{mode: disabled}}, loosens: true, {APPROVED}}}",
        f"  - {{rule: r, tenants: [acme], set: {{mode: shadow}}, loosens: true, {APPROVED}}}",
    ]
    for order in (lines, lines[::-1]):
        snapshot = load(tmp_path, policy(rule()) + "overrides:\n" + "\n".join(order) + "\n")
        assert answer(snapshot).shadow is None
        assert answer(snapshot, tenant="acme").shadow.verdict == "block"
        assert answer(snapshot, now=datetime(2027, 1, 1, tzinfo=UTC)).verdict == "block", "both have ended"


def test_an_override_sets_strength_and_the_meaning_of_errors(tmp_path):
    then = "[{do: steer, concept: lettering, strength: 0.5}]"
    text = (
        policy(rule(then=then, more="on_error: apply"))
        + "overrides:\n  - {rule: r, tenants: [acme], set: {strength: 1.0, on_error: block}}\n"
    )
    snapshot = load(tmp_path, text)
    assert answer(snapshot, tenant="acme").steers[0].strength == 1.0
    assert answer(snapshot).steers[0].strength == 0.5
    from policies import Signals

    assert decide(Request(RUDE, tenant="acme"), Signals(), snapshot).verdict == "block"
    assert decide(Request(RUDE), Signals(), snapshot).verdict == "steer"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (overriding("{mode: shadow}"), "this loosens `r` by `mode`, which needs `loosens: true`, `approved_by`, `expires`"),
        (overriding("{mode: disabled}", ", loosens: true, approved_by: me"), "which needs `expires`"),
        (overriding("{on_error: allow}", ", loosens: true, expires: 2027-01-01"), "which needs `approved_by`"),
        (overriding("{mode: enforce}", f", loosens: true, {APPROVED}"), "nothing here is milder"),
        (overriding("{strength: 1.0}"), "steers nothing"),
        (overriding("{}"), "must hold at least one of"),
        (overriding("{mode: canary}"), "`percent` goes with"),
        (overriding("{mode: canary, percent: 5}", f", loosens: true, {APPROVED}"), "secret key"),
        (overriding("{verdict: allow}"), "unknown field `verdict`"),
        (overriding("{mode: enforce}").replace("rule: r,", "rule: q,"), "unknown rule `q`"),
    ],
)  # fmt: skip
def test_an_override_that_may_not_be_is_refused(tmp_path, text, says):
    assert says in str(refusal(tmp_path, text))


FLOOR = policy(rule(), name="floor")


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([FLOOR, policy(rule("s")) .replace("name: p\n", "name: q\n") + f"overrides:\n  - {{rule: r, set: {{mode: shadow}}, loosens: true, {APPROVED}}}\n"], "a rule of the floor, which cannot be overridden"),
        ([FLOOR + f"overrides:\n  - {{rule: r, set: {{mode: shadow}}, loosens: true, {APPROVED}}}\n"], "cannot be overridden"),
        ([policy(rule(more=EXCEPTION), name="floor")], "rules of the floor cannot have exceptions"),
        ([policy(rule(more="rollout: {mode: shadow}"), name="floor")], "rules of the floor are enforced"),
        ([policy(rule(more="rollout: {mode: disabled}"), name="floor")], "rules of the floor are enforced"),
        ([policy(rule(more="on_error: allow"), name="floor")], "must not allow a request that it cannot judge"),
        ([FLOOR, policy(rule("s"), name="floor")], "names are unique"),
        ([FLOOR, policy(rule("r"), name="q")], "ids are unique"),
    ],
)  # fmt: skip
def test_nothing_loosens_the_floor(tmp_path, texts, says):
    assert says in str(refusal(tmp_path, *texts))


def test_no_other_policy_outweighs_the_floor(tmp_path):
    kind = rule("kind", when="{prompt: {any_of: [sign]}}", then="[{do: label, value: fine}]")
    assert (
        answer(
            load(
                tmp_path,
                FLOOR,
                policy(kind, name="a"),
                policy(rule("z", then="[{do: steer, concept: lettering}]"), name="z"),
            )
        ).verdict
        == "block"
    )


def test_a_running_service_loses_no_part_of_its_floor_without_a_new_version(tmp_path):
    from policies import Store

    file = tmp_path / "floor.yaml"
    two = policy(rule(), rule("s", when="{prompt: {any_of: [hill]}}"), name="floor")
    file.write_text(two)
    (tmp_path / "p.yaml").write_text(policy(rule("t", when="{prompt: {any_of: [lake]}}")))
    store = Store(Loader(sense), tmp_path)
    before = store.snapshot
    for text in (
        FLOOR,
        two.replace("grumpf, blorch", "grumpf"),
        two.replace("version: 1.0.0", "version: 1.0.0", 1).replace("do: block", "do: label, value: x", 1),
    ):
        file.write_text(text)  # cut off after a rule, a word less, a milder action
        state = store.poll()
        assert (state.source, {p.code for p in state.last_problems}) == ("last-good", {"floor"}), state.last_error
        assert store.snapshot is before
    file.unlink()
    assert "cannot drop its floor" in store.poll().last_error
    file.write_text(two.replace("[hill]", "[hill, moor]"))
    assert store.poll().source == "live", "tightening needs nothing"
    file.write_text(FLOOR.replace("version: 1.0.0", "version: 1.1.0"))
    assert store.poll().source == "live", "said on purpose"


@pytest.mark.parametrize(
    ("needs", "code", "says"),
    [
        ("{engine: 99.0.0}", "unmet", "needs version 99.0.0"),
        ("{hosts: [a, b]}", "other-host", "made for `a`, `b`, and this is `host`"),
        ("{packs: [lettering, style/marlo]}", "unmet", "no pack of `style/marlo` fits this model: not localized"),
        ("{detectors: {prompt: [harm/gore]}}", "unmet", "no detector covers `harm/gore` in the prompt"),
        ("{detectors: {picture: [style/marlo]}}", "unmet", "no detector covers `style/marlo` in the picture"),
    ],
)
def test_what_a_policy_requires_must_be_there(tmp_path, needs, code, says):
    around = {
        "host": "host",
        "packs": lambda c: None if c == "lettering" else "not localized",
        "reads": frozenset({"lettering"}),
        "engine": "1.2.3",
    }
    error = refusal(tmp_path, policy(rule(), more=f"requires: {needs}\n"), **around)
    assert error.codes == (code,)
    assert says in str(error)
    met = "requires: {engine: 1.2.3, hosts: [host], packs: [lettering], detectors: {prompt: [toxicity], picture: [lettering]}}\n"
    assert load(tmp_path, policy(rule(), more=met), **around)
    assert load(tmp_path, policy(rule(), more="requires: {hosts: [a], packs: [style/marlo]}\n")), (
        "nobody said what is there"
    )


def test_a_policy_that_is_made_for_a_model_beside_this_one_is_left_out(tmp_path):
    own = policy(rule(), more="requires: {hosts: [host, other]}\n")
    others = policy(rule(id="theirs"), name="theirs", more="requires: {hosts: [other, third]}\n")
    found = load(tmp_path, own, others, host="host", others=frozenset({"host", "other"}))
    assert [r.policy for r in found.rules] == ["p"]
    error = refusal(tmp_path, own, others, host="host", others=frozenset({"fourth"}))
    assert error.codes == ("other-host",), "nobody serves a model that it is made for"


@pytest.mark.parametrize(
    ("on_stale", "hill", "acme", "canary"),
    [
        ("serve", "allow", "allow", "allow"),
        ("tighten", "allow", "block", "block"),
        ("refuse", "block", "block", "block"),
    ],
)
def test_a_policy_that_is_too_old_says_so_grows_stricter_or_refuses(tmp_path, on_stale, hill, acme, canary):
    rules = (
        rule(more=EXCEPTION),
        rule("c", when="{prompt: {any_of: [lake]}}", more="rollout: {mode: canary, percent: 0.0001}\non_error: allow"),
    )
    snapshot = load(
        tmp_path, policy(*rules, more=f"freshness: {{max_age: 2h, on_stale: {on_stale}}}\n"), canary_key=b"k"
    )
    fresh, old = (replace(snapshot, as_of=NOW - timedelta(hours=h)) for h in (2, 3))
    for young in (snapshot, fresh):
        assert answer(young, tenant="acme").verdict == "allow"
        assert answer(young, "a lake").verdict == "allow"
        assert answer(young).stale == ()
    assert answer(old, "a hill").verdict == hill
    assert answer(old, tenant="acme").verdict == acme
    assert answer(old, "a lake").verdict == canary
    assert answer(old).stale == ("p",)
    assert any("stale: p" in line for line in narrate(Request(RUDE, now=NOW), answer(old), old))


def test_tests_in_files_may_set_the_age_and_look_at_exemptions(tmp_path):
    tests = """
tests:
  - {name: old, given: {prompt: a hill, age: 3h}, expect: {verdict: block, errors: []}}
  - {name: young, given: {prompt: a hill, age: 1h}, expect: {verdict: allow}}
"""
    text = policy(rule(), more="freshness: {max_age: 2h, on_stale: refuse}\n") + tests
    results = [r.passed for r in run_tests(Loader(sense).load_untested(_file(tmp_path, text)), sense)]
    assert results == [False, True], "the error of a policy is named after it"


def test_a_test_of_what_matches_holds_through_every_rollout(tmp_path):
    tests = f"""
tests:
  - {{name: a, given: {{prompt: '{RUDE}'}}, expect: {{matched: [r]}}}}
  - {{name: b, given: {{prompt: '{RUDE}', tenant: acme, now: 2026-12-01}}, expect: {{matched: [r]}}}}
  - {{name: c, given: {{prompt: a hill}}, expect: {{matched: []}}}}
"""
    for rollout in ("{mode: shadow}", "{mode: canary, percent: 5}", "{mode: enforce}"):
        text = policy(rule(more=f"rollout: {rollout}\n{EXCEPTION}")) + tests
        loaded = Loader(sense, canary_key=b"k").load_files(_file(tmp_path, text))
        assert list(advice(loaded, NOW)) == []
    broken = text.replace("matched: []", "matched: [r]")
    with pytest.raises(PolicyError, match="expected matched `r`, got `none`"):
        Loader(sense, canary_key=b"k").load(_file(tmp_path, broken))


def _file(folder: Path, text: str) -> Path:
    (folder / "p.yaml").write_text(text)
    return folder / "p.yaml"


def test_a_canary_by_tenant_or_prompt_is_all_or_nothing_for_them(tmp_path):
    for by, fixed in (("tenant", {"tenant": "acme"}), ("prompt", {})):
        snapshot = load(
            tmp_path, policy(rule(more=f"rollout: {{mode: canary, percent: 50, by: {by}}}")), canary_key=b"k"
        )
        assert len({answer(snapshot, id=str(i), **fixed).verdict for i in range(40)}) == 1
    prompts = [f"{RUDE} and a {i}" for i in range(40)]
    assert len({answer(snapshot, p).verdict for p in prompts}) == 2


def test_several_syntax_errors_of_several_files_come_at_once(tmp_path):
    first = policy(rule()).replace("why: because the test says so", "why: because: it says so") + "tests: [\n"
    second = "a: 'never closed\nb: {\n"
    found = refusal(tmp_path, first, second).problems
    assert [(Path(p.file).name, p.code) for p in found] == [("0.yaml", "syntax")] * 2 + [("1.yaml", "syntax")] * 2
    assert all(p.line for p in found)


def test_rules_beside_a_malformed_one_are_reviewed_all_the_same(tmp_path):
    bad = rule("a", then="[{do: blok}]") + rule("b", when="{prompt: {any_of: [$nope]}}")
    found = refusal(tmp_path, policy(bad, more="overrides:\n  - {rule: b, set: {mode: shadow}}\n")).problems
    assert [p.path for p in found] == ["overrides[0]", "rules[0].then[0]", "rules[1].when.prompt.any_of[0]"]


def test_problems_are_plain_json_with_codes(tmp_path):
    found = refusal(tmp_path, policy(rule(then="[{do: blok}]"))).to_dict()["problems"]
    assert json.loads(json.dumps(found))[0] == {
        "file": str(tmp_path / "0.yaml"), "line": 11, "column": 12, "path": "rules[0].then[0]",
        "message": "unknown action `blok`; did you mean `block`?", "code": "invalid",
    }  # fmt: skip


SCHEMA = Path(policies.__file__).parent / "palimpsest.policy.v1.schema.json"


def test_the_shipped_json_schema_is_the_models_own():
    assert json.loads(SCHEMA.read_text("utf-8")) == json_schema(), "run: palimpsest policy schema > " + SCHEMA.name


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.yaml")), ids=lambda f: f.stem)
def test_a_validator_accepts_the_shipped_policies(file):
    validator = jsonschema.Draft202012Validator(json_schema(), format_checker=jsonschema.FormatChecker())
    validator.check_schema(json_schema())
    assert list(validator.iter_errors(plain(file.read_text("utf-8")))) == []


@pytest.mark.parametrize(
    "change",
    [
        ("do: block", "do: blok"),
        ("    category: test", "    categroy: test"),
        ("lettering: {any_of", "letering: {any_of"),
        ("{lettering: {any_of: [grumpf, blorch]}}", "{lettering: {any_of: [a]}, prompt: {any_of: [b]}}"),
        ("any_of: [grumpf, blorch]", "any_of: [a], asked: true"),
        ("any_of: [grumpf, blorch]", "any_of: []"),
        ("version: 1.0.0", "version: one"),
        ("    category: test", "    category: test\n    rollout: {mode: on}"),
        (
            "    category: test",
            "    category: test\n    exceptions: [{id: e, tenants: [a], reason: r, approved_by: me}]",
        ),
        ("owner: me@example.com", "owner: me\nfreshness: {max_age: 5w, on_stale: serve}"),
        ("    category: test", "    category: test\n    unfit: null"),
    ],
)
def test_a_validator_refuses_what_the_loader_refuses(tmp_path, change):
    text = policy(rule())
    assert change[0] in text
    broken = text.replace(*change)
    assert refusal(tmp_path, broken)
    assert list(jsonschema.Draft202012Validator(json_schema()).iter_errors(plain(broken)))


def plain(text):
    """The value as an editor's validator sees it: dates as text."""
    value, _, problems = parse_yaml(text, file="x")
    assert not problems
    return json.loads(json.dumps(value, default=lambda d: d.isoformat()))


def test_a_file_without_anything_is_told_so(tmp_path):
    assert "holds nothing but a null" in str(refusal(tmp_path, "null\n"))
    assert yaml.safe_load(HEAD.format(name="p"))["name"] == "p"
