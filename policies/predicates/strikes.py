"""The predicate `strikes`: how often rules acted on earlier requests of the person for whom the caller asks.

The caller names this person by `safety_identifier`. What is known of earlier requests comes with the request: this room
keeps no state. Whatever cannot be known, because a server's memory does not answer, makes the rule one that cannot be
judged, unless what is known is enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from policies.evidence import Evidence
from policies.fields import Duration, FormatModel, Name, length
from policies.judgement import FALSE, Judgement, Reason
from policies.predicates.compound import singles
from policies.predicates.condition import Condition, Lists, SingleCondition
from policies.predicates.predicate import Predicate, RuleScope
from policies.types import STRIKE_KINDS, Stage, StrikeKind

__all__ = ["MOST_STRIKES", "PREDICATE", "StrikeCheck", "StrikesModel", "longest"]

MOST_STRIKES = 100  # the most that a condition can ask for, so no more of a kind are kept
_LONGEST = timedelta(days=30)


class StrikesModel(FormatModel):
    """At least so many earlier requests, of the same key and `safety_identifier`, on which rules acted.

    `of` says what must have become of such a request: it was `refused`, `held` for a person, or `repaired` because its
    prompt made a rule steer. With `category` only rules of this category count.
    """

    at_least: Annotated[int, Field(ge=1, le=MOST_STRIKES)]
    within: Duration
    of: Annotated[list[StrikeKind], Field(min_length=1, max_length=3)] = list(STRIKE_KINDS)
    category: Name | None = None

    @model_validator(mode="after")
    def _check(self) -> StrikesModel:
        if length(self.within) > _LONGEST:
            said = "`within` must be at most 30d: older strikes are forgotten, got `{got}`"
            raise PydanticCustomError("strikes", said, {"got": self.within})
        return self


@dataclass(frozen=True, slots=True)
class StrikeCheck(SingleCondition):
    """Whether at least `at_least` strikes of the kinds `of`, and of `category` if there is one, are not older than
    `within`.
    """

    at_least: int
    within: timedelta
    of: frozenset[StrikeKind]
    category: str | None = None

    def judge(self, evidence: Evidence, rule: str) -> Judgement:
        strikes = evidence.request.strikes
        found = strikes.count(self.within, self.of, self.category)
        if found >= self.at_least:
            return Judgement(True, (Reason(rule, "strikes", f"rules acted on {found} earlier requests"),))
        return FALSE if strikes.error is None else Judgement(None, error=strikes.error)

    def triggers(self) -> None:
        return None

    def looks_at(self) -> frozenset[tuple[Stage, str]]:
        return frozenset()

    def implies(self, other: SingleCondition, lists: Lists, others: Lists) -> bool:
        if not isinstance(other, StrikeCheck):
            return False
        narrower = self.of <= other.of and other.category in (None, self.category)
        return narrower and self.at_least >= other.at_least and self.within <= other.within


def longest(conditions: Iterable[Condition]) -> timedelta | None:
    """The longest `within` of the conditions; None if none of them asks for strikes."""
    checks = (single for condition in conditions for single in singles(condition))
    return max((check.within for check in checks if isinstance(check, StrikeCheck)), default=None)


def _compile(strikes: StrikesModel, scope: RuleScope) -> StrikeCheck:
    return StrikeCheck(strikes.at_least, length(strikes.within), frozenset(strikes.of), strikes.category)


PREDICATE = Predicate("strikes", StrikesModel, _compile)
