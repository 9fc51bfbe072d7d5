"""The kind of answer that a search has: a set, several places of which each is enough, pooled text, or no compact set.

Two numbers tell them apart. What a set *takes away* is the share of the full swap's effect when the donor's text is
shown there and nowhere else. What it *carries* is the share of the own picture that is left when the donor's text is
shown everywhere else. Of a redundant pair each site takes little away, and each carries the picture alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

__all__ = ["AnswerKind", "answer_of", "carry_sets"]

AnswerKind = Literal["set", "alternatives", "pooled", "no compact set"]
_ALONE = 0.7  # of the own picture: a place that carries so much needs no other
_LARGEST = 4  # sets of more members are not asked whether each is enough


def carry_sets(chosen: Sequence[str], units: Sequence[str], *, compact: bool) -> dict[str, frozenset[str]]:
    """The sets to measure for `answer_of`: all but the chosen, and all but each one of few."""
    everything = frozenset(units)
    alone = chosen if compact and 1 < len(chosen) <= _LARGEST else ()
    return {"together": everything - set(chosen)} | {name: everything - {name} for name in alone}


def answer_of(
    chosen: Sequence[str], carried: Mapping[str, float], *, sites: Iterable[str], compact: bool
) -> tuple[AnswerKind, tuple[tuple[str, ...], ...]]:
    """The class of the answer, and the sets of which each is enough.

    carried: for the chosen `together` and for members alone, the share of the own picture that they carry.
    """
    if not compact:
        return "no compact set", ()
    if not set(chosen) & set(sites):
        return "pooled", (tuple(chosen),)
    alone = [name for name in chosen if name in carried]
    if len(alone) == len(chosen) > 1 and min(carried[n] for n in alone) >= _ALONE * carried["together"] > 0:
        return "alternatives", tuple((name,) for name in chosen)
    return "set", (tuple(chosen),)
