"""The models of the tests in policy files: the given request and the expected decision."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from policies.fields import ConceptName, Duration, FormatModel, Moment, Name, SignalName, Text, UnitFloat
from policies.format.actions import Verdict
from policies.predicates.strikes import MOST_STRIKES
from policies.types import StrikeKind

__all__ = ["Expect", "Given", "GivenPicture", "GivenSignals", "GivenStrikes", "TestModel"]


class GivenPicture(FormatModel):
    """A picture as its readers would report it: `lettering` holds its pieces of text, in the order of reading,
    `sentinel` what its sites told while it was drawn.
    """

    lettering: list[Text] | None = None
    concept: dict[ConceptName, UnitFloat] = {}
    sentinel: dict[ConceptName, UnitFloat] = {}
    errors: list[ConceptName] = []


class GivenSignals(FormatModel):
    """What detectors of the prompt would report, in place of what they do; `sentinel` before the first step."""

    toxicity: UnitFloat | None = None
    concept: dict[ConceptName, UnitFloat] = {}
    sentinel: dict[ConceptName, UnitFloat] = {}
    errors: list[SignalName] = []


class GivenStrikes(FormatModel):
    """So many earlier requests for the same person on which rules acted, `ago` (a moment, if not given). Without `of`
    and `category` every condition counts them.
    """

    count: Annotated[int, Field(ge=1, le=MOST_STRIKES)] = 1
    of: StrikeKind | None = None
    category: Name | None = None
    ago: Duration | None = None


class Given(FormatModel):
    """The request of a test, and what detectors say about it and about its picture.

    `age` is how long ago the policies were last known to be current, for tests of `freshness`. `strikes` are what is
    remembered of the person.
    """

    prompt: Annotated[str, Field(max_length=4000)]
    negative_prompt: str = ""
    tenant: str = ""
    id: str = ""
    now: Moment | None = None
    age: Duration | None = None
    strikes: Annotated[list[GivenStrikes], Field(max_length=100)] = []
    signals: GivenSignals | None = None
    picture: GivenPicture | None = None


class Expect(FormatModel):
    """What must come out; a field that is left out is not looked at.

    `rules` are those that acted, `shadow` those that only watched; `matched` is both and the exempted ones, so that a
    test with it holds through every rollout.
    """

    verdict: Verdict | None = None
    matched: list[Name] | None = None
    rules: list[Name] | None = None
    shadow: list[Name] | None = None
    exempted: list[Name] | None = None
    errors: list[Name] | None = None
    violations: list[Name] | None = None
    donor: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Expect:
        if not self.model_fields_set:
            raise PydanticCustomError("expect", "`expect` must hold at least one field, or the test cannot fail")
        return self


class TestModel(FormatModel):
    """One example that must hold before the policy goes live."""

    __test__ = False  # pytest must not collect it

    name: Text
    given: Given
    expect: Expect
