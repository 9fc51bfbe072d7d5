# ruff: noqa: E501  tables of cases are read a case a line
"""Laws of the decision: no order matters, more rules are never milder, shadows change nothing, failures are strict."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.text import read_text, sense
from policies import VERDICTS, Block, Box, Request, ReviewHold, Signal, Signals, decide
from policies.decide.compiler import compile_snapshot
from policies.format.model import PolicyModel
from policies.types import EPOCH
from tests.policies.helpers import load, policy, rule

WORDS = ("grumpf", "blorch", "snirt", "wexl")


def leaf():
    word = st.sampled_from(WORDS)
    return st.one_of(
        word.map(lambda w: {"lettering": {"any_of": [w]}}),
        word.map(lambda w: {"prompt": {"any_of": [w]}}),
        st.sampled_from(("acme", "beta")).map(lambda t: {"tenant": {"any_of": [t]}}),
        st.sampled_from((0.2, 0.8)).map(lambda s: {"toxicity_at_least": s}),
        st.sampled_from((0.2, 0.8)).map(lambda s: {"concept": {"name": "character/pip", "at_least": s}}),
        word.map(lambda w: {"picture": {"lettering": {"any_of": [w]}}}),
    )


CONDITION = st.recursive(
    leaf(),
    lambda inner: st.tuples(st.sampled_from(("all", "any", "none")), st.lists(inner, min_size=1, max_size=3)).map(
        lambda pair: {pair[0]: pair[1]}
    ),
    max_leaves=5,
)
THEN = st.sampled_from(
    (
        [{"do": "block"}],
        [{"do": "review-hold"}],
        [{"do": "label", "value": "seen"}],
        [
            {"do": "steer", "concept": "lettering"},
            {"do": "verify", "read": "lettering", "none_of": ["grumpf"], "ladder": ["wider", "blur"]},
        ],
    )
)


@st.composite
def rules(draw, modes=("enforce", "shadow", "disabled"), most=5):
    count = draw(st.integers(1, most))
    return [
        {
            "id": f"r{i}",
            "why": "a law",
            "category": "law",
            "when": draw(CONDITION),
            "then": draw(THEN),
            "on_error": draw(st.sampled_from(("block", "apply", "allow"))),
            "rollout": {"mode": draw(st.sampled_from(modes))},
        }
        for i in range(count)
    ]


@st.composite
def worlds(draw):
    """A request, its signals (some of them errors or missing), and those of a picture."""
    said = draw(st.lists(st.sampled_from((*WORDS, "hello")), max_size=3))
    prompt = " ".join([*draw(st.lists(st.sampled_from(WORDS), max_size=2)), f'a sign that says "{" ".join(said)}"'])
    request = Request(prompt, tenant=draw(st.sampled_from(("", "acme", "beta"))), id="1")
    sensed = sense(request)
    score = draw(st.sampled_from((0.0, 0.5, 0.9)))
    scored = tuple(Signal(n, "test", "1", score=score) for n in ("toxicity", "character/pip"))
    kept = tuple(s for s in sensed.items if s.name in ("text", "lettering"))
    prompt_signals = Signals(kept + scored, sensed.covered)
    for name in draw(st.sets(st.sampled_from(("lettering", "toxicity", "text")), max_size=1)):
        prompt_signals = Signals(
            (*prompt_signals.items, Signal(name, "test", "1", error="timeout")), prompt_signals.covered
        )
    word = draw(st.sampled_from((*WORDS, "hello", "")))
    read = (Signal("lettering", "test", "1", "picture", text=word, views=read_text(word)),) if word else ()
    covered = frozenset({("picture", "lettering")}) if draw(st.booleans()) else frozenset()
    return request, prompt_signals, Signals(read, covered)


def snapshot_of(items, name="p"):
    model = PolicyModel.model_validate(
        {"schema": "palimpsest.policy/v1", "name": name, "version": "1.0.0", "owner": "o", "rules": items}
    )
    return compile_snapshot([model], {})


def both_stages(world, snapshot):
    request, prompt, picture = world
    first = decide(request, prompt, snapshot)
    return first, decide(request, prompt + picture, snapshot, stage="picture", before=first)


def strictness(decision):
    return VERDICTS.index(decision.verdict)


@settings(max_examples=80, deadline=None)
@given(rules(), worlds(), st.randoms(use_true_random=False))
def test_the_order_of_rules_and_of_files_does_not_matter(items, world, rng):
    shuffled = rng.sample(items, len(items))
    assert both_stages(world, snapshot_of(items)) == both_stages(world, snapshot_of(shuffled))


@settings(max_examples=80, deadline=None)
@given(rules(), rules(modes=("enforce",), most=1), worlds())
def test_one_more_rule_never_makes_the_answer_milder(items, extra, world):
    more = [*items, {**extra[0], "id": "extra"}]
    for less, now in zip(both_stages(world, snapshot_of(items)), both_stages(world, snapshot_of(more)), strict=True):
        assert strictness(now) >= strictness(less)
        assert set(less.rules) <= set(now.rules)


@settings(max_examples=80, deadline=None)
@given(rules(), worlds())
def test_shadow_rules_change_nothing_that_is_done(items, world):
    lit = [r for r in items if r["rollout"]["mode"] == "enforce"]
    for full, bare in zip(both_stages(world, snapshot_of(items)), _bare(world, lit), strict=True):
        same = ("verdict", "actions", "rules", "reasons", "errors", "violations", "disclosures")
        assert [getattr(full, n) for n in same] == [getattr(bare, n) for n in same]
        assert full.reads >= bare.reads


def _bare(world, lit):
    empty = snapshot_of([{**rules_template(), "rollout": {"mode": "disabled"}}])
    return both_stages(world, snapshot_of(lit) if lit else empty)


def rules_template():
    return {"id": "x", "why": "w", "category": "c", "when": {"prompt": {"any_of": ["x"]}}, "then": [{"do": "block"}]}


@settings(max_examples=80, deadline=None)
@given(rules(modes=("enforce", "shadow")), worlds())
def test_the_verdict_of_a_picture_never_falls_below_that_of_its_prompt(items, world):
    first, second = both_stages(world, snapshot_of(items))
    assert strictness(second) >= strictness(first)


@settings(max_examples=80, deadline=None)
@given(rules(modes=("enforce",)), worlds())
def test_triggers_leave_out_only_rules_that_cannot_matter(items, world):
    snapshot = snapshot_of(items)
    slow = replace(snapshot, by_trigger={}, always=tuple(range(len(snapshot.rules))))
    assert both_stages(world, snapshot) == both_stages(world, slow)


@settings(max_examples=60, deadline=None)
@given(rules(modes=("enforce",)), worlds())
def test_a_decision_names_every_rule_that_acted_and_is_plain_json(items, world):
    import json

    for decision in both_stages(world, snapshot_of(items)):
        named = {*decision.rules, *(e.rule for e in decision.errors)}
        assert {a.rule for a in decision.actions} <= named
        assert (decision.verdict == "allow") == (
            not [a for a in decision.actions if a.do != "verify"] and not decision.violations
        )
        assert json.loads(json.dumps(decision.to_dict()))["verdict"] == decision.verdict


STEER = "[{do: steer, concept: lettering, toward: kind words}, {do: verify, read: lettering, none_of: [grumpf], near: 1, unless: [grumps], ladder: [%s], otherwise: %s}]"


def steering(tmp_path, ladder="wider, blur", otherwise="block", more=""):
    return load(tmp_path, policy(rule(then=STEER % (ladder, otherwise), more=more)))


def picture(*texts, error=None):
    items = tuple(
        Signal("lettering", "ocr", "1", "picture", text=t, box=Box(1, 2, 30, 12), views=read_text(t)) for t in texts
    )
    if error:
        return Signals((Signal("lettering", "ocr", "1", "picture", error=error),))
    return Signals(items, frozenset({("picture", "lettering")}))


def judged(snapshot, *, said='a sign that says "grumpf"', seen):
    request = Request(said)
    signals = sense(request)
    first = decide(request, signals, snapshot)
    return first, decide(request, signals + seen, snapshot, stage="picture", before=first)


def test_a_steered_picture_that_reads_well_is_steered_and_nothing_else(tmp_path):
    first, second = judged(steering(tmp_path), seen=picture("HELLO"))
    assert first.verdict == second.verdict == "steer"
    assert first.reads == {"lettering"}
    assert second.ladder is None
    assert first.steers[0].donor(Request('a sign that says "grumpf"')) == 'a sign that says "kind words"'


def test_where_a_piece_is_at_fault_alone_what_is_read_with_it_is_not(tmp_path):
    """A moon that is read as a C, and the line that has both: the sign is at fault, not the picture."""
    sign, sky = Box(7, 39, 57, 61), Box(2, 0, 63, 43)
    both = Box(2, 0, 63, 61)

    def at(text, box):
        return Signal("lettering", "ocr", "1", "picture", 0.9, text=text, box=box, views=read_text(text))

    def seen(*items):
        return Signals(items, frozenset({("picture", "lettering")}))

    _, one = judged(steering(tmp_path), seen=seen(at("C", sky), at("GRUMPF", sign), at("C GRUMPF", both)))
    assert one.ladder.boxes == (sign,)
    _, split = judged(steering(tmp_path), seen=seen(at("GRUM", sky), at("PF", sign), at("GRUM PF", both)))
    assert split.ladder.boxes == (both,)


@pytest.mark.parametrize("read", ["GRUMPF", "grump f", "GRUMPE", "GRUMP", "GRRUMPF", "6RUMPF", "GRUM\nPF"])
def test_a_picture_that_still_reads_the_word_or_nearly_climbs_the_ladder(tmp_path, read):
    _, second = judged(steering(tmp_path), seen=picture("OTHER", read))
    assert second.verdict == "block"
    assert second.ladder.rungs == ("wider", "blur")
    assert second.ladder.after("wider") == ("blur",)
    assert second.ladder.boxes == (Box(1, 2, 30, 12),)
    assert second.violations[0].verify.max_extra_generations == 2


def test_a_word_of_unless_is_not_near_anything(tmp_path):
    _, second = judged(steering(tmp_path), seen=picture("GRUMPS"))
    assert second.violations == ()


def test_the_end_of_the_ladder_is_the_rules_choice(tmp_path):
    _, second = judged(steering(tmp_path, otherwise="review-hold"), seen=picture("GRUMPF"))
    assert second.verdict == second.ladder.otherwise == "review-hold"


def test_a_picture_judged_after_a_rung_is_judged_under_the_same_rules(tmp_path):
    snapshot = steering(tmp_path)
    request = Request('a sign that says "grumpf"')
    signals = sense(request)
    _, bad = judged(snapshot, seen=picture("GRUMPF"))
    good = decide(request, signals + picture("HELLO"), snapshot, stage="picture", before=bad)
    assert good.verdict == "steer"
    assert good.ladder is None


@pytest.mark.parametrize(
    ("on_error", "otherwise", "verdict"),
    [("block", "review-hold", "block"), ("apply", "review-hold", "review-hold"), ("apply", "block", "block"), ("allow", "block", "steer")],
)  # fmt: skip
def test_a_reader_that_fails_skips_the_ladder(tmp_path, on_error, otherwise, verdict):
    _, second = judged(
        steering(tmp_path, otherwise=otherwise, more=f"on_error: {on_error}"), seen=picture(error="timeout: 5 s")
    )
    assert second.verdict == verdict
    assert second.ladder is None
    assert [e.text for e in second.errors] == ["ocr: timeout: 5 s"]


def test_a_reader_that_nobody_ran_counts_as_failed(tmp_path):
    _, second = judged(steering(tmp_path), seen=Signals())
    assert second.verdict == "block"
    assert "no detector read `lettering` of the picture" in second.errors[0].text


@pytest.mark.parametrize(("on_error", "verdict", "action"), [("block", "block", Block), ("apply", "review-hold", ReviewHold), ("allow", "allow", None)])  # fmt: skip
def test_a_detector_of_the_prompt_that_fails_makes_the_rule_do_what_on_error_says(tmp_path, on_error, verdict, action):
    snapshot = load(tmp_path, policy(rule(then="[{do: review-hold}]", more=f"on_error: {on_error}")))
    signals = Signals((Signal("lettering", "d", "1", error="error: ValueError"),))
    decision = decide(Request("x"), signals, snapshot)
    assert decision.verdict == verdict
    assert [type(a) for a in decision.actions] == ([action] if action else [])
    assert decision.errors[0].rule == "r"


def test_a_picture_that_breaks_a_rule_unasked_climbs_too_and_stays_steered(tmp_path):
    when = "{any: [{lettering: {any_of: [grumpf]}}, {picture: {lettering: {any_of: [grumpf]}}}]}"
    snapshot = load(tmp_path, policy(rule(when=when, then=STEER % ("wider, blur", "block"))))
    first, second = judged(snapshot, said="a quiet street", seen=picture("GRUMPF"))
    assert (first.verdict, first.reads) == ("allow", {"lettering"})
    assert second.verdict == "block"
    assert second.ladder is not None
    request = Request("a quiet street")
    third = decide(request, sense(request) + picture("TREES"), snapshot, stage="picture", before=second)
    assert third.verdict == "steer"


def test_a_rule_is_in_force_from_and_until_its_dates(tmp_path):
    snapshot = load(tmp_path, policy(rule(more="active: {from: 2026-01-01, until: 2026-02-01T12:00:00Z}")))
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, 12, tzinfo=UTC)

    def at(now):
        request = Request('a sign that says "grumpf"', now=now)
        return decide(request, sense(request), snapshot).verdict

    tick = timedelta(microseconds=1)
    assert [at(t) for t in (EPOCH, start - tick, start, end - tick, end)] == [
        "allow",
        "allow",
        "block",
        "block",
        "allow",
    ]


def test_a_canary_acts_on_its_share_and_shadows_the_rest_the_same_way_every_time(tmp_path):
    snapshot = load(tmp_path, policy(rule(more="rollout: {mode: canary, percent: 25}")), canary_key=b"k")
    request = Request('a sign that says "grumpf"')
    signals = sense(request)
    decisions = [decide(replace(request, id=str(i)), signals, snapshot) for i in range(2000)]
    assert decisions == [decide(replace(request, id=str(i)), signals, snapshot) for i in range(2000)]
    acted = [d for d in decisions if d.verdict == "block"]
    assert 400 < len(acted) < 600
    assert all(d.shadow.verdict == "block" for d in decisions if d.verdict == "allow")
    other = replace(snapshot, canary_key=b"l")
    assert [d.verdict for d in decisions] != [
        decide(replace(request, id=str(i)), signals, other).verdict for i in range(2000)
    ]


def test_a_shadow_rule_that_would_steer_is_not_judged_by_a_picture_that_it_did_not_steer(tmp_path):
    snapshot = steering(tmp_path, more="rollout: {mode: shadow}")
    first, second = judged(snapshot, seen=picture("GRUMPF"))
    assert (first.verdict, first.shadow.verdict) == ("allow", "steer")
    assert (second.verdict, second.shadow.verdict, second.shadow.rules) == ("allow", "steer", ("r",))
    when = "{any: [{lettering: {any_of: [grumpf]}}, {picture: {lettering: {any_of: [grumpf]}}}]}"
    late = load(tmp_path, policy(rule(when=when, then=STEER % ("blur", "block"), more="rollout: {mode: shadow}")))
    _, second = judged(late, said="a quiet street", seen=picture("GRUMPF"))
    assert second.shadow.verdict == "block", "nobody asked for it: steering would have come too late"


@pytest.mark.parametrize(("disclose", "seen"), [("nothing", []), ("category", [("test", None, None)]), ("reason", [("test", "r", "because the test says so")])])  # fmt: skip
def test_callers_learn_what_the_rule_discloses(tmp_path, disclose, seen):
    snapshot = load(tmp_path, policy(rule(more=f"disclose: {disclose}")))
    request = Request('a sign that says "grumpf"')
    decision = decide(request, sense(request), snapshot)
    assert [(d.category, d.rule, d.why) for d in decision.disclosures] == seen


FAILED = "{lettering: {any_of: [grumpf]}}"  # the detector of lettering fails below
TRUE, FALSE = "{tenant: {any_of: [acme]}}", "{tenant: {any_of: [beta]}}"


@pytest.mark.parametrize(
    ("when", "truth"),
    [
        (f"{{all: [{FAILED}, {TRUE}]}}", None),
        (f"{{all: [{FAILED}, {FALSE}]}}", False),
        (f"{{any: [{FAILED}, {TRUE}]}}", True),
        (f"{{any: [{FAILED}, {FALSE}]}}", None),
        (f"{{none: [{FAILED}, {TRUE}]}}", False),
        (f"{{none: [{FAILED}, {FALSE}]}}", None),
        (f"{{none: [{FALSE}, {FALSE}]}}", True),
    ],
)
def test_a_failed_detector_is_neither_true_nor_false(tmp_path, when, truth):
    snapshot = load(tmp_path, policy(rule(when=when, then="[{do: label, value: seen}]")))
    signals = Signals((Signal("lettering", "d", "1", error="timeout"),))
    decision = decide(Request("x", tenant="acme"), signals, snapshot)
    assert (decision.verdict, len(decision.errors)) == {None: ("block", 1), False: ("allow", 0), True: ("label", 0)}[
        truth
    ]


def test_tenants_match_by_name_and_by_prefix(tmp_path):
    snapshot = load(tmp_path, policy(rule(when="{tenant: {any_of: [acme, edu-*]}}")))

    def verdict(tenant):
        return decide(Request("x", tenant=tenant), sense(Request("x")), snapshot).verdict

    assert [verdict(t) for t in ("acme", "edu-mit", "acme2", "", "edu")] == [
        "block",
        "block",
        "allow",
        "allow",
        "allow",
    ]


def test_a_thousand_rules_and_ten_thousand_words_are_decided_within_a_millisecond():
    import time

    rng = random.Random(3)

    def words(n):
        return ["".join(rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(4)) for _ in range(n)]

    items = [
        {**rules_template(), "id": f"r{i}", "when": {"any": [{"lettering": {"any_of": words(8)}}, {"prompt": {"any_of": words(2)}}]}}
        for i in range(1000)
    ]  # fmt: skip
    snapshot = snapshot_of(items)
    hit = items[0]["when"]["any"][0]["lettering"]["any_of"][0]
    prompts = [f'{" ".join(words(30))} and a sign that says "{w}"' for w in (hit, "hello", "quiet day")]
    prepared = [(r := Request(p), sense(r)) for p in prompts]
    times = []
    for _ in range(100):
        for request, signals in prepared:
            start = time.thread_time()
            decision = decide(request, signals, snapshot)
            times.append(time.thread_time() - start)
    assert decide(*prepared[0], snapshot).verdict == "block"
    assert decision.verdict == "allow"
    times.sort()
    assert times[int(len(times) * 0.99)] < 1e-3  # of processor time: other work shares the machine
