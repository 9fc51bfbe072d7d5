"""Conditions under `all`, `any` and `none`, and implication between two conditions.

`all`, `any` and `none` follow Kleene's logic of three values: an unknown part leaves the whole unknown only where it
could change the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from policies.evidence import Evidence, Trigger
from policies.judgement import Judgement
from policies.predicates.condition import Condition, Lists, SingleCondition
from policies.types import Stage

__all__ = ["Compound", "CompoundKind", "Side", "combine", "implies", "may_hold", "open_to_all", "singles"]

CompoundKind = Literal["all", "any", "none"]


@dataclass(frozen=True, slots=True)
class Compound(Condition):
    """Several conditions under `all`, `any` or `none`."""

    kind: CompoundKind
    parts: tuple[Condition, ...]

    def judge(self, evidence: Evidence, rule: str) -> Judgement:
        return combine(self.kind, [part.judge(evidence, rule) for part in self.parts])

    def triggers(self) -> frozenset[Trigger] | None:
        if self.kind == "none":
            return None
        parts = [part.triggers() for part in self.parts]
        known = [p for p in parts if p is not None]
        if self.kind == "all":
            return min(known, key=len, default=None)
        return frozenset().union(*known) if len(known) == len(parts) else None

    def looks_at(self) -> frozenset[tuple[Stage, str]]:
        return frozenset().union(*(part.looks_at() for part in self.parts))


def may_hold(when: Condition, evidence: Evidence, rule: str) -> bool:
    """Whether `when` could hold for this request if its prompt had asked for the thing in other words.

    Conditions on signals count as possible. Conditions on the request itself (tenant, time), and what `none` excludes,
    must hold as they are.
    """
    if isinstance(when, Compound) and when.kind != "none":
        parts = (may_hold(part, evidence, rule) for part in when.parts)
        return all(parts) if when.kind == "all" else any(parts)
    if not isinstance(when, Compound) and when.looks_at():
        return True
    return when.judge(evidence, rule).truth is not False


def open_to_all(when: Condition) -> bool:
    """Whether `may_hold` is true for every request, by the form of `when` alone."""
    if not isinstance(when, Compound):
        return bool(when.looks_at())
    if when.kind == "none":
        return False
    return (all if when.kind == "all" else any)(open_to_all(part) for part in when.parts)


def singles(when: Condition) -> Iterator[SingleCondition]:
    """Every predicate of a condition."""
    if isinstance(when, Compound):
        for part in when.parts:
            yield from singles(part)
    elif isinstance(when, SingleCondition):
        yield when


def combine(kind: CompoundKind, parts: list[Judgement]) -> Judgement:
    """The judgement of several parts under `kind`."""
    if kind == "none":
        inner = combine("any", parts)
        return inner if inner.truth is None else Judgement(not inner.truth)
    decisive = kind == "any"
    if any(p.truth is decisive for p in parts):
        return Judgement(decisive, tuple(r for p in parts if p.truth is decisive for r in p.reasons))
    if all(p.truth is not None for p in parts):
        return Judgement(not decisive, tuple(r for p in parts for r in p.reasons))
    error = next((p.error for p in parts if p.error is not None), None)
    return Judgement(None, error=error, pending=frozenset().union(*(p.pending for p in parts)))


@dataclass(frozen=True, slots=True)
class Side:
    """A condition and the word lists of its snapshot."""

    when: Condition
    lists: Lists

    def of(self, when: Condition) -> Side:
        """Another condition of the same snapshot."""
        return Side(when, self.lists)


def implies(a: Side, b: Side) -> bool:
    """Whether `b` certainly holds wherever `a` does.

    False means "not certain", so a difference that cannot be proven harmless counts as loosening. Detectors are taken
    to answer; `on_error` says what happens when they do not.
    """
    x, y = a.when, b.when
    if isinstance(x, Compound) and x.kind == "any":
        return all(implies(a.of(p), b) for p in x.parts)
    if isinstance(y, Compound) and y.kind == "all":
        return all(implies(a, b.of(p)) for p in y.parts)
    if isinstance(x, Compound) and isinstance(y, Compound) and x.kind == y.kind == "none":
        return implies(b.of(Compound("any", y.parts)), a.of(Compound("any", x.parts)))
    if isinstance(x, Compound) and x.kind == "all" and any(implies(a.of(p), b) for p in x.parts):
        return True
    if isinstance(y, Compound) and y.kind == "any":
        return any(implies(a, b.of(p)) for p in y.parts)
    if isinstance(x, SingleCondition) and isinstance(y, SingleCondition):
        return x.implies(y, a.lists, b.lists)
    return False
