"""What a rule may look at: the predicates of `when`, each typed to its leaves.

There is no expression language: completion, the semantic difference of two policies, explanations and bounds on cost
all follow from that.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from policies.fields import ConceptName, Model, Moment, Share, Words, exactly_one, just_one, moment

__all__ = ["ConceptModel", "LetteringModel", "PictureModel", "TenantModel", "TimeModel", "Weekday", "WhenModel"]
__all__ += ["WordsModel"]

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Clock = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class WordsModel(Model):
    """Words and `$lists` looked for in whole texts; a word inside a word of `unless` does not count."""

    any_of: Words
    unless: Words | None = None
    views: Literal["all", "plain"] = "all"


class LetteringModel(Model):
    """Lettering that is asked for: its words, how toxic it is, or that any is asked for at all."""

    model_config = exactly_one("any_of", "toxicity_at_least", "asked")

    any_of: Words | None = None
    toxicity_at_least: Share | None = None
    asked: Literal[True] | None = None
    unless: Words | None = None
    views: Literal["all", "plain"] = "all"

    @model_validator(mode="after")
    def _check(self) -> LetteringModel:
        just_one(self, ("any_of", "toxicity_at_least", "asked"), "`lettering`")
        if self.any_of is None and (self.unless is not None or "views" in self.model_fields_set):
            raise PydanticCustomError("words", "`unless` and `views` belong to `any_of`; leave them out here")
        return self


class ConceptModel(Model):
    """A concept and the score from which on it counts as present."""

    name: ConceptName
    at_least: Share = 0.5


class TenantModel(Model):
    """Tenants by name; a trailing `*` stands for any ending."""

    any_of: Words


class TimeModel(Model):
    """A time in UTC; everything that is given must hold. `between` may run over midnight."""

    since: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None
    weekdays: Annotated[list[Weekday], Field(min_length=1, max_length=7)] | None = None
    between: Annotated[list[Clock], Field(min_length=2, max_length=2)] | None = None

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


class PictureModel(Model):
    """What the finished picture shows: words that can be read in it, or a concept."""

    model_config = exactly_one("lettering", "concept")

    lettering: WordsModel | None = None
    concept: ConceptModel | None = None

    @model_validator(mode="after")
    def _check(self) -> PictureModel:
        just_one(self, ("lettering", "concept"), "`picture`")
        return self


class WhenModel(Model):
    """One predicate, or several under `all`, `any` or `none`."""

    model_config = {"json_schema_extra": {"minProperties": 1, "maxProperties": 1}}

    lettering: LetteringModel | None = None
    toxicity_at_least: Share | None = None
    prompt: WordsModel | None = None
    concept: ConceptModel | None = None
    tenant: TenantModel | None = None
    time: TimeModel | None = None
    picture: PictureModel | None = None
    all: Annotated[list[WhenModel], Field(min_length=1, max_length=64)] | None = None
    any: Annotated[list[WhenModel], Field(min_length=1, max_length=64)] | None = None
    none: Annotated[list[WhenModel], Field(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _check(self) -> WhenModel:
        just_one(self, tuple(type(self).model_fields), "a condition")
        return self
