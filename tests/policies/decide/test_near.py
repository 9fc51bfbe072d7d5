"""Near words in conditions: which count, which are spared, and what the reasons say.

Seen red under: dictionary words counted, `near_unless` sparing an exact word, `near_unless` compared letter for
letter, an `unless` phrase overlooked, near words without a trigger, pieces judged one by one.
"""

from __future__ import annotations

import pytest

from detectors.text import read_text, sense
from policies import Box, Request, Signal, Signals, View, decide, narrate, run_tests
from tests.policies.helpers import load, policy, rule

WORDS = "any_of: [idiot, moron, dumb, loser], unless: [moron e], near: 1, near_unless: [moran, tubes ideot]"
ASKED = f"{{lettering: {{{WORDS}}}}}"
SHOWN = f"{{picture: {{lettering: {{{WORDS}}}}}}}"
SPELT = ["IDEOT", "IDOIT", "IDOT", "QIDIOT", "IDIOTX", "ldlot", "1D1QT", "MROON", "rnoron", "DVMB", "DUBM"]
SPELT += ["I D E O T", "IDE OT", "LUZER"]
INNOCENT = ["MORAN", "M0RAN", "Moran's", "DUMP", "CITY DUMP", "MORON E", "DO IT", "1D07", "DUM", "TUBES IDEOT"]
INNOCENT += ["CLOSER", "IDIOM"]


def asked(snapshot, said):
    request = Request(f'a sign that says "{said}"')
    return decide(request, sense(request), snapshot)


def shown(snapshot, *texts, prompt="a quiet hill"):
    request, signals = Request(prompt), sense(Request(prompt))
    box = Box(0, 0, 9, 9)
    items = tuple(Signal("lettering", "ocr", "1", "picture", text=t, box=box, views=read_text(t)) for t in texts)
    seen = signals + Signals(items, frozenset({("picture", "lettering")}))
    return decide(request, seen, snapshot, stage="picture", before=decide(request, signals, snapshot))


@pytest.mark.parametrize("said", SPELT)
def test_a_near_word_counts_in_lettering_that_is_asked_for_and_in_pictures(tmp_path, said):
    assert asked(load(tmp_path, policy(rule(when=ASKED))), said).verdict == "block"
    assert shown(load(tmp_path, policy(rule(when=SHOWN))), "OTHER", said).verdict == "block"


@pytest.mark.parametrize("said", INNOCENT)
def test_a_known_word_or_one_of_near_unless_or_in_a_phrase_of_unless_is_not_near(tmp_path, said):
    assert asked(load(tmp_path, policy(rule(when=ASKED))), said).verdict == "allow"
    assert shown(load(tmp_path, policy(rule(when=SHOWN))), "OTHER", said).verdict == "allow"


def test_near_words_of_a_scene_are_none(tmp_path):
    snapshot = load(tmp_path, policy(rule(when=ASKED), rule("s", when="{prompt: {any_of: [idiot]}}")))
    request = Request('the ideot and mroon of the village under a sign that says "HELLO"')
    assert decide(request, sense(request), snapshot).verdict == "allow"


@pytest.mark.parametrize("said", ["MORON", "M0R0N", "MOR*N", "M O R O N"])
def test_near_unless_never_spares_a_listed_word_though_it_may_be_read_as_an_innocent_one(tmp_path, said):
    assert asked(load(tmp_path, policy(rule(when=ASKED))), said).verdict == "block"


def test_without_near_nothing_near_counts(tmp_path):
    snapshot = load(tmp_path, policy(rule(when=SHOWN.replace(", near: 1, near_unless: [moran, tubes ideot]", ""))))
    assert shown(snapshot, "IDEOT").verdict == "allow"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("IDEOT", "says `ideot`, one letter away from `idiot`"),
        ("DVMB", "says `dvmb`, which looks like `dumb`"),
    ],
)
def test_the_reason_says_how_near_the_word_is_and_where_it_stands(tmp_path, said, why):
    snapshot = load(tmp_path, policy(rule(when=ASKED)))
    request = Request(f'a sign that says "HELLO {said}"')
    decision = decide(request, sense(request), snapshot)
    assert any(line.endswith(why) for line in narrate(request, decision, snapshot))
    (reason,) = decision.reasons
    assert (reason.predicate, reason.span.of(request.prompt)) == ("near", said)


def test_a_word_that_is_listed_has_one_reason(tmp_path):
    assert len(asked(load(tmp_path, policy(rule(when=ASKED))), "ID10T").reasons) == 1


def test_near_words_in_the_prompt_are_replaced_in_the_donor(tmp_path):
    then = "[{do: steer, concept: lettering, toward: kind}]"
    snapshot = load(tmp_path, policy(rule(when=ASKED, then=then)))
    request = Request('a sign that says "STOP MROON"')
    assert decide(request, sense(request), snapshot).steers[0].donor(request) == 'a sign that says "STOP kind"'


def test_views_plain_takes_near_words_as_they_are_written_only(tmp_path):
    snapshot = load(tmp_path, policy(rule(when=ASKED.replace("near: 1", "near: 1, views: plain"))))
    assert asked(snapshot, "IDEOT").verdict == "block"
    assert asked(snapshot, "I D E O T").verdict == "allow"


def test_without_a_dictionary_every_word_of_a_plain_view_may_be_near(tmp_path):
    snapshot = load(tmp_path, policy(rule(when="{picture: {lettering: {any_of: [idiot], near: 1}}}")))
    text, places = "my idiom", (tuple(range(8)), tuple(range(1, 9)))
    asked_none, asked_one = View("folded", text, *places), View("folded", text, *places, odd=())
    guessed = View("guess", text, *places, form="leet")
    for view, verdict in ((asked_none, "block"), (asked_one, "allow"), (guessed, "allow")):
        signal = Signal("lettering", "ocr", "1", "picture", text=text, views=(view,))
        signals = sense(Request("x")) + Signals((signal,), frozenset({("picture", "lettering")}))
        assert decide(Request("x"), signals, snapshot, stage="picture").verdict == verdict


PIECES = """
tests:
  - name: a word in pieces
    given: {{prompt: a quiet hill, picture: {{lettering: {}}}}}
    expect: {{verdict: {}}}
"""


@pytest.mark.parametrize(
    ("pieces", "verdict"),
    [
        ("[I, D, I, '0', T]", "block"),
        ("[HELLO, ID, IOT]", "block"),
        ("[MOR, ON]", "block"),
        ("[M, R, O, O, N]", "block"),
        ("[PUSH, IT]", "allow"),
        ("[MORAN, HELLO]", "allow"),
        ("[I, AM, DUE]", "allow"),
    ],
)
def test_the_pieces_of_a_picture_in_a_test_of_a_file_are_read_as_one_too(tmp_path, pieces, verdict):
    snapshot = load(tmp_path, policy(rule(when=SHOWN)) + PIECES.format(pieces, verdict))
    assert [r.message for r in run_tests(snapshot, sense)] == [""]
