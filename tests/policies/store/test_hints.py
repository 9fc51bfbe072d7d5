# ruff: noqa: E501, UP031  tables of cases are read a case a line; policies are full of braces
"""Hints about valid policies: each has a place, and what is as it should be gives none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from detectors.text import sense
from policies import SHIPPED, Loader, Remark, Request, advice, decide
from tests.policies.helpers import policy, rule

NOW = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)  # a Saturday
APPROVED = "reason: r, approved_by: me, expires: 2027-01-01"
VERIFY = "{do: verify, read: %s, ladder: [], %s}"


def hints(folder: Path, text: str, *, now: datetime = NOW, **options) -> list[Remark]:
    """The hints about a policy, without those about its tests."""
    (folder / "p.yaml").write_text(text, "utf-8")
    loaded = Loader(sense=sense, reads=frozenset({"lettering", "character/pip", "style/marlo"})).load_files(folder)
    return [r for r in advice(loaded, now, **options) if "no test shows" not in r.message]


def listed(folder: Path, *entries: str, when: str = "{lettering: {any_of: [$w]}}") -> list[Remark]:
    """The hints about a policy with a list file of these entries."""
    (folder / "w.txt").write_text("".join(f"{e}\n" for e in ("# words", "grumpf", *entries)), "utf-8")
    return hints(folder, policy(rule(when=when), more="lists: {w: {file: w.txt}, toxic: {values: [blorch]}}\n"))


@pytest.mark.parametrize(
    "entry",
    ["id.*t", "^foo$", "foo*", "*foo", "f*o", "[a-z]", "i[d1]iot", r"\bfoo\b", "(foo|bar)", "foo|bar", "colou?r", "foo?", "fo{2,}", "{foo,bar}", "/foo/i", "%foo%", "fu+b", "foo$", ".+", "(?i)foo", r"foo\."],
)  # fmt: skip
def test_a_pattern_in_a_list_is_told_to_be_literal(tmp_path, entry):
    said = [h for h in listed(tmp_path, entry) if "pattern" in h.message]
    assert [(Path(h.file).name, h.line, h.column) for h in said] == [("w.txt", 3, 1)]
    assert f"`{entry}`" in said[0].message
    assert "entries are literal" in said[0].message


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ('"nitwit"', "quotes"), ("'nitwit'", "quotes"), ("“nitwit”", "quotes"), ("‘nitwit’", "quotes"), ("«nitwit»", "quotes"), ("`nitwit`", "quotes"), ("„nitwit“", "quotes"), ('nitwit"', "quotes"),
        ("nit\u200bwit", "U+200B ZERO WIDTH SPACE"), ("nit\u00adwit", "U+00AD SOFT HYPHEN"), ("\u202enitwit", "U+202E RIGHT-TO-LEFT OVERRIDE"), ("nit\u00a0wit", "U+00A0 NO-BREAK SPACE"), ("nit\ufe0fwit", "U+FE0F"), ("nit\u2060wit", "U+2060"), ("\ufeffnitwit", "U+FEFF"),
        ("nitwit,", "`,` at the end"), ("- nitwit", "item of a list"), ("nitwit,twerp", "a line each"),
        ("$toxic", "holds no other lists"),
        ("a", "nearly every prompt"), ("I", "nearly every prompt"), ("The", "nearly every prompt"), ("7", "nearly every prompt"),
        ("!!!", "neither a letter nor a digit"), ("$ % &", "neither a letter nor a digit"),
        ("Grumpf", "same entry as `grumpf` (line 2)"), ("ｇｒｕｍｐｆ", "same entry as `grumpf` (line 2)"),
        ("x" * 2001, "2001 characters and a prompt at most 2000"),
    ],
)  # fmt: skip
def test_an_entry_that_is_not_what_was_meant_is_told_at_its_line(tmp_path, entry, says):
    said = [h for h in listed(tmp_path, "twerp", entry) if says in h.message]
    assert [(Path(h.file).name, h.line) for h in said] == [("w.txt", 4)]


@pytest.mark.parametrize(
    "entry",
    ["moron", "kill yourself", "don't", "o'brien", "c++", "AC/DC", "24/7", "e.g. this", "rock 'n' roll", "go to hell!", "who do you think you are?", "50%", "1,000", "idiöt", "дурак", "バカ", "笨", "🖕", "LGBTQ+", "A$AP", "i.d.", "no. 1", "at-risk"],
)  # fmt: skip
def test_an_ordinary_entry_gives_no_hint(tmp_path, entry):
    assert [str(h) for h in listed(tmp_path, entry) if "`toxic`" not in h.message] == []


def test_everyday_words_are_right_where_they_only_spare_or_replace(tmp_path):
    spared = "{prompt: {any_of: [grumpf], unless: [$w]}}"
    assert not [h for h in listed(tmp_path, "the", when=spared) if "nearly every" in h.message]
    assert [h for h in listed(tmp_path, "the", when="{prompt: {any_of: [$w]}}") if "nearly every" in h.message]


def test_many_entries_of_one_kind_are_counted_not_listed(tmp_path):
    said = [h.message for h in listed(tmp_path, *(f"word{i}.*" for i in range(40)))]
    assert sum("looks like a pattern" in s for s in said) == 5
    assert "35 more like these, from here on" in said


@pytest.mark.parametrize("entry", ['"nitwit"', "nit.*", "nit\u200bwit"])
def test_what_is_hinted_at_is_truly_not_found(tmp_path, entry):
    listed(tmp_path, entry)
    request = Request('a sign that says "nitwit"', now=NOW)
    assert decide(request, sense(request), Loader(sense=sense).load(tmp_path)).verdict == "allow"


def test_words_in_rules_are_looked_at_where_they_stand(tmp_path):
    lists = "lists: {toxic: {values: [grumpf]}, kind: {values: [hello]}}\n"
    steer = f"[{{do: steer, concept: lettering, toward: kind}}, {VERIFY % ('lettering', 'none_of: [toxic]')}]"
    text = policy(
        rule(when="{any: [{prompt: {any_of: [toxic, 'id.*t']}}, {prompt: {any_of: [$toxic]}}]}", then=steer), more=lists
    )
    said = {h.path: h.message for h in hints(tmp_path, text)}
    assert "write `$toxic`" in said["rules[0].when.any[0].prompt.any_of[0]"]
    assert "looks like a pattern" in said["rules[0].when.any[0].prompt.any_of[1]"]
    assert "write `$kind`" in said["rules[0].then[0].toward"]
    assert "write `$toxic`" in said["rules[0].then[1].none_of[0]"]
    assert "rules[0].when.any[1].prompt.any_of[0]" not in said


WORDS = "{prompt: {any_of: [grumpf]}}"


@pytest.mark.parametrize(
    "when",
    [
        "{all: [{tenant: {any_of: [a]}}, {tenant: {any_of: [b, c*]}}]}",
        "{all: [%s, {none: [%s]}]}" % (WORDS, WORDS),
        "{all: [{prompt: {any_of: [grumpf]}}, {none: [{prompt: {any_of: [grumpf, blorch]}}]}]}",
        "{all: [{concept: {name: character/pip, at_least: 0.9}}, {none: [{concept: {name: character/pip, at_least: 0.5}}]}]}",
        "{time: {until: 2026-11-21}}",
        "{time: {from: 2026-11-22, until: 2026-11-23, weekdays: [fri]}}",
        '{all: [{time: {between: ["01:00", "02:00"]}}, {time: {between: ["02:00", "03:00"]}}]}',
        "{all: [{time: {weekdays: [mon, tue]}}, {time: {weekdays: [wed]}}]}",
        "{all: [{time: {until: 2026-12-01}}, {time: {from: 2026-12-01}}]}",
        "{none: [{tenant: {any_of: ['*']}}]}",
        "{none: [%s, {none: [%s]}]}" % (WORDS, WORDS),
        "{prompt: {any_of: [grumpf], unless: [Grumpf]}}",
    ],
)
def test_a_condition_that_no_request_fulfils_is_told(tmp_path, when):
    said = [h for h in hints(tmp_path, policy(rule(when=when))) if "can never match" in h.message]
    assert [h.path for h in said] == ["rules[0].when"]
    assert said[0].line > 0


@pytest.mark.parametrize(
    "when",
    [
        "{tenant: {any_of: ['*']}}",
        "{any: [%s, {none: [%s]}]}" % (WORDS, WORDS),
        "{any: [{time: {weekdays: [mon, tue, wed, thu]}}, {time: {weekdays: [fri, sat, sun]}}]}",
        '{any: [{time: {between: ["06:00", "18:00"]}}, {time: {between: ["18:00", "06:00"]}}]}',
        "{time: {from: 2020-01-01}}",
        "{none: [{all: [{tenant: {any_of: [a]}}, {tenant: {any_of: [b]}}]}]}",
    ],
)
def test_a_condition_that_every_request_fulfils_is_told(tmp_path, when):
    said = [h.path for h in hints(tmp_path, policy(rule(when=when))) if "matches every request" in h.message]
    assert said == ["rules[0].when"]


@pytest.mark.parametrize(
    "when",
    [
        WORDS,
        "{all: [{tenant: {any_of: [a*]}}, {tenant: {any_of: [ab]}}]}",
        "{all: [{tenant: {any_of: [a*]}}, {none: [{tenant: {any_of: [a]}}]}]}",
        "{all: [{prompt: {any_of: [grumpf, blorch]}}, {none: [{prompt: {any_of: [grumpf]}}]}]}",
        "{all: [{prompt: {any_of: [grumpf]}}, {none: [{lettering: {any_of: [grumpf]}}]}]}",
        "{time: {from: 2026-11-22, until: 2026-11-23, weekdays: [sun]}}",
        '{all: [{time: {between: ["23:00", "02:00"]}}, {time: {between: ["01:00", "03:00"]}}]}',
        "{time: {from: 2030-01-01}}",
        "{none: [{tenant: {any_of: [a]}}]}",
        "{all: [%s]}" % ", ".join("{prompt: {any_of: [word%d]}}" % i for i in range(20)),
    ],
)
def test_a_condition_that_may_or_may_not_hold_gives_no_hint(tmp_path, when):
    assert [str(h) for h in hints(tmp_path, policy(rule(when=when)))] == []


def test_a_part_that_can_never_hold_is_told_at_its_place(tmp_path):
    when = "{any: [%s, {all: [{tenant: {any_of: [a]}}, {tenant: {any_of: [b]}}]}]}" % WORDS
    said = hints(tmp_path, policy(rule(when=when)))
    assert [(h.path, "can never hold" in h.message) for h in said] == [("rules[0].when.any[1]", True)]


@pytest.mark.parametrize(
    ("exceptions", "spares_all"),
    [
        ("[{id: e, tenants: ['*'], %s}]", True),
        ("[{id: e, when: {prompt: {any_of: [grumpf, blorch]}}, %s}]", True),
        ("[{id: e, when: {time: {from: 2020-01-01}}, %s}]", True),
        ("[{id: e, when: {none: [{tenant: {any_of: [zzz]}}]}, %s}, {id: f, tenants: [z*], %s}]", True),
        ("[{id: e, tenants: [acme], %s}]", False),
        ("[{id: e, tenants: ['*'], reason: r, approved_by: me, expires: 2026-11-01}]", False),
        ("[{id: e, tenants: ['*'], when: {prompt: {any_of: [grumpf art]}}, %s}]", False),
    ],
)
def test_exceptions_that_spare_everybody_are_told(tmp_path, exceptions, spares_all):
    more = f"exceptions: {exceptions.replace('%s', APPROVED)}"
    said = [h.path for h in hints(tmp_path, policy(rule(when=WORDS, more=more))) if "spare every request" in h.message]
    assert said == (["rules[0].exceptions"] if spares_all else [])


def test_an_exception_that_spares_nobody_is_told(tmp_path):
    more = "exceptions: [{id: e, tenants: [a], when: {tenant: {any_of: [b]}}, %s}]" % APPROVED
    assert [h.path for h in hints(tmp_path, policy(rule(more=more)))] == ["rules[0].exceptions[0]"]


def test_what_has_ended_or_ends_soon_is_told_at_its_date(tmp_path):
    more = "active: {until: 2026-11-30}\nexceptions: [{id: e, tenants: [a], %s}]" % APPROVED
    override = "overrides: [{rule: r, set: {on_error: allow}, loosens: true, approved_by: me, expires: 2026-11-01}]\n"
    text = policy(rule(more=more), more=override)
    said = {h.path: h.message for h in hints(tmp_path, text)}
    assert said == {
        "rules[0].active.until": "rule `r` ends on 2026-11-30",
        "overrides[0].expires": "the override of `r` ended on 2026-11-01 and does nothing any more",
    }
    later = {h.path: h.message for h in hints(tmp_path, text, now=datetime(2027, 2, 1, tzinfo=UTC))}
    assert "ended on 2027-01-01" in later["rules[0].exceptions[0].expires"]
    assert "ended on 2026-11-30" in later["rules[0].active.until"]
    assert "rules[0].when" not in later, "that it has ended says it all"


def test_an_override_that_turns_a_rule_off_for_everybody_is_told(tmp_path):
    override = "overrides: [{rule: r, %sset: {mode: disabled}, loosens: true, approved_by: me, expires: 2027-01-01}]\n"
    for tenants, everybody in (("", True), ("tenants: ['*'], ", True), ("tenants: [acme], ", False)):
        said = [h.message for h in hints(tmp_path, policy(rule(), more=override % tenants))]
        assert said == (["this turns `r` off for everybody"] if everybody else [])


@pytest.mark.parametrize(
    ("then", "unseen"),
    [
        ("[{do: steer, concept: lettering}]", True),
        ("[{do: steer, concept: character/pip}, %s]" % (VERIFY % ("style/marlo", "below: 0.5")), True),
        ("[{do: steer, concept: character/pip}, %s]" % (VERIFY % ("character/pip", "below: 0.5")), False),
        ("[{do: steer, concept: lettering}, {do: block}]", False),
        ("[{do: block}]", False),
    ],
)
def test_a_steer_whose_picture_nobody_looks_at_is_told(tmp_path, then, unseen):
    said = [h.path for h in hints(tmp_path, policy(rule(then=then)))]
    assert said == (["rules[0].then[0]"] if unseen else [])


@pytest.mark.parametrize("tenant", ["*acme", "ac*me", "acme-?-[ab]x", "'acme'", "ac\u200bme"])
def test_a_tenant_that_nobody_is_called_is_told(tmp_path, tenant):
    for text in (
        policy(rule(when='{tenant: {any_of: ["%s"]}}' % tenant)),
        policy(rule(more='exceptions: [{id: e, tenants: ["%s"], %s}]' % (tenant, APPROVED))),
        policy(rule(), more='overrides: [{rule: r, tenants: ["%s"], set: {on_error: block}}]\n' % tenant),
    ):
        assert [h.path.rpartition(".")[2] for h in hints(tmp_path, text)] in (["any_of[0]"], ["tenants[0]"])
    assert hints(tmp_path, policy(rule(when="{tenant: {any_of: [acme-*]}}"))) == []


def test_rules_without_tests_and_lists_without_use_are_told(tmp_path):
    (tmp_path / "p.yaml").write_text(policy(rule(), more="lists: {v: {values: [y]}}\n"))
    said = {h.path: h.message for h in advice(Loader(sense).load_files(tmp_path), NOW)}
    assert said["lists.v"] == "nothing uses the list `v`"
    assert "leaving a harmless prompt alone" in said["rules[0].id"]


def test_what_we_ship_we_follow():
    assert list(advice(Loader(sense).load_files(SHIPPED), NOW)) == []
