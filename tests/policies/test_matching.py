"""Entries are found as words, in the spelling of the view, and never inside honest ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.text import make_views
from policies.matcher import Matcher, Near
from policies.spelling import collapse, fold, leet


def found(words, text, **options):
    matcher = Matcher({"l": words})
    return {m.word for view in make_views(text, **options) for m in matcher.find(view)}


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("ass", "a class assesses the grass of Massachusetts, passes and embarrasses"),
        ("shit", "shitake mushrooms in Shitterton"),
        ("cunt", "Scunthorpe"),
        ("cock", "cocktail at Hancock"),
        ("cop", "a coop"),
        ("loser", "closer, losers' row"),
        ("hell", "hello shell"),
        ("fail", "fall 50% s4le"),
        ("kill", "skill, killer, kiln"),
        ("hate", "h a t"),
        ("as", "a s 5"),
    ],
)
def test_a_word_inside_another_is_no_match(entry, text):
    assert found([entry], text) == set()


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("idiot", "IDIOT!"),
        ("idiot", "(1D10T)"),
        ("idiot", "1d10t!"),
        ("idiot", "idiooooot"),
        ("idiot", "IDIIOT"),
        ("asshole", "a$$h0le"),
        ("asshole", "aaassssshooole"),
        ("imbecile", "1mbec11e"),
        ("loser", "L0SER"),
        ("loser", "Ioser"),
        ("shut up", "SHUT   UP"),
        ("shut up", "5hut\nup"),
        ("白痴", "牌子写着白痴吗"),
        ("дурак", "ДУРАК!"),
        ("straße", "STRASSE"),
    ],
)
def test_a_word_is_found_in_the_disguises_that_views_undo(entry, text):
    assert found([entry], text) == {fold(entry)}


@pytest.mark.parametrize("piece", [True, False])
def test_a_split_word_is_found_and_words_that_stand_for_themselves_are_not_joined(piece):
    assert found(["idiot"], "ID IOT", piece=piece) == {"idiot"}
    assert found(["penis"], "the pen is mightier", piece=piece) == set()


def test_every_place_has_its_own_match_that_points_at_the_original():
    matcher = Matcher({"l": ["idiot"]})
    text = 'an 1d10t and an "IDIOT"'
    spans = {text[m.start : m.end] for view in make_views(text) for m in matcher.find(view)}
    assert spans == {"1d10t", "IDIOT"}


@given(st.text(alphabet="abcdefgil01 ", min_size=4, max_size=8), st.data())
def test_near_finds_exactly_what_one_edit_away_is(word, data):
    word = word.replace(" ", "x")
    other = data.draw(st.text(alphabet="abcdefgil01", min_size=3, max_size=9))
    assert (Near([word]).find(other) == word) == (_distance(word, other) <= 1)


def _distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y)))
    return row[-1]


@given(st.text(max_size=40))
def test_spellings_are_idempotent(text):
    assert fold(fold(text)) == fold(text)
    assert leet(leet(text)) == leet(text)
    folded, runs = collapse(text)
    assert collapse(folded)[0] == folded
    assert sum(runs) == len(text)
