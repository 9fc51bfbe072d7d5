"""Chooses the smallest set of sites whose joint effect reaches a target share. Pure: a function gives the effects.

Sites back each other up, so single effects add up to far less than the joint one, and cutting a ranking by single
effects gives sets that are too large or wrong. `choose_ranked` takes a ranking as a proposal: it looks for the shortest
beginning that is enough, takes out what can be spared, and tries exchanges. It asks for about ten sets, whatever the
number of sites. `choose_sites` uses no ranking and asks for thousands; `choose_ranked` is measured against it.

A member that brings little is also taken out where the rest misses the target by at most one standard error: the
smaller of two sets that cannot be told apart is the better answer (Breiman et al., 1984, "Classification and regression
trees", the rule of one standard error). Without this rule a site that brought 0.04 was added to one that carries 0.89.

Of sets of one size that cannot be told apart, `most_specific` takes the one that carries least of everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

__all__ = ["Ask", "Grown", "ShareError", "best_of_size", "choose_ranked", "choose_sites", "most_specific"]

Ask = Callable[[Iterable[frozenset[str]]], Sequence[float]]
ShareError = Callable[[frozenset[str]], float]
_BETTER = 0.01  # of the share: an exchange that brings less is noise
_NOISE = 0.03  # of the share: however noisy the contrasts, a set that misses the target by more is not enough
_LITTLE = 0.05  # of the share: a member that brings more is not taken out for the sake of noise


@dataclass(frozen=True, slots=True)
class Grown:
    """The outcome: the chosen sites in the order in which they joined, their share, and the path of shares against K.

    `compact` is False when more than the allowed share of all sites is needed: then no small set carries the concept.
    `others`: further sets of the same size that reach the target, with their shares. `finished` is False when the
    budget ended before the search did.
    """

    sites: tuple[str, ...]
    share: float
    path: tuple[tuple[int, float, tuple[str, ...]], ...]
    compact: bool
    others: tuple[tuple[tuple[str, ...], float], ...] = ()
    finished: bool = True


@dataclass(slots=True)
class _Known:
    """The sets that were measured so far; none is measured twice, and none beyond the budget."""

    ask: Ask
    affords: Callable[[int], bool]
    target: float
    error: ShareError
    shares: dict[frozenset[str], float] = field(default_factory=dict)
    finished: bool = True

    def of(self, sets: Sequence[frozenset[str]]) -> list[float] | None:
        """The shares of sets, or None when they cannot be afforded."""
        new = [s for s in dict.fromkeys(sets) if s not in self.shares]
        if new and not self.affords(len(new)):
            self.finished = False
            return None
        self.shares.update(zip(new, self.ask(new) if new else (), strict=True))
        return [self.shares[s] for s in sets]

    def enough(self, s: frozenset[str]) -> bool:
        """Whether a set that was asked about reaches the target."""
        return self.shares[s] >= self.target

    def spares(self, s: frozenset[str], less: frozenset[str]) -> bool:
        """Whether `less`, which is `s` without a member, is enough, or cannot be told from what is."""
        little = self.shares[s] - self.shares[less] <= _LITTLE
        return self.enough(less) or (little and self.shares[less] + min(self.error(less), _NOISE) >= self.target)


def choose_ranked(
    ranked: Sequence[str],
    ask: Ask,
    *,
    target: float = 0.9,
    most: float = 0.5,
    guess: int = 1,
    affords: Callable[[int], bool] = lambda sets: True,
    error: ShareError = lambda s: 0.0,
) -> Grown:
    """The smallest set found whose joint effect is at least `target`, within the noise, from a ranking.

    Args:
        ranked: all units, the most promising first.
        ask: the joint share of each of some sets.
        guess: how many of the first are expected to be enough.
        affords: whether so many more sets may be asked about.
        error: one standard error of the share of a set that was asked about.

    Raises:
        ValueError: no sites, or a target outside (0, 1].
    """
    _check(ranked, target)
    known = _Known(ask, affords, target, error, {frozenset(): 0.0, frozenset(ranked): 1.0})
    chosen = tuple(ranked[: _shortest(ranked, known, max(1, min(guess, len(ranked))))])
    while True:
        chosen = _spared(chosen, ranked, known)
        better = _exchanged(chosen, ranked, known)
        if better is None:
            break
        chosen = better
    share = known.shares[frozenset(chosen)]
    tried = {s: v for s, v in known.shares.items() if 0 < len(s) < len(ranked)}
    best: dict[int, tuple[float, frozenset[str]]] = {}
    for s, value in tried.items():
        best[len(s)] = max(best.get(len(s), (-1.0, s)), (value, s), key=lambda pair: pair[0])
    place = {name: n for n, name in enumerate(ranked)}
    path = tuple((k, v, tuple(sorted(s, key=place.__getitem__))) for k, (v, s) in sorted(best.items()))
    others = tuple(
        (tuple(sorted(s, key=place.__getitem__)), v)
        for s, v in tried.items()
        if len(s) == len(chosen) and s != frozenset(chosen) and known.enough(s)
    )
    return Grown(chosen, share, path, len(chosen) <= most * len(ranked), others, known.finished)


def _shortest(ranked: Sequence[str], known: _Known, guess: int) -> int:
    """The length of the shortest beginning that reaches the target, by steps away from the guess, then by halves.

    One and the next shorter one are asked about together: a joint host pays its twin once for both.
    """
    low, high, k = 0, len(ranked), min(guess, len(ranked) - 1) or 1
    while high - low > 1:
        asked = [frozenset(ranked[:n]) for n in (k, k - 1) if n > low]
        if known.of(asked) is None:
            break
        if known.enough(asked[-1]):
            high = max(low + 1, k - 1)
        elif known.enough(asked[0]):
            return k
        else:
            low = k
        if high == len(ranked):  # none is enough yet: go up, by more each time
            k = min(high - 1, max(k + 1, low + max(1, (low - guess + 1))))
        elif low == 0 and high > 2:  # all were enough: the guess is rarely far off
            k = high - 1
        else:
            k = (low + high) // 2
    return high


def _spared(chosen: tuple[str, ...], ranked: Sequence[str], known: _Known) -> tuple[str, ...]:
    """The set without members that it can do without: the last of the ranking are tried first, then the others, because
    a ranking may have duds in front."""
    while len(chosen) > 1:
        weak = sorted(chosen, key=ranked.index, reverse=True)
        for tried in (weak[:3], weak[3:]) if len(weak) > 4 else (weak,):
            without = [tuple(n for n in chosen if n != gone) for gone in tried]
            shares = known.of([frozenset(s) for s in without])
            whole = frozenset(chosen)
            able = [(v, s) for v, s in zip(shares or (), without, strict=False) if known.spares(whole, frozenset(s))]
            if able:
                chosen = max(able, key=lambda pair: pair[0])[1]
                break
        else:
            return chosen
    return chosen


def _exchanged(chosen: tuple[str, ...], ranked: Sequence[str], known: _Known) -> tuple[str, ...] | None:
    """The set with a weak member exchanged for one of the next best, where that helps; None where it does not."""
    outside = [n for n in ranked if n not in chosen][:2]
    weak = sorted(chosen, key=ranked.index, reverse=True)[:2]
    swaps = [(*(n for n in chosen if n != old), new) for old in weak for new in outside]
    shares = known.of([frozenset(s) for s in swaps]) if swaps else None
    if shares is None:
        return None
    share, best = max(zip(shares, swaps, strict=True), key=lambda pair: pair[0])
    return best if share > known.shares[frozenset(chosen)] + _BETTER else None


def most_specific(grown: Grown, error: ShareError, controls: Ask, control_error: ShareError) -> Grown:
    """The finding, with another set of the same size in the place of the chosen one where their shares are within one
    standard error and it carries less of the controls, by more than one.

    Args:
        error: one standard error of the share of a set that was asked about.
        controls: the share that each of some sets carries of contrasts that leave the concept alone.
        control_error: one standard error of such a share.
    """
    least = grown.share - min(error(frozenset(grown.sites)), _NOISE)
    equal = [(grown.sites, grown.share), *((sites, share) for sites, share in grown.others if share >= least)]
    if not grown.compact or len(equal) == 1:
        return grown
    carried = controls([frozenset(sites) for sites, _ in equal])
    least_else, (sites, share) = min(zip(carried, equal, strict=True), key=lambda pair: pair[0])
    if least_else >= carried[0] - control_error(frozenset(grown.sites)):
        return grown
    others = (equal[0], *(other for other in grown.others if other[0] != sites))
    return replace(grown, sites=sites, share=share, others=others)


def choose_sites(names: Sequence[str], ask: Ask, *, target: float = 0.9, most: float = 0.5) -> Grown:
    """The smallest set found whose joint effect is at least `target`, without a ranking: greedily, with all exchanges.

    Args:
        names: all sites, in execution order.
        ask: the joint share of each of some sets.
        target: the share to reach, of the effect of swapping all sites.
        most: a set of more than this part of all sites is no compact answer.

    Raises:
        ValueError: no sites, or a target outside (0, 1].
    """
    _check(names, target)
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


def best_of_size(names: Sequence[str], ask: Ask, k: int) -> tuple[str, ...]:
    """The set of `k` units with the largest joint effect that greedy growth with exchanges finds."""
    chosen: tuple[str, ...] = ()
    while len(chosen) < k:
        rest = [name for name in names if name not in chosen]
        shares = ask([frozenset((*chosen, name)) for name in rest])
        chosen = _exchange(names, (*chosen, max(zip(shares, rest, strict=True))[1]), ask)
    return chosen


def _check(names: Sequence[str], target: float) -> None:
    if not names or not 0 < target <= 1:
        raise ValueError(f"need sites and a target in (0, 1], got {len(names)} sites and target {target}")


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
