"""Inflections: the forms that a list gets, those it does not get, and what the author sees of both."""

from __future__ import annotations

import json
import time

import pytest

from detectors.text import sense
from policies import Loader, PolicyError, Request, decide, diff, explain, narrate
from policies.everyday import load_everyday
from policies.inflections import LANGUAGES, inflect
from tests.policies.helpers import policy, rule


def forms(*entries, language="en", everyday=()):
    return set(inflect(entries, language, everyday).kept)


@pytest.mark.parametrize(
    ("language", "entry", "some"),
    [
        ("en", "grumpf", {"grumpfs", "grumpfed", "grumpfing", "grumpfer", "grumpfers"}),
        ("en", "shit", {"shits", "shitted", "shitting", "shitter"}),
        ("en", "bitch", {"bitches", "bitching"}),
        ("en", "fatty", {"fatties", "fattier"}),
        ("en", "rape", {"rapes", "raped", "raping"}),
        ("en", "waste of space", {"waste of spaces"}),
        ("de", "idiot", {"idioten"}),
        ("de", "hure", {"huren"}),
        ("es", "pendejo", {"pendejos", "pendeja", "pendejas"}),
        ("es", "cabrón", {"cabrones", "cabrona"}),
        ("fr", "connard", {"connards"}),
        ("fr", "branleur", {"branleuse", "branleurs"}),
        ("it", "stronzo", {"stronzi", "stronza", "stronze"}),
        ("it", "frocio", {"froci"}),
        ("pt", "otário", {"otários", "otária"}),
        ("nl", "klootzak", {"klootzakken"}),
        ("pl", "kurwa", {"kurwy", "kurwo", "kurwą"}),
        ("sv", "idiot", {"idioter", "idioten"}),
        ("ru", "идиот", {"идиоты", "идиота", "идиотам"}),
        ("ru", "ебаный", {"ебаная", "ебаные"}),
        ("tr", "aptal", {"aptallar"}),
        ("fi", "huora", {"huoran", "huorat"}),
    ],
)
def test_the_regular_forms_of_a_word_are_made(language, entry, some):
    assert some <= forms(entry, language=language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_that_are_too_short_or_hold_digits_have_no_forms_and_no_form_is_an_entry(language):
    assert forms("as", "1488", "14/88", "f-word", language=language) == set()
    kept = inflect(["grumpfa"], language, ()).kept
    assert kept
    assert "grumpfa" not in kept
    assert set(kept.values()) == {"grumpfa"}
    assert inflect(["grumpfa", *kept], language, ()).kept.keys().isdisjoint(kept)


def test_inflected_english_words_are_not_inflected_again():
    assert forms("idiots", "fucked", "fucking") == set()
    assert forms("wanker") == {"wankers"}
    assert "asses" in forms("ass")


def test_an_everyday_word_is_no_form():
    found = inflect(["butt", "twit"], "en", {"butter", "twitter"})
    assert found.everyday == {"butter": "butt", "twitter": "twit"}
    assert "butts" in found.kept
    assert found.kept.keys().isdisjoint(found.everyday)
    shipped = load_everyday()
    for word, other in (("mast", "master"), ("ham", "hammer"), ("spic", "spiced"), ("litt", "litter")):
        assert other not in inflect([word], "en", shipped).kept


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_thousand_entries_are_inflected_in_a_moment(language):
    entries = [f"grumpf{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}o" for i in range(1000)]
    start = time.thread_time()
    inflect(entries, language, load_everyday())
    assert time.thread_time() - start < 0.3


# -- in a policy


def load(tmp_path, inflected, entries="[grumpf, 'two grumpfs']"):
    lists = f"lists: {{w: {{values: {entries}{inflected}}}}}\n"
    (tmp_path / "p.yaml").write_text(policy(rule(when="{lettering: {any_of: [$w]}}"), more=lists), "utf-8")
    return Loader(sense=sense).load(tmp_path)


def verdict(snapshot, said):
    request = Request(f'a sign that says "{said}"')
    return decide(request, sense(request), snapshot).verdict


def test_a_list_finds_forms_only_if_it_says_so(tmp_path):
    plain, inflected = load(tmp_path, ""), load(tmp_path, ", inflect: en")
    assert (verdict(plain, "GRUMPF"), verdict(plain, "GRUMPFED")) == ("block", "allow")
    assert (verdict(inflected, "GRUMPF"), verdict(inflected, "GRUMPFED")) == ("block", "block")
    assert plain.forms == {}


def test_the_digest_and_the_difference_cover_the_forms(tmp_path):
    plain, inflected, german = (load(tmp_path, more) for more in ("", ", inflect: en", ", inflect: de"))
    assert len({plain.digest, inflected.digest, german.digest}) == 3
    (words,) = (c.text for c in diff(plain, inflected) if c.where == "list")
    assert "`grumpfed`" in words
    assert any(c.loosens for c in diff(inflected, plain))
    assert not any(c.loosens for c in diff(plain, inflected))


def test_explain_says_what_a_form_comes_from(tmp_path):
    snapshot = load(tmp_path, ", inflect: en")
    for said, entry in (("GRUMPFERS", "grumpf"), ("GRUMPF", None)):
        request = Request(f'a sign that says "{said}"')
        reason, *_ = explain(request, snapshot, sense)["reasons"]
        assert reason.get("inflected_from") == entry
        lines = "\n".join(narrate(request, decide(request, sense(request), snapshot), snapshot))
        assert (f"`{said.lower()}`, inflected from `grumpf`" in lines) == (entry is not None)
    json.dumps(explain(request, snapshot, sense))


def test_an_unknown_language_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(PolicyError, match=r"must be one of `de`, `en`.*got `xx`"):
        load(tmp_path, ", inflect: xx")
