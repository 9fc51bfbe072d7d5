"""Rules that watch: pictures are judged whatever the prompt said, as far as the rule is about this request at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from detectors.text import read_text, sense
from policies import Box, Request, Signal, Signals, decide, diff, narrate
from tests.policies.helpers import load, policy, rule

THEN = (
    "[{do: steer, concept: lettering, toward: $calm}, {do: verify, read: lettering, none_of: [grumpf], ladder: [blur]}]"
)
LISTS = "lists: {calm: {values: [bread, gentle]}}\n"
UNASKED = Request("a street at night", id="one")


def watching(tmp_path, watch="every-picture", when="{lettering: {any_of: [grumpf]}}", more=""):
    text = policy(rule(when=when, then=THEN, more=f"watch: {watch}\n{more}"), more=LISTS)
    return load(tmp_path, text)


def picture(*texts, error=None):
    if error:
        return Signals((Signal("lettering", "ocr", "1", "picture", error=error),))
    box = Box(1, 2, 30, 12)
    items = tuple(Signal("lettering", "ocr", "1", "picture", text=t, box=box, views=read_text(t)) for t in texts)
    return Signals(items, frozenset({("picture", "lettering")}))


def both(snapshot, request=UNASKED, seen=None):
    signals = sense(request)
    first = decide(request, signals, snapshot)
    seen = picture("GRUMPF") if seen is None else seen
    return first, decide(request, signals + seen, snapshot, stage="picture", before=first)


def test_a_picture_that_nobody_asked_for_violates_the_rule_and_is_steered_first(tmp_path):
    first, second = both(watching(tmp_path))
    assert (first.verdict, first.rules, first.reads) == ("allow", (), {"lettering"})
    assert (second.verdict, second.rules) == ("block", ("r",))
    assert second.ladder.rungs == ("steer", "blur")
    assert second.reasons[0].word == "grumpf"
    third = decide(UNASKED, sense(UNASKED) + picture("GRUMPF"), watching(tmp_path), stage="picture", before=second)
    assert third.ladder.rungs == ("blur",), "once it was steered, the rule's own ladder is left"


def test_a_harmless_picture_leaves_untouched(tmp_path):
    _, second = both(watching(tmp_path), seen=picture("BAKERY"))
    assert (second.verdict, second.rules, second.violations) == ("allow", (), ())


def test_matched_prompts_only_reads_no_other_picture(tmp_path):
    first, second = both(watching(tmp_path, "matched-prompts"))
    assert (first.reads, second.verdict) == (frozenset(), "allow")


@pytest.mark.parametrize(
    ("when", "request_", "watched"),
    [
        ("{all: [{tenant: {any_of: [kids]}}, {lettering: {any_of: [grumpf]}}]}", {"tenant": "kids"}, True),
        ("{all: [{tenant: {any_of: [kids]}}, {lettering: {any_of: [grumpf]}}]}", {"tenant": "art"}, False),
        ("{all: [{lettering: {any_of: [grumpf]}}, {none: [{prompt: {any_of: [museum]}}]}]}", {}, True),
        ("{all: [{lettering: {any_of: [grumpf]}}, {none: [{prompt: {any_of: [street]}}]}]}", {}, False),
        ("{any: [{lettering: {any_of: [grumpf]}}, {tenant: {any_of: [kids]}}]}", {"tenant": "art"}, True),
        ("{all: [{time: {until: 2020-01-01}}, {lettering: {any_of: [grumpf]}}]}", {}, False),
    ],
)
def test_what_a_rule_says_of_the_request_itself_must_hold(tmp_path, when, request_, watched):
    request = replace(UNASKED, now=datetime(2026, 12, 1, tzinfo=UTC), **request_)
    first, second = both(watching(tmp_path, when=when), request)
    assert (first.reads == {"lettering"}, second.verdict == "block") == (watched, watched)


def test_a_sample_is_drawn_by_request_and_alike_at_both_stages(tmp_path):
    snapshot = watching(tmp_path, "{share: 0.25}")
    drawn = 0
    for k in range(400):
        first, second = both(snapshot, replace(UNASKED, id=f"request-{k}"))
        assert bool(first.reads) == (second.verdict == "block")
        drawn += bool(first.reads)
    assert 70 <= drawn <= 130
    asked = Request('a sign that says "grumpf"')
    assert both(snapshot, asked)[1].verdict == "block", "a prompt that asks is always checked"


def test_a_watched_picture_that_cannot_be_read_gets_what_on_error_says(tmp_path):
    _, blocked = both(watching(tmp_path), seen=picture(error="timeout: 5 s"))
    assert (blocked.verdict, [e.rule for e in blocked.errors]) == ("block", ["r"])
    _, allowed = both(watching(tmp_path, more="on_error: allow\n"), seen=picture(error="timeout: 5 s"))
    assert (allowed.verdict, [e.rule for e in allowed.errors]) == ("allow", ["r"])


def test_a_shadow_rule_watches_and_changes_nothing(tmp_path):
    first, second = both(watching(tmp_path, more="rollout: {mode: shadow}\n"))
    assert first.reads == {"lettering"}
    assert (second.verdict, second.shadow.verdict, second.shadow.rules) == ("allow", "block", ("r",))


def test_the_donor_replaces_the_words_that_are_like_what_was_read_or_else_all_lettering(tmp_path):
    snapshot = watching(tmp_path)
    for said, donor in (
        ('a star with a sign that says "GRUMFP"', 'a star with a sign that says "GENTLE"'),
        ("a star over a grumpfy town", "a star over a gentle town"),
        ('a star with a sign that says "WOLF"', 'a star with a sign that says "BREAD"'),
        ("a star over a town", None),
    ):
        request = Request(said)
        _, second = both(snapshot, request)
        assert second.steers[0].donor(request) == donor, said


def test_watching_less_loosens_and_is_told(tmp_path):
    for folder in "abc":
        (tmp_path / folder).mkdir()
    every = watching(tmp_path / "a")
    some = watching(tmp_path / "b", "{share: 0.25}")
    none = watching(tmp_path / "c", "matched-prompts")
    said = [(c.text, c.loosens) for old, new in ((every, some), (some, none), (none, every)) for c in diff(old, new)]
    assert said == [
        ("watch: every picture -> 25 % of pictures", True),
        ("watch: 25 % of pictures -> matching prompts", True),
        ("watch: matching prompts -> every picture", False),
    ]
    assert [r.trusts_the_prompt for s in (every, some, none) for r in s.rules] == [False, True, True]
    (tmp_path / "d").mkdir()
    blocks = (
        rule("a", when="{prompt: {any_of: [grumpf]}}"),
        rule("b", when="{picture: {lettering: {any_of: [grumpf]}}}"),
        rule("c", when="{all: [{prompt: {any_of: [sign]}}, {picture: {lettering: {any_of: [grumpf]}}}]}"),
    )
    snapshot = load(tmp_path / "d", policy(*blocks))
    assert {r.id: (r.watch, r.trusts_the_prompt) for r in snapshot.rules if r.id in "abc"} == {
        "a": ("no picture", True),
        "b": ("pictures as its condition asks", False),
        "c": ("pictures as its condition asks", True),
    }
    lines = list(narrate(UNASKED, decide(UNASKED, sense(UNASKED), every), every))
    assert lines[-1] == "  whatever the prompt says, its picture is watched by: r"
