"""Entries are found as words, in the spelling of the view, and never inside honest ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.text import make_views
from policies.matcher import Matcher
from policies.near import Near, NearWord
from policies.spelling import collapse, fold, leet
from policies.types import View


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


@given(st.text(alphabet="abefgh", min_size=5, max_size=8), st.data())
def test_near_finds_exactly_what_one_edit_away_is(word, data):
    """Letters that look like no other; `ab` for `ba` is one edit, as every one of these is."""
    other = data.draw(st.text(alphabet="abefgh", min_size=3, max_size=9) | _edited(word))
    found = Near({"l": [word]}).find(other)
    assert found == ({"l": NearWord(_distance(word, other), word)} if _distance(word, other) <= 1 else {})


@st.composite
def _edited(draw, word):
    """`word` after one or two edits."""
    for _ in range(draw(st.integers(1, 2))):
        i, c = draw(st.integers(0, len(word) - 2)), draw(st.sampled_from("abefgh"))
        made = (word[:i] + c + word[i:], word[:i] + word[i + 1 :], word[:i] + c + word[i + 1 :], word + c)
        word = draw(st.sampled_from((*made, word[:i] + word[i + 1] + word[i] + word[i + 2 :])))
    return word


def _distance(a, b):
    """The optimal string alignment of `a` and `b`, by its recurrence."""
    d = {(i, j): max(i, j) for i in range(len(a) + 1) for j in range(len(b) + 1)}
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + (x != y))
            if i > 1 and j > 1 and (x, y) == (b[j - 2], a[i - 2]):
                d[i, j] = min(d[i, j], d[i - 2, j - 2] + 1)
    return d[len(a), len(b)]


@pytest.mark.parametrize(
    ("said", "edits"),
    [
        ("ldlot", 0), ("1d10t", 0), ("id|0t", 0), ("id1qt", 0),  # only letters that look alike
        ("diot", 1), ("qidiot", 1), ("idiotx", 1), ("idoit", 1), ("1dlat", 1), ("ididt", 1),
        ("dioti", None), ("idjat", None), ("di", None),
    ],
)  # fmt: skip
def test_what_looks_alike_costs_nothing_and_one_edit_is_near(said, edits):
    assert Near({"l": ["idiot", "grumpf"]}).find(said) == ({} if edits is None else {"l": NearWord(edits, "idiot")})


@pytest.mark.parametrize(
    ("said", "entry"), [("rnoron", "moron"), ("moroncl", "morond"), ("vvimp", "wimp"), ("bum", "burn")]
)
def test_pairs_that_look_like_one_letter_are_one(said, entry):
    assert Near({"l": [entry]}).find(said) == {"l": NearWord(0, entry)}
    assert Near({"l": [entry]}).find(said + "x") == {"l": NearWord(1, entry)}


@pytest.mark.parametrize("said", ["fcuk", "fock", "fyck", "fuckx", "xfuck", "fluck", "fck", "fuk" + "c", "fucc"])
def test_a_word_of_four_letters_is_near_while_it_stays_readable(said):
    assert "l" in Near({"l": ["fuck"]}).find(said)


@pytest.mark.parametrize("said", ["duck", "funk", "fucl", "uck", "fuc", "fu", "fucker"])
def test_a_word_of_four_letters_is_not_near_by_another_consonant(said):
    assert Near({"l": ["fuck"]}).find(said) == {}


@pytest.mark.parametrize("said", ["luzer", "loozer", "looser", "lozer"])
def test_a_longer_word_is_near_by_its_sound_while_its_consonants_stay(said):
    (found,) = Near({"l": ["loser", "fool"]}).find(said).values()
    assert found.word == "loser"
    assert found.heard == (said in ("luzer", "loozer"))


def test_near_words_have_the_nearest_entry_of_each_list_and_the_innocent_lists_that_spare_them():
    near = Near({"a": ["moron", "idiot"], "b": ["morons"], "c": ["grumpf"]}, {"i": ["moran"], "j": ["dump"]})
    assert near.find("morom") == {"a": NearWord(1, "moron")}
    assert near.find("moronss") == {"b": NearWord(1, "morons")}
    assert near.find("moron") == {"a": NearWord(0, "moron")}, "a word of one list is no misspelling of another's"
    assert near.innocent("m0ran") == {"i"}
    assert near.innocent("morann") == frozenset()


@given(st.text(max_size=40))
def test_spellings_are_idempotent(text):
    assert fold(fold(text)) == fold(text)
    assert leet(leet(text)) == leet(text)
    folded, runs = collapse(text)
    assert collapse(folded)[0] == folded
    assert sum(runs) == len(text)


@pytest.mark.parametrize(
    ("entry", "said", "found"),
    [
        ("you stink", "youstink", True),
        ("you're useless", "youreuseless", True),
        ("you're useless", "you're useless", True),
        ("the rapist", "therapist", False),
        ("go on", "goon", False),
        ("you stink", "youstinky", False),
    ],
)
def test_a_phrase_is_also_found_without_its_blanks_unless_that_is_a_word(entry, said, found):
    places = range(len(said) + 1)
    hits = [m.word for m in Matcher({"l": [entry]}).find(View("v", said, tuple(places[:-1]), tuple(places[1:])))]
    assert hits == ([entry] if found else [])
