"""Whether a condition can hold at all, and whether it can fail: every way is tried in which a request may vary.

What may vary is finite: the moment between two bounds of `time`, the tenant among those that are named and one that is
not, and the truth of each other predicate, as far as one does not imply another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import product

from policies.judgement import Judgement
from policies.predicates.compound import Compound, combine, singles
from policies.predicates.condition import Condition, Lists, SingleCondition
from policies.predicates.tenant import TenantCheck
from policies.predicates.time import TimeCheck
from policies.predicates.words import WordCheck

__all__ = ["can_be"]

_MOST = 10  # predicates that are tried with both truths; of more, each counts as unknown
_WEEK = 8  # days from a bound on, after which `weekdays` and `between` repeat
_Truths = dict[SingleCondition, bool | None]


def can_be(truth: bool, when: Condition, lists: Lists, now: datetime) -> bool:
    """Whether some request from `now` on gives `when` this truth. False is certain, True may be wrong.

    Detectors are taken to answer.
    """
    parts = list(dict.fromkeys(singles(when)))
    outer = [s for s in parts if isinstance(s, TimeCheck | TenantCheck)]
    inner = [s for s in parts if s not in outer]
    known = {
        tuple(_holds(s, moment, tenant) for s in outer)
        for moment, tenant in product(_moments(outer, now), _tenants(outer))
    }
    for first, second in product(known, _assignments(inner, lists)):
        truths: _Truths = {**dict(zip(outer, first, strict=True)), **second}
        if _truth(when, truths) in (truth, None):
            return True
    return False


def _truth(when: Condition, truths: _Truths) -> bool | None:
    if isinstance(when, Compound):
        return combine(when.kind, [Judgement(_truth(part, truths)) for part in when.parts]).truth
    return truths[when] if isinstance(when, SingleCondition) else None


def _assignments(singles: Sequence[SingleCondition], lists: Lists) -> Iterator[_Truths]:
    """The truths that these predicates may have together."""
    dead = {s for s in singles if isinstance(s, WordCheck) and not s.findable(lists)}
    if len(singles) > _MOST:
        yield {s: False if s in dead else None for s in singles}
        return
    follows = [(a, b) for a, b in product(singles, repeat=2) if a is not b and a.implies(b, lists, lists)]
    for values in product((False, True), repeat=len(singles)):
        truths: _Truths = dict(zip(singles, values, strict=True))
        if not any(truths[s] for s in dead) and not any(truths[a] and not truths[b] for a, b in follows):
            yield truths


def _holds(single: SingleCondition, moment: datetime, tenant: str) -> bool:
    return (
        single.holds(moment)
        if isinstance(single, TimeCheck)
        else isinstance(single, TenantCheck) and single.holds(tenant)
    )


def _moments(singles: Sequence[SingleCondition], now: datetime) -> set[datetime]:
    """A moment between any two neighbouring bounds of the times, from `now` on."""
    times = [s for s in singles if isinstance(s, TimeCheck)]
    bounds = {now, *(m for t in times for m in (t.since, t.until) if m is not None and m > now)}
    minutes = {0, *(m for t in times for m in t.between or ())}
    found = set(bounds)
    for bound in bounds if times else ():
        midnight = bound.replace(hour=0, minute=0, second=0, microsecond=0)
        found |= {midnight + timedelta(days=d, minutes=m) for d in range(_WEEK + 1) for m in minutes}
    return {moment for moment in found if moment >= now}


def _tenants(singles: Sequence[SingleCondition]) -> set[str]:
    """Every tenant that is named, one for each prefix, and one that has neither name nor prefix here."""
    checks = [s for s in singles if isinstance(s, TenantCheck)]
    prefixes = {p for c in checks for p in c.prefixes}
    return {"\0", *prefixes, *(f"{p}\0" for p in prefixes), *(n for c in checks for n in c.names)}
