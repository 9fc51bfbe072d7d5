# ruff: noqa: E501  tables of cases are read a case a line
"""Whatever is wrong with a policy is said at load time, all at once, with its place and a way out."""

from __future__ import annotations

import pytest

from detectors.text import sense
from policies import Loader, PolicyError, Request, Signal, Signals, decide, no_policy, policy_paths, run_tests
from tests.policies.helpers import HEAD, load, policy, rule


def problems(tmp_path, *texts, **options):
    with pytest.raises(PolicyError) as error:
        load(tmp_path, *texts, **options)
    return error.value.problems


def one(tmp_path, *texts, **options):
    (problem,) = problems(tmp_path, *texts, **options)
    return problem


def test_a_good_file_loads_and_its_digest_depends_on_content_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    text = policy(rule())
    first = load(tmp_path / "a", text)
    again = load(
        tmp_path / "b",
        "# a comment\n" + text.replace("why: because the test says so", 'why: "because the test says so"'),
    )
    (tmp_path / "b" / "0.yaml").rename(tmp_path / "b" / "other.yaml")
    assert first.digest == again.digest == Loader(sense=sense).load(tmp_path / "b").digest
    assert load(tmp_path / "a", text.replace("blorch", "blorc")).digest != first.digest


@pytest.mark.parametrize(
    ("broken", "place", "says"),
    [
        ("name: p\nname: q\n", (2, 1), "duplicate key `name`"),
        ("a: &x [1]\nb: *x\n", (1, 4), "anchors and aliases are not allowed"),
        ("a: [" * 40 + "]" * 40, None, "nested deeper than 32 levels"),
        ("a: [1, 2\nb: 3\n", (2, 2), "expected"),
        ("", None, "the file is empty"),
        ("a: !!python/object/apply:os.system ['true']\n", (1, 4), "could not determine a constructor"),
        ("a: " + "x" * (1 << 20), None, "larger than 1048576 bytes"),
        ("date: 2026-02-31\n", None, "day"),
        ("? [a, b]\n: c\n", (1, 3), "a key must be a plain word"),
    ],
)
def test_yaml_that_policies_have_no_use_for_is_refused_with_its_place(tmp_path, broken, place, says):
    problem = one(tmp_path, broken)
    assert says in problem.message
    assert place is None or (problem.line, problem.column) == place


def test_words_of_yaml_1_1_stay_words(tmp_path):
    text = policy(rule(when="{lettering: {any_of: [no, off, yes, 1:20, '007']}}"))
    assert {w for words in load(tmp_path, text).words.values() for w in words} >= {"no", "off", "yes", "1:20", "007"}


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        (("    category: test", "    category: test\n    categroy: x"), "rules[0].categroy", "did you mean `category`?"),
        (("do: block", "do: blok"), "rules[0].then[0]", "unknown action `blok`; did you mean `block`?"),
        (("lettering", "letering"), "rules[0].when.letering", "did you mean `lettering`?"),
        (("version: 1.0.0", "version: 1.0"), "version", "must be text, got `1.0`; put it in quotes"),
        (("version: 1.0.0", "version: one"), "version", "must be three numbers such as 1.0.0, got `one`"),
        (("{do: block}", "{do: steer, concept: pip}"), "rules[0].then[0].concept", "such as `character/pip` or `logo/acme`, got `pip`"),
        (("{do: block}", "{do: steer, concept: lettering, strength: 2}"), "rules[0].then[0].strength", "less than or equal to 1"),
        (("[grumpf, blorch]", "[$grumpf]"), "rules[0].when.lettering.any_of[0]", "unknown list `$grumpf`"),
        (("any_of: [grumpf, blorch]", "any_of: [a], asked: true"), "rules[0].when.lettering", "must hold exactly one of"),
        (("any_of: [grumpf, blorch]", "none_of: [a]"), "rules[0].when.lettering.none_of", "unknown field `none_of`"),
        (("{do: block}", "{do: verify, read: lettering}"), "rules[0].then[0]", "needs `none_of: [...]`"),
        (("{do: block}", "{do: verify, read: character/pip, below: 0.5, ladder: [blur]}"), "rules[0].then[0]", "works on lettering only"),
        (("{do: block}", "{do: verify, read: character/pip, below: 0.5, ladder: [wider]}"), "rules[0]", "need a `steer` in the same rule"),
        (("{do: block}", "{do: steer, concept: lettering, toward: benign-word}"), "rules[0].then[0].toward", "the list `benign`"),
        (("{lettering: {any_of: [grumpf, blorch]}}", "{concept: {name: character/pop}}"), "rules[0].when.concept.name", "`character/pip`"),
        (("    category: test", "    category: test\n    rollout: {mode: on}"), "rules[0].rollout.mode", "must be one of `disabled`"),
        (("    category: test", "    category: test\n    rollout: {mode: canary}"), "rules[0].rollout", "`percent` goes with"),
        (("    category: test", "    category: test\n    rollout: {mode: canary, percent: 5}"), "rules[0].rollout.mode", "secret key"),
        (("    category: test", "    category: test\n    expr: x > 1"), "rules[0].expr", "which this version cannot do"),
        (("owner: me@example.com", "owner: me\nfreshness: {max_age: 5w, on_stale: serve}"), "freshness.max_age", "such as `15m`"),
        (("    category: test", "    category: test\n    active: {from: 2026-02-01, until: 2026-01-01}"), "rules[0].active.until", "later"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_what_is_allowed(tmp_path, change, path, says):
    text = policy(rule())
    assert change[0] in text
    problem = one(tmp_path, text.replace(*change))
    assert problem.path == path
    assert says in problem.message
    assert problem.line > 0
    assert problem.column > 0


def test_all_problems_of_all_files_come_at_once_sorted_by_place(tmp_path):
    bad = policy(rule().replace("category", "categroy").replace("do: block", "do: blok"), more="colour: red\n")
    found = problems(tmp_path, bad, policy(rule("s"), name="Q"))
    assert len(found) == 5  # the missing `category` too
    assert list(found) == sorted(found)
    assert {p.file.rsplit("/", 1)[-1] for p in found} == {"0.yaml", "1.yaml"}
    assert any(p.message == "the field `category` is required" for p in found)


def test_ids_and_names_are_unique_over_files(tmp_path):
    found = problems(tmp_path, policy(rule()), policy(rule()))
    assert sorted(p.path for p in found) == ["name", "rules[0].id"]


def test_two_rules_may_not_steer_one_concept_in_two_directions(tmp_path):
    def steer(toward):
        return "[{do: steer, concept: lettering, toward: %s}]" % toward  # noqa: UP031  braces of YAML

    same = policy(rule("a", then=steer("cats")), rule("b", then=steer("cats")))
    assert len(load(tmp_path, same).rules) == 2
    assert "in two ways" in one(tmp_path, policy(rule("a", then=steer("cats")), rule("b", then=steer("dogs")))).message


def test_a_rule_that_steers_because_of_a_picture_must_judge_the_new_one(tmp_path):
    when = "{picture: {lettering: {any_of: [grumpf]}}}"
    text = policy(rule(when=when, then="[{do: steer, concept: lettering}]"))
    assert "add `do: verify` with `read: lettering`" in one(tmp_path, text).message


def test_what_no_detector_reads_is_refused_when_the_caller_says_what_is_read(tmp_path):
    then = "[{do: steer, concept: style/marlo}, {do: verify, read: style/marlo, below: 0.5}]"
    text = policy(rule(then=then))
    assert load(tmp_path, text)
    assert "no detector reads `style/marlo`" in one(tmp_path, text, reads=frozenset({"lettering"})).message


CONCEPT = "{concept: {name: %s}}"


def with_logos(request):
    """The text detectors, and one that finds the concept `logo/acme` where a prompt names it."""
    found = (Signal("logo/acme", "logos", "1"),) if "Acme" in request.prompt else ()
    return sense(request) + Signals(found, frozenset({("prompt", "logo/acme")}))


def test_every_kind_of_concept_is_allowed_that_a_detector_covers(tmp_path):
    (tmp_path / "p.yaml").write_text(policy(rule(when=CONCEPT % "logo/acme")))
    snapshot = Loader(with_logos).load(tmp_path)
    for prompt, verdict in (("the sign of Acme", "block"), ("a sign", "allow")):
        request = Request(prompt)
        assert decide(request, with_logos(request), snapshot).verdict == verdict


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "logo/acme",
            "no detector finds `logo/acme` in prompts; covered kinds: `animal`, `character`, `harm`, `place`, `style`",
        ),
        (
            "place/xyzzy-quux",
            "no detector finds `place/xyzzy-quux` in prompts; covered names of this kind: `place/beach`",
        ),
        ("character/pop", "no detector finds `character/pop` in prompts; did you mean `character/pip`?"),
    ],
)
def test_a_concept_that_no_detector_finds_is_refused_with_what_they_cover(tmp_path, name, says):
    assert one(tmp_path, policy(rule(when=CONCEPT % name))).message == says


def test_where_pictures_are_read_for_nothing_the_refusal_says_so(tmp_path):
    then = "[{do: verify, read: logo/acme, below: 0.5}]"
    said = one(tmp_path, policy(rule(then=then)), reads=frozenset()).message
    assert said == "no detector reads `logo/acme` in pictures; no concept is covered here"


@pytest.mark.parametrize("name", ["Logo/acme", "logo/", "/acme", "logo/acme/red", "-logo/acme", "logo/acme-", "logo"])
def test_a_name_of_another_shape_is_refused_with_the_shape_and_an_example(tmp_path, name):
    shape = "must be `lettering`, or a kind and a name in lower case, such as `character/pip` or `logo/acme`"
    given = "tests: [{name: t, given: {prompt: x, signals: {concept: {%s: 0.5}}}, expect: {verdict: allow}}]\n" % name  # noqa: UP031
    steer = f"[{{do: steer, concept: {name}}}]"
    for text in (policy(rule(when=CONCEPT % name)), policy(rule(then=steer)), policy(rule(), more=given)):
        assert one(tmp_path, text).message == f"{shape}, got `{name}`"


def test_the_same_loader_for_a_host_checks_what_policies_require_of_it(tmp_path):
    loader = Loader(sense, reads=frozenset({"lettering"}))
    of_host = loader.for_host("signpost-sd3", lambda concept: f"the shelf has no `{concept}`")
    assert (of_host.sense, of_host.reads) == (loader.sense, loader.reads)
    (tmp_path / "p.yaml").write_text(policy(rule(), more="requires: {packs: [logo/acme]}\n"))
    assert loader.load(tmp_path).rules
    with pytest.raises(PolicyError, match="no pack of `logo/acme` fits this model: the shelf has no `logo/acme`"):
        of_host.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("../outside.txt", "in the policy's folder"),
        ("/etc/hostname", "in the policy's folder"),
        ("link.txt", "in the policy's folder"),
        ("nowhere.txt", "no such list file"),
        ("empty.txt", "the list is empty"),
        ("bytes.txt", "is not UTF-8"),
    ],
)
def test_a_list_file_must_stand_beside_its_policy_and_hold_words(tmp_path, file, says):
    folder = tmp_path / "policies"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("grumpf\n")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "empty.txt").write_text("# nothing\n\n")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\xfa")
    problem = one(folder, policy(rule(when="{lettering: {any_of: [$w]}}"), more=f"lists: {{w: {{file: {file}}}}}\n"))
    assert says in problem.message
    assert problem.path == "lists.w.file"


def test_a_list_file_has_one_entry_a_line_and_comments(tmp_path):
    (tmp_path / "w.txt").write_text("# comment\nGrumpf\n\nblorch  # trailing\nc#\n two  words \n", "utf-8")
    snapshot = load(tmp_path, policy(rule(when="{lettering: {any_of: [$w]}}"), more="lists: {w: {file: w.txt}}\n"))
    assert snapshot.words["p/w"] == ("grumpf", "blorch", "c#", "two words")


def test_a_failing_test_in_a_file_keeps_the_policy_out_and_says_what_came(tmp_path):
    tests = """
tests:
  - name: it holds
    given: {prompt: 'a sign that says "grumpf"'}
    expect: {verdict: block}
  - name: it does not hold
    given: {prompt: 'a sign that says "hello"'}
    expect: {verdict: block, rules: [r]}
"""
    problem = one(tmp_path, policy(rule()) + tests)
    assert problem.path == "tests[1]"
    assert "test `it does not hold` fails" in problem.message
    assert "expected verdict `block`, got `allow`" in problem.message
    assert "expected rules `r`, got `none`" in problem.message
    results = list(run_tests(Loader(sense=sense).load_untested(tmp_path), sense))
    assert [(r.name, r.passed) for r in results] == [("it holds", True), ("it does not hold", False)]


def test_a_policy_is_tested_beside_others_on_the_verdict_of_all_and_on_its_own_rules(tmp_path):
    tests = """
tests:
  - name: a detector that fails refuses
    given: {prompt: a lake, signals: {errors: [text]}}
    expect: {verdict: block, errors: [r]}
  - name: a lake is welcome
    given: {prompt: a lake}
    expect: {verdict: allow}
"""
    word = "{prompt: {any_of: [%s]}}"
    own = policy(rule(when=word % "grumpf")) + tests
    load(tmp_path, own, policy(rule("other", when=word % "blorch"), name="q"))
    problem = one(tmp_path, own, policy(rule("other", when=word % "lake"), name="q"))
    assert "test `a lake is welcome` fails: expected verdict `allow`, got `block`" in problem.message
    unlike = own.replace("errors: [r]", "errors: []")
    assert "expected errors `none`, got `r`" in one(tmp_path, unlike, policy(rule("other"), name="q")).message


def test_the_shipped_policies_are_served_beside_a_rule_of_ones_own_on_prompts(tmp_path):
    (tmp_path / "own.yaml").write_text(policy(rule(when="{prompt: {any_of: [grumpf]}}")), "utf-8")
    snapshot = Loader(sense=sense).load([*policy_paths("shipped"), tmp_path / "own.yaml"])
    assert {"r", "sexualised-minor", "toxic-lettering"} <= {r.id for p in snapshot.policies for r in p.rules}


def test_a_test_that_expects_nothing_or_an_unknown_rule_is_refused(tmp_path):
    tests = "\ntests:\n  - {name: a, given: {prompt: x}, expect: {}}\n"
    assert "the test cannot fail" in one(tmp_path, policy(rule()) + tests).message
    tests = "\ntests:\n  - {name: a, given: {prompt: x}, expect: {rules: [rr]}}\n"
    assert "did you mean `rule-a`?" in one(tmp_path, policy(rule("rule-a")) + tests.replace("rr", "rule-b")).message


def test_missing_paths_empty_folders_and_bundles_are_refused(tmp_path):
    loader = Loader(sense=sense)
    (tmp_path / "bundle.tar").write_bytes(b"")
    for path, says in (
        (tmp_path / "no", "no such file"),
        (tmp_path, "holds no policy"),
        (tmp_path / "bundle.tar", "not a policy file; pass a .yaml file, a signed .bundle"),
    ):
        with pytest.raises(PolicyError, match=says):
            loader.load(path)


def test_the_setting_names_the_shipped_policies_none_or_a_path(tmp_path):
    loader = Loader(sense=sense)
    assert len(loader.load(policy_paths("shipped")).policies) == 3
    assert loader.load(policy_paths("none")).digest == no_policy().digest
    assert policy_paths("x/y.yaml")[0].name == "y.yaml"
    assert [p.name for p in policy_paths("x/y.yaml", "shipped", "z")] == ["y.yaml", "shipped", "z"]
    with pytest.raises(ValueError, match=r"`none` must be the only policy, got `a` beside it"):
        policy_paths("a", "none")


@pytest.mark.parametrize("value", ["1.10", "1e3", "true", "2026-01-01", "+5"])
def test_a_problem_shows_a_value_as_the_file_has_it(tmp_path, value):
    lists = f"lists: {{w: {{values: [{value}]}}}}\n"
    assert f"must be text, got `{value}`" in one(tmp_path, policy(rule(), more=lists)).message
    version = policy(rule()).replace("version: 1.0.0", f"version: {value}")
    assert f"got `{value}`" in one(tmp_path, version).message


def test_problems_print_as_file_line_column(tmp_path):
    problem = one(tmp_path, HEAD.format(name="p") + "rules: 5\n")
    assert str(problem) == f"{tmp_path / '0.yaml'}:5:1: rules: must be a valid list, got `5`"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    why:", "\twhy:", "8:1: a tab stands where YAML takes none; use spaces"),
        ("    why:", "\u00a0   why:", "8:1: U+00A0 (no-break space) stands where a space must"),
        ("  - id: r", "  -\u202fid:\u00a0r", "7:4: U+202F (narrow no-break space) stands where a space must"),
        ("[grumpf, blorch]", "$rude", "10:24: rules[0].when.lettering.any_of: must be a list; write `[$rude]`"),
        ("    why:", "    watch: {share: 2}\n    why:", "8:13: rules[0].watch.share: must be less than 1, got `2`"),
        ("    why:", "    watch: always\n    why:", "8:5: rules[0].watch: must be one of `every-picture`, `matched-prompts`, got `always`"),
        ("\nrules:", "lists: {l: {file: l.txt, values: [a]}}\nrules:", "5:9: lists.l: a list must hold exactly one of `file`, `values`, got `file`, `values`; make a second list of the others"),
    ],
)  # fmt: skip
def test_an_author_is_told_the_one_true_reason(tmp_path, old, new, said):
    text = policy(rule())
    assert text.count(old) == 1
    assert str(one(tmp_path, text.replace(old, new))) == f"{tmp_path / '0.yaml'}:{said}"


@pytest.mark.parametrize(("encoding", "line"), [("utf-16", 1), ("latin-1", 3)])
def test_a_file_that_is_not_utf8_says_how_to_save_it(tmp_path, encoding, line):
    file = tmp_path / "a.yaml"
    file.write_bytes("a: 1\nb: 2\nc: é\n".encode(encoding))
    with pytest.raises(PolicyError) as error:
        Loader(sense).load(file)
    assert str(error.value) == f"{file}:{line}: is not UTF-8; save the file as UTF-8"
    file.unlink()
    lists = "lists: {l: {file: a.txt}}\n"
    (tmp_path / "a.txt").write_bytes("é".encode(encoding))
    assert one(tmp_path, policy(rule(), more=lists)).message == "`a.txt`: is not UTF-8; save the file as UTF-8"
