"""Chooses the smallest set of sites whose joint effect reaches a target share. Pure: it asks an oracle, not a model.

Sites back each other up, so single effects add up to far less than the joint one; ranking by them and cutting gives
sets that are too large or wrong. So the set grows by what helps it most, is pruned of what it no longer needs, and
improved by exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Grown", "choose_sites"]

Ask = Callable[[Iterable[frozenset[str]]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Grown:
    """The outcome: the chosen sites in the order in which they joined, their share, and the path of shares against K.

    `compact` is False when more than the allowed share of all sites is needed: then no small set carries the concept.
    """

    sites: tuple[str, ...]
    share: float
    path: tuple[tuple[int, float, tuple[str, ...]], ...]
    compact: bool


def choose_sites(names: Sequence[str], ask: Ask, *, target: float = 0.9, most: float = 0.5) -> Grown:
    """The smallest set found whose joint effect is at least `target`.

    Args:
        names: all sites, in execution order.
        ask: the joint share of each of some sets.
        target: the share to reach, of the effect of swapping all sites.
        most: a set of more than this part of all sites is no compact answer.

    Raises:
        ValueError: no sites, or a target outside (0, 1].
    """
    if not names or not 0 < target <= 1:
        raise ValueError(f"need sites and a target in (0, 1], got {len(names)} sites and target {target}")
    chosen: tuple[str, ...] = ()
    path: list[tuple[int, float, tuple[str, ...]]] = []
    share = 0.0
    while share < target and len(chosen) < len(names):
        rest = [name for name in names if name not in chosen]
        shares = ask([frozenset((*chosen, name)) for name in rest])
        share, best = max(zip(shares, rest, strict=True))
        chosen = _exchange(names, (*chosen, best), ask)
        (share,) = ask([frozenset(chosen)])
        path.append((len(chosen), share, chosen))
    chosen, share = _prune(chosen, share, ask, target)
    return Grown(chosen, share, tuple(path), compact=len(chosen) <= most * len(names))


def _exchange(names: Sequence[str], chosen: tuple[str, ...], ask: Ask) -> tuple[str, ...]:
    """The set with its oldest weak member replaced, as long as that helps: greedy first picks are often poor."""
    for _ in range(len(chosen) - 1):
        swaps = [(old, new) for old in chosen[:-1] for new in names if new not in chosen]
        if not swaps:
            return chosen
        shares = ask([frozenset(chosen) - {old} | {new} for old, new in swaps] + [frozenset(chosen)])
        share, (old, new) = max(zip(shares[:-1], swaps, strict=True))
        if share <= shares[-1] + 1e-3:
            return chosen
        chosen = (*(name for name in chosen if name != old), new)
    return chosen


def _prune(chosen: tuple[str, ...], share: float, ask: Ask, target: float) -> tuple[tuple[str, ...], float]:
    """The set without members that it can do without and still reach the target."""
    while len(chosen) > 1:
        without = [tuple(name for name in chosen if name != gone) for gone in chosen]
        shares = ask([frozenset(s) for s in without])
        best, smaller = max(zip(shares, without, strict=True))
        if best < target:
            break
        chosen, share = smaller, best
    return chosen, share
