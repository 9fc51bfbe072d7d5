"""Whether one condition certainly holds whenever another does: what the difference of two policies rests on.

The answer is yes or "not certain", never a guess: typed predicates make most everyday edits provable, and what is not
provable counts as loosening. It is true as long as detectors answer; what an error means is `on_error`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from policies.decide.rules import Compound, Condition, Finding, TenantCheck, TimeCheck, WordCheck

__all__ = ["Side", "implies", "lasts"]


@dataclass(frozen=True, slots=True)
class Side:
    """A condition and the lists of the snapshot that it stands in."""

    when: Condition
    words: Mapping[str, tuple[str, ...]]

    def of(self, when: Condition) -> Side:
        return Side(when, self.words)

    def entries(self, lists: Iterable[str]) -> frozenset[str]:
        return frozenset(w for name in lists for w in self.words.get(name, ()))


def implies(a: Side, b: Side) -> bool:
    """Whether `b` certainly holds wherever `a` does."""
    if isinstance(a.when, Compound) and a.when.kind == "any":
        return all(implies(a.of(p), b) for p in a.when.parts)
    if isinstance(b.when, Compound) and b.when.kind == "all":
        return all(implies(a, b.of(p)) for p in b.when.parts)
    if isinstance(a.when, Compound) and isinstance(b.when, Compound) and a.when.kind == b.when.kind == "none":
        return implies(b.of(Compound("any", b.when.parts)), a.of(Compound("any", a.when.parts)))
    if isinstance(a.when, Compound) and a.when.kind == "all" and any(implies(a.of(p), b) for p in a.when.parts):
        return True
    if isinstance(b.when, Compound) and b.when.kind == "any":
        return any(implies(a, b.of(p)) for p in b.when.parts)
    return _leaf(a, b)


def lasts(inner: tuple[datetime | None, datetime | None], outer: tuple[datetime | None, datetime | None]) -> bool:
    """Whether the time from `inner[0]` until `inner[1]` lies within that of `outer`; None is without a bound."""
    begins = outer[0] is None or (inner[0] is not None and outer[0] <= inner[0])
    ends = outer[1] is None or (inner[1] is not None and inner[1] <= outer[1])
    return begins and ends


def _leaf(a: Side, b: Side) -> bool:
    x, y = a.when, b.when
    if isinstance(x, WordCheck) and isinstance(y, WordCheck):
        same = (x.stage, x.name) == (y.stage, y.name) and (x.plain or not y.plain)
        return same and a.entries(x.lists) <= b.entries(y.lists) and b.entries(y.unless) <= a.entries(x.unless)
    if isinstance(x, Finding) and isinstance(y, Finding):
        return (x.stage, x.name, x.lettering) == (y.stage, y.name, y.lettering) and y.at_least <= x.at_least
    if isinstance(x, TenantCheck) and isinstance(y, TenantCheck):
        return all(map(y.holds, x.names)) and all(p.startswith(y.prefixes) for p in x.prefixes)
    if isinstance(x, TimeCheck) and isinstance(y, TimeCheck):
        days = y.weekdays is None or (x.weekdays is not None and x.weekdays <= y.weekdays)
        return days and lasts((x.since, x.until), (y.since, y.until)) and y.between in (None, x.between)
    return False
