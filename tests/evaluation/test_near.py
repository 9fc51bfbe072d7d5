"""The table of near words: signs are innocent and different, edits are what they are called, and rows add up.

Seen red under: the dictionary left in where nothing is spared, listed words among the misspelt.
"""

from __future__ import annotations

import random

import pytest

from evaluation.metrics import edit_distance
from evaluation.prompts.signs import EDITS, edited, in_two_pieces, innocent_signs
from evaluation.tables.near import near_rows


def test_signs_are_different_and_the_same_for_a_seed():
    signs = innocent_signs(300, seed=1)
    assert len(set(signs)) == 300
    assert signs == innocent_signs(300, seed=1) != innocent_signs(300, seed=2)
    assert not any("{" in sign for sign in signs)


def test_a_sign_in_pieces_has_the_same_letters():
    assert in_two_pieces("THE BAKERY", random.Random(1)).replace(" ", "") == "THEBAKERY"


@pytest.mark.parametrize("edit", EDITS)
def test_misspelt_words_are_neither_listed_nor_innocent_and_one_edit_away(edit):
    words = ["idiot", "moron", "loser", "wimps", "wimp"]
    made = edited(words, edit, 20, lambda w: w.startswith("i"))
    assert len({said for _, said in made}) == len(made) > 5
    for word, said in made:
        assert word in words
        assert said.lower() not in words
        assert not said.lower().startswith("i")
        if edit != "letters that a reader confuses":
            assert edit_distance(word, said.lower()) <= 1 + (edit == "two letters swapped")


def test_rows_say_what_near_adds_and_what_spares_it():
    rows = near_rows(signs=["IDIOM", "CLOSER", "MORAN", "HELLO", "IDIOT"], each=5, progress=lambda line: None)
    row = rows["innocent signs, read in a picture"]
    without, bare, dictionary, spared = (row[step]["hits"] for step in list(row)[:4])
    assert (without, bare, dictionary, spared) == (1, 4, 2, 1)
    assert row["what near adds"]["hits"] == 0
    assert rows["misspelt: two letters swapped"]["recall"]["n"] == 5
