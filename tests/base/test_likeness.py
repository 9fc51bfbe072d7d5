"""Pieces of a prompt that are like a phrase: what a repair replaces when the picture shows what nobody spelled."""

from __future__ import annotations

import pytest

from palimpsest_base.likeness import pieces_like

PACK = ("a gun", "the gun", "gun")


@pytest.mark.parametrize(
    ("text", "phrases", "pieces"),
    [
        ("a gunn on a table", PACK, ["a gunn"]),
        ("a G-U-N, on a table", PACK, ["a G-U-N"]),
        ("two guns and a gnu", PACK, ["guns", "a gnu"]),
        ("the g u n lies there", PACK, ["g u n"]),
        ("a shotgun", PACK, ["a shotgun"]),
        ("p1p and a pipette", ("pip",), ["p1p", "pipette"]),
        ("a star in marlos style", ("in marlo style", "marlo style"), ["in marlos style"]),
        ("a star in marloesque style", ("in marlo style",), ["in marloesque style"]),
        ("ada brok waves", ("ada brook",), ["ada brok"]),
        ("a portrait of adda", ("ada brook",), []),
        ("a cow in the fog", ("in", "at"), []),
        ("a table on a hill", PACK, []),
        ("", PACK, []),
    ],
)
def test_misspellings_inflections_and_letters_apart_are_found(text, phrases, pieces):
    assert [text[p.start : p.end] for p in pieces_like(text, phrases)] == pieces


def test_pieces_do_not_overlap_and_keep_their_phrase():
    found = pieces_like("the gunn, a gun", PACK)
    assert [(p.start, p.end, p.phrase) for p in found] == [(0, 8, "the gun"), (10, 15, "a gun")]
