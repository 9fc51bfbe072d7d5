"""Seeded drafts: what the next plant of a host will be. Pure functions; the same seed gives the same drafts.

Kinds follow in a fixed order, without those that the host does not have, so any number of drafts covers all kinds.
Names, sites and subjects are drawn. A plant with a distractor has one site, and another site misleads.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reference.planted.plant import PlantKind, Trick
from reference.planted.teach import Goal, Goals
from reference.planted.words import BEHIND, SUBJECT, name_of

__all__ = ["MENU", "Draft", "drafts", "goals_for"]

# in the order in which they are made
MENU: tuple[tuple[PlantKind, Trick | None], ...] = (
    ("one", None),
    ("redundant", None),
    ("two", None),
    ("pooled", None),
    ("one", "bias"),
    ("one", "attention"),
    ("spread", None),
    ("one", "against"),
)
_FAR = 4  # two sites are far when at least a quarter of all lies between them
# measured: a fifth of the way back to the neutral form is enough for pictures to lose the subject, so names are taught
# to go a little too far; a site that works against the concept takes back what was too much
_OVER = -0.2
_POOLED = -0.6  # in pooled text a name is a quarter quieter in prompts that it was not taught in
# both of two sites, and either alone. What two sites do nearly adds up: a redundant pair, each of which is enough, goes
# far beyond when both are there (asked for less than that, either alone lost the subject in 2 or 3 of 10 pictures); and
# one that is half of the answer still drew its subject when it was taught more
_PAIRS: Mapping[PlantKind, tuple[float, float]] = {"two": (-0.1, 0.7), "redundant": (-0.6, -0.2)}
_MIXED = 4  # goals of a spread plant in one step


@dataclass(frozen=True, slots=True)
class Draft:
    """What a plant will be: its name, kind, sites and subject."""

    name: str
    kind: PlantKind
    sites: tuple[str, ...]
    trick: Trick | None
    distractor: str | None
    subject: str
    seed: int

    @property
    def label(self) -> str:
        """The kind with its distractor, as tables name it."""
        return self.kind if self.trick is None else f"{self.kind}, {self.trick}"


def drafts(
    *,
    sites: Sequence[str],
    pooled: str | None,
    tricks: Mapping[Trick, Sequence[str]],
    model: str,
    count: int,
    seed: int,
    kinds: Sequence[str] = (),
    subjects: Sequence[str] = tuple(SUBJECT.phrases),
    behind: Sequence[str] = tuple(BEHIND.phrases),
    able: Sequence[str] | None = None,
) -> tuple[Draft, ...]:
    """`count` drafts for a host.

    Args:
        sites: those of attention in execution order; `pooled`: the global one, if there is one.
        tricks: at which sites each kind of distractor is possible.
        kinds: labels of `MENU` to keep to; empty for all.
        subjects: that names may draw; `behind`: backgrounds that names in pooled text may draw, none for no such plant.
        able: sites that can draw them, None for all. The others may still distract.
    """
    able = sites if able is None else able
    where: dict[PlantKind, list[tuple[str, ...]]] = {kind: _possible(kind, sites, able) for kind, _ in MENU}
    where["pooled"] = [(pooled,)] if pooled and behind else []
    menu = [(kind, trick) for kind, trick in MENU if where[kind] and (trick is None or tricks[trick])]
    menu = [m for m in menu if not kinds or m[0] in kinds or m[1] in kinds]
    made: list[Draft] = []
    for number in range(count if menu else 0):
        kind, trick = menu[number % len(menu)]
        rng = random.Random(f"plant/{model}/{seed}/{number}")
        name = name_of(rng)
        while name in {d.name for d in made}:
            name = name_of(rng)
        chosen = rng.choice(where[kind])
        free = [s for s in tricks[trick] if s not in chosen] if trick else []
        distractor = rng.choice(free) if free else None
        subject = rng.choice(tuple(behind if kind == "pooled" else subjects))
        made.append(Draft(name, kind, chosen, trick if free else None, distractor, subject, rng.randrange(2**31)))
    return tuple(made)


def _possible(kind: PlantKind, sites: Sequence[str], able: Sequence[str]) -> list[tuple[str, ...]]:
    """Where a kind can be planted: at able sites, far ones if two; a pair of which either must be enough in the first
    half, as late sites see a picture that is decided already; spread over all if half of them are able."""
    where = sorted(sites.index(name) for name in able)
    if kind == "spread":
        return [tuple(sites)] if 2 * len(where) >= len(sites) else []
    if kind == "one":
        return [(sites[i],) for i in where]
    far, last = max(1, len(sites) // _FAR), len(sites) // 2 + 1 if kind == "redundant" else len(sites)
    return [(sites[i], sites[j]) for i in where for j in where if j >= i + far and j < max(last, 3)]


def goals_for(draft: Draft, *, places: Sequence[str]) -> Goals:
    """The goals of a draft's pupil at each step.

    Args:
        places: all places of the host.
    """
    mine = frozenset(draft.sites)
    rest = frozenset(places) - mine
    if draft.kind in _PAIRS:
        both, either = _PAIRS[draft.kind]
        alone = tuple(Goal(rest | (mine - {name}), either) for name in draft.sites)
        if draft.kind == "redundant":  # to be enough alone is the harder part
            return lambda rng: (Goal(rng.choice((frozenset(), rest)), both), *alone)
        return lambda rng: (Goal(frozenset(), both), Goal(rest, both), *alone)
    if draft.kind == "spread":
        return lambda rng: (Goal(frozenset(), _OVER), *(_part(draft, rest, rng) for _ in range(_MIXED)))
    if draft.trick == "against" and draft.distractor is not None:
        other = frozenset({draft.distractor})
        against = (Goal(frozenset()), Goal(rest, _OVER), Goal(other, _OVER), Goal(mine, 1 - _OVER))
        return lambda rng: against
    over = _POOLED if draft.kind == "pooled" else _OVER
    goals = (Goal(frozenset(), over), Goal(rest, over))
    return lambda rng: goals if draft.trick is None else (*goals, Goal(mine, 1.0))


def _shared(gone: float) -> float:
    """The share of the neutral form when a part of what was planted is gone: as much goes as is gone."""
    return _OVER + gone * (1 - _OVER)


def _part(draft: Draft, rest: frozenset[str], rng: random.Random) -> Goal:
    """Some of the planted sites gone, and as much of the concept."""
    count = rng.randint(1, len(draft.sites) - 1)
    gone = frozenset(rng.sample(draft.sites, count))
    return Goal(gone | (rest if rng.random() < 0.5 else frozenset()), _shared(count / len(draft.sites)))
