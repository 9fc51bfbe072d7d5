"""Pieces of one picture are put in the order of lines and of columns, however the engine found them.

Seen red under: sorting by height alone, no columns, a line decided by the first of its pieces.
"""

from __future__ import annotations

import random

import pytest

from policies import Box
from policies.pieces import reading_orders


def boxes(*places, width=20, height=20):
    return [Box(x, y, x + width, y + height) for x, y in places]


def texts(pieces, found):
    return ["".join(pieces[i] for i in order) for order in reading_orders(found)]


@pytest.mark.parametrize("seed", range(5))
def test_letters_of_a_line_that_jitters_or_climbs_are_read_from_the_left(seed):
    rng = random.Random(seed)
    places = [(30 * i, 100 - 6 * i + rng.randint(-2, 2)) for i in range(5)]  # the last lies above the first
    order = rng.sample(range(5), 5)
    found = texts(["IDIOT"[i] for i in order], boxes(*(places[i] for i in order)))
    assert found[0] == "IDIOT"


def test_a_stack_is_read_from_above_and_has_one_order():
    assert texts("IDIOT", boxes(*((5 + i % 2, 25 * i) for i in range(5)))) == ["IDIOT"]


def test_two_stacks_side_by_side_are_read_by_lines_and_by_columns():
    places = [(40 * x, 30 * y) for y in range(3) for x in range(2)]
    assert texts("BFAADT", boxes(*places)) == ["BFAADT", "BADFAT"]


def test_lines_of_a_sign_keep_their_order_under_a_heading_across_columns():
    found = [Box(0, 0, 100, 20), Box(0, 30, 40, 50), Box(60, 30, 100, 50), Box(0, 60, 40, 80)]
    assert reading_orders(found)[0] == (0, 1, 2, 3)


def test_nothing_and_one_piece_have_one_order():
    assert reading_orders([]) == [()]
    assert reading_orders(boxes((0, 0))) == [(0,)]


def test_empty_boxes_are_a_row_each():
    assert sorted(reading_orders([Box(0, 0, 0, 0), Box(0, 5, 0, 5)])[0]) == [0, 1]
