"""The interface of compiled conditions: what every predicate implements.

A new predicate is a new subclass of `SingleCondition`. Python refuses to make an object of a subclass that leaves a
method out, and mypy reports it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from policies.evidence import Evidence, Trigger
from policies.judgement import Judgement
from policies.types import Stage

__all__ = ["Condition", "Lists", "SingleCondition"]

Lists = Mapping[str, tuple[str, ...]]  # the folded entries of word lists, by name


class Condition(ABC):
    """A compiled `when`: frozen, with every list, date and duration resolved."""

    __slots__ = ()

    @abstractmethod
    def judge(self, evidence: Evidence, rule: str) -> Judgement:
        """Whether the condition holds; the reasons carry the name of `rule`."""

    @abstractmethod
    def triggers(self) -> frozenset[Trigger] | None:
        """A set of triggers such that the condition is false when none of them holds; None when there is no such
        set."""

    @abstractmethod
    def looks_at(self) -> frozenset[tuple[Stage, str]]:
        """The signals that the condition needs, as (stage, name)."""

    def reads(self) -> frozenset[str]:
        """The names of the signals that the condition needs of the picture."""
        return frozenset(name for stage, name in self.looks_at() if stage == "picture")


class SingleCondition(Condition):
    """One compiled predicate."""

    __slots__ = ()

    @abstractmethod
    def implies(self, other: SingleCondition, lists: Lists, others: Lists) -> bool:
        """Whether `other` certainly holds wherever this condition does; False when that is not certain.

        `lists` are the word lists of this condition, `others` those of `other`. Detectors are taken to answer.
        """
