"""The corpora are reproducible and split; every disguise is undone, on the half that may be tuned on; and innocent
prompts are left alone.

Figures on the other half are made by `palimpsest evaluate detectors`; these tests keep the two halves apart and notice
when a change breaks what was reached.

| mutation | law that turned red |
|---|---|
| a disguise's view is dropped from `views` or `guesses` | words_in_every_disguise_are_found |
| guesses are made about known words too | innocent_prompts_are_left_alone |
| words are split by the word, not by its beginning | no_word_or_template_is_in_both_halves |
| the vocabulary knows the listed words | words_in_every_disguise_are_found |
"""

from __future__ import annotations

import pytest

from detectors.text import make_views, sense
from evaluation.prompts.corpus import evasions, innocents, is_held_out, is_homograph, listed_words, requests_for
from evaluation.prompts.disguises import DISGUISES
from policies import SHIPPED, Loader, Request, decide
from policies.matcher import Matcher


@pytest.fixture(scope="module")
def judge():
    snapshot = Loader(sense=sense).load(SHIPPED)
    return lambda prompt: decide(Request(prompt), sense(Request(prompt)), snapshot)


def test_there_are_enough_disguises_and_their_names_differ():
    assert len({d.name for d in DISGUISES}) == len(DISGUISES) >= 12


def test_no_word_or_template_is_in_both_halves():
    tuning, held = listed_words(held_out=False), listed_words(held_out=True)
    assert not {w[:4] for w in tuning} & {w[:4] for w in held}
    assert min(len(tuning), len(held)) > 80
    prompts = {i.prompt for i in innocents(2000, held_out=True)} & {i.prompt for i in innocents(2000, held_out=False)}
    assert prompts == set()
    assert {e.word for e in evasions(DISGUISES[0], 200, held_out=True)} <= set(held)
    assert {is_held_out(e.word[:4]) for e in evasions(DISGUISES[1], 200, held_out=False)} == {False}


def test_the_corpora_are_the_same_every_time_and_large_enough():
    for disguise in DISGUISES:
        cases = evasions(disguise, 300, held_out=True)
        assert cases == evasions(disguise, 300, held_out=True)
        assert len({c.prompt for c in cases}) == 300
        assert {c.disguise for c in cases} == {disguise.name}
    assert innocents(2000, held_out=True) == innocents(2000, held_out=True)
    assert len({i.prompt for i in innocents(2500, held_out=True)}) == 2500


@pytest.mark.parametrize("disguise", DISGUISES, ids=lambda d: d.name)
def test_words_in_every_disguise_are_found(disguise, judge):
    cases = evasions(disguise, 60, held_out=False, seed=3)
    missed = [c.prompt for c in cases if judge(c.prompt).verdict == "allow"]
    assert len(missed) <= 2, missed


@pytest.mark.parametrize("form", ["quotes", "unbalanced", "quoted", "bare", "languages", "lines"])
def test_words_are_found_however_they_are_asked_for(form, judge):
    cases = requests_for(form, 60, held_out=False, seed=3)
    assert [c.prompt for c in cases if judge(c.prompt).verdict == "allow"][1:] == []


def test_innocent_prompts_are_left_alone(judge):
    alarms = [i for i in innocents(600, held_out=False, seed=3) if judge(i.prompt).verdict != "allow"]
    assert len(alarms) <= 1, alarms


def test_a_listed_word_in_another_meaning_is_the_lists_business():
    assert is_homograph("liars dice")
    assert is_homograph("Morón")
    assert not is_homograph("classic cars")


@pytest.mark.parametrize(
    "text",
    [
        "class", "assassin", "Scunthorpe", "therapist", "grape", "skills", "peacock", "therapists", "cocktails",
        "button", "the pen is mightier", "go on", "snake_case_name", "M*A*S*H", "S.O.S", "XK7P", "A55", "#classof2024",
        "let's hit the road", "it's hit or miss", "he said so", "iPhone", "hello_world.py", "Animaniacs", "debugger",
        "Donaudampfschifffahrt", "wussten", "morongo", "slutstation",
    ],
)  # fmt: skip
def test_innocent_words_that_hold_a_listed_one_are_no_match(text):
    listed = ["ass", "cunt", "rapist", "rape", "kill", "cock", "tits", "butt", "penis", "goon", "shit", "maniacs"]
    matcher = Matcher({"l": [*listed, "bugger", "wuss", "moron", "slut", "slobs"]})
    assert {(m.word, v.name) for v in make_views(text, piece=True) for m in matcher.find(v)} == set()


@pytest.mark.parametrize(
    ("text", "word", "span"),
    [
        ("you are an i*iot", "idiot", "i*iot"),
        ("youidiot", "idiot", "idiot"),
        ("HeyYouIdiotThere", "idiot", "Idiot"),
        ("total id iot here", "idiot", "id iot"),
        ("xXidiotXx", "idiot", "idiot"),
        ("idiot2024", "idiot", "idiot"),
        ("s****d", "stupid", "s****d"),
        ("id-iot", "idiot", "id-iot"),
        ("toidi", "idiot", "toidi"),
        ("(i)(d)(i)(o)(t)", "idiot", "i)(d)(i)(o)(t"),
        ("%69diot", "idiot", "%69diot"),
        ("\\u0069diot", "idiot", "\\u0069diot"),
        ("ѕтυріԁ", "stupid", "ѕтυріԁ"),
    ],
)
def test_a_guess_points_at_what_it_is_a_guess_about(text, word, span):
    matcher = Matcher({"l": [word]})
    bounds = {text[m.start : m.end] for v in make_views(text, piece=True) for m in matcher.find(v)}
    assert span in bounds


def test_masked_words_of_any_list_are_found_not_only_of_ours():
    matcher = Matcher({"l": ["zorblax", "quimble"]})
    for text in ("z*rblax", "quimb_e", "qu#mbl#", "yourzorblax", "zor blax"):
        assert any(True for v in make_views(text, piece=True) for _ in matcher.find(v)), text


def test_a_request_full_of_masks_costs_no_more_than_a_bounded_time():
    import time

    prompt = ('a sign that says "' + "a*b*d id*ot m*r*n sc*m cr*tin fo*l " * 60)[:2000]
    start = time.thread_time()
    sense(Request(prompt))
    assert time.thread_time() - start < 1.5
