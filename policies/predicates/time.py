"""The predicate `time`: when the request comes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from policies.evidence import Evidence
from policies.fields import FormatModel, Moment, moment
from policies.judgement import FALSE, Judgement, Reason
from policies.predicates.condition import Lists, SingleCondition
from policies.predicates.predicate import Predicate, RuleScope
from policies.types import Stage

__all__ = ["PREDICATE", "TimeCheck", "TimeModel", "lasts"]

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class TimeModel(FormatModel):
    """A time in UTC; everything that is given must hold. `between` may run over midnight."""

    since: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None
    weekdays: Annotated[list[Weekday], Field(min_length=1, max_length=7)] | None = None
    between: Annotated[list[TimeOfDay], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _check(self) -> TimeModel:
        if not self.model_fields_set:
            raise PydanticCustomError("time", "`time` must hold at least one of `from`, `until`, `weekdays`, `between`")
        start, end = moment(self.since), moment(self.until)
        if start is not None and end is not None and start >= end:
            raise PydanticCustomError("time", "`until` must be later than `from`, or the time never comes")
        if self.between is not None and self.between[0] == self.between[1]:
            raise PydanticCustomError("time", "`between` needs two different times of day")
        return self


@dataclass(frozen=True, slots=True)
class TimeCheck(SingleCondition):
    """Whether the request comes at some time, in UTC. `weekdays` count from Monday, `between` is minutes of the day."""

    since: datetime | None = None
    until: datetime | None = None
    weekdays: frozenset[int] | None = None
    between: tuple[int, int] | None = None

    def holds(self, now: datetime) -> bool:
        if (self.since is not None and now < self.since) or (self.until is not None and now >= self.until):
            return False
        if self.weekdays is not None and now.weekday() not in self.weekdays:
            return False
        if self.between is None:
            return True
        start, end = self.between
        minute = now.hour * 60 + now.minute
        return start <= minute < end if start < end else minute >= start or minute < end

    def judge(self, evidence: Evidence, rule: str) -> Judgement:
        now = evidence.request.now
        if not self.holds(now):
            return FALSE
        return Judgement(True, (Reason(rule, "time", f"the time is {now:%Y-%m-%d %H:%M} UTC"),))

    def triggers(self) -> None:
        return None

    def looks_at(self) -> frozenset[tuple[Stage, str]]:
        return frozenset()

    def implies(self, other: SingleCondition, lists: Lists, others: Lists) -> bool:
        if not isinstance(other, TimeCheck):
            return False
        days = other.weekdays is None or (self.weekdays is not None and self.weekdays <= other.weekdays)
        within = lasts((self.since, self.until), (other.since, other.until))
        return days and within and other.between in (None, self.between)


def lasts(inner: tuple[datetime | None, datetime | None], outer: tuple[datetime | None, datetime | None]) -> bool:
    """Whether the time from `inner[0]` until `inner[1]` lies within that of `outer`; None means no bound."""
    begins = outer[0] is None or (inner[0] is not None and outer[0] <= inner[0])
    ends = outer[1] is None or (inner[1] is not None and inner[1] <= outer[1])
    return begins and ends


def _compile(time: TimeModel, scope: RuleScope) -> TimeCheck:
    names = get_args(Weekday)
    start, end = ((int(t[:2]) * 60 + int(t[3:])) for t in time.between) if time.between else (0, 0)
    return TimeCheck(
        moment(time.since),
        moment(time.until),
        frozenset(names.index(d) for d in time.weekdays) if time.weekdays else None,
        (start, end) if time.between else None,
    )


PREDICATE = Predicate("time", TimeModel, _compile)
