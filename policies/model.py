"""The policy format as pydantic models: the single source of validation, JSON Schema and documentation.

Models say what a file may hold, not what it does (`snapshot` compiles, `decide` acts). Every predicate is typed to
its leaves and there is no expression language: completion, semantic diff, explain and cost bounds all follow from
that.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from policies.actions import OnError, Rung, Unfit, Verdict

__all__ = ["NOT_YET", "ActiveModel", "Given", "GivenPicture", "LetteringModel", "PolicyModel", "RuleModel", "TestModel"]
__all__ += ["ActionModel", "SteerModel", "VerifyModel", "WhenModel", "WordsModel", "json_schema"]

# Fields that the format reserves and that this version cannot honour: refused by name, never accepted and ignored.
NOT_YET = {
    "requires": "checking a policy against a model's packs",
    "freshness": "refusing or tightening when a policy grows stale",
    "exceptions": "expiring exceptions",
    "overrides": "overrides for single tenants",
    "renamed_from": "keeping the history of a renamed rule",
    "expr": "an expression language",
}

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
ConceptName = Annotated[
    str, Field(pattern=r"^(lettering|(style|animal|place|character|person|harm)/[a-z0-9]+(-[a-z0-9]+)*)$")
]
Words = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=1, max_length=1000)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=False)


def _just_one(model: BaseModel, names: tuple[str, ...], what: str) -> None:
    """Nothing, or an error unless exactly one of the fields `names` is set."""
    given = [n for n in names if getattr(model, n) is not None]
    if len(given) != 1:
        got = ", ".join(f"`{n}`" for n in given) or "nothing"
        raise PydanticCustomError(
            "just_one",
            "{what} must hold exactly one of {names}, got {got}; combine several with `all`, `any` or `none`",
            {"what": what, "names": ", ".join(f"`{n}`" for n in names), "got": got},
        )


class WordListModel(_Model):
    """Words and phrases, one an entry, written here or in a text file beside the policy (`#` starts a comment)."""

    file: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    values: Annotated[list[Text], Field(min_length=1, max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _check(self) -> WordListModel:
        _just_one(self, ("file", "values"), "a list")
        return self


class WordsModel(_Model):
    """Words and `$lists` looked for in whole texts; a word inside a word of `unless` does not count."""

    any_of: Words
    unless: Words | None = None
    views: Literal["all", "plain"] = "all"


class LetteringModel(_Model):
    """Lettering that is asked for: its words, how toxic it is, or that any is asked for at all."""

    any_of: Words | None = None
    toxicity_at_least: Share | None = None
    asked: Literal[True] | None = None
    unless: Words | None = None
    views: Literal["all", "plain"] = "all"

    @model_validator(mode="after")
    def _check(self) -> LetteringModel:
        _just_one(self, ("any_of", "toxicity_at_least", "asked"), "`lettering`")
        return self


class ConceptModel(_Model):
    """A concept and the score from which on it counts as present."""

    name: ConceptName
    at_least: Share = 0.5


class TenantModel(_Model):
    """Tenants by name; a trailing `*` stands for any ending."""

    any_of: Words


class PictureModel(_Model):
    """What the finished picture shows: words that can be read in it, or a concept."""

    lettering: WordsModel | None = None
    concept: ConceptModel | None = None

    @model_validator(mode="after")
    def _check(self) -> PictureModel:
        _just_one(self, ("lettering", "concept"), "`picture`")
        return self


class WhenModel(_Model):
    """One predicate, or several under `all`, `any` or `none`."""

    lettering: LetteringModel | None = None
    toxicity_at_least: Share | None = None
    prompt: WordsModel | None = None
    concept: ConceptModel | None = None
    tenant: TenantModel | None = None
    picture: PictureModel | None = None
    all: Annotated[list[WhenModel], Field(min_length=1, max_length=64)] | None = None
    any: Annotated[list[WhenModel], Field(min_length=1, max_length=64)] | None = None
    none: Annotated[list[WhenModel], Field(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _check(self) -> WhenModel:
        _just_one(self, tuple(type(self).model_fields), "a condition")
        return self


class SteerModel(_Model):
    """Steer the sites of `concept` toward something else."""

    do: Literal["steer"]
    concept: ConceptName
    toward: Text | None = None
    strength: Share | Literal["auto"] = "auto"


class VerifyModel(_Model):
    """Read the picture; when it fails, climb `ladder`, and at its end do `otherwise`."""

    do: Literal["verify"]
    read: ConceptName
    none_of: Words | None = None
    near: Literal[0, 1] = 0
    unless: Words | None = None
    below: Share | None = None
    ladder: Annotated[list[Rung], Field(max_length=3)] = []
    otherwise: Literal["block", "review-hold"] = "block"
    max_extra_generations: Annotated[int, Field(ge=0, le=8)] = 2

    @model_validator(mode="after")
    def _check(self) -> VerifyModel:
        lettering = self.read == "lettering"
        if lettering and (self.none_of is None or self.below is not None):
            raise PydanticCustomError("verify", "`read: lettering` needs `none_of: [...]` and takes no `below`")
        if not lettering and (self.below is None or self.none_of is not None or self.unless is not None or self.near):
            raise PydanticCustomError(
                "verify", "reading a concept needs `below: SCORE` and takes none of `none_of`, `near`, `unless`"
            )
        if not lettering and "blur" in self.ladder:
            raise PydanticCustomError("verify", "`blur` works on lettering only; leave it out of this ladder")
        return self


class LabelModel(_Model):
    """Mark the answer with `value`."""

    do: Literal["label"]
    value: Name


class ReviewHoldModel(_Model):
    """Hold the picture for a person."""

    do: Literal["review-hold"]
    queue: Name = "default"


class BlockModel(_Model):
    """Refuse the request."""

    do: Literal["block"]
    message: Text = "this request is refused by policy"


ActionModel = Annotated[SteerModel | VerifyModel | LabelModel | ReviewHoldModel | BlockModel, Field(discriminator="do")]


class RolloutModel(_Model):
    """How far a rule is in force; a canary is in force for `percent` of requests and in shadow for the others."""

    mode: Literal["disabled", "shadow", "canary", "enforce"]
    percent: Annotated[float, Field(gt=0, lt=100)] | None = None

    @model_validator(mode="after")
    def _check(self) -> RolloutModel:
        if (self.mode == "canary") != (self.percent is not None):
            raise PydanticCustomError("rollout", "`percent` goes with `mode: canary`, and only with it")
        return self


class ActiveModel(_Model):
    """The time, in UTC, in which a rule is in force."""

    since: datetime | date | None = Field(default=None, alias="from")
    until: datetime | date | None = None


class RuleModel(_Model):
    """When something holds, then something is done."""

    id: Name
    why: Text
    category: Name
    when: WhenModel
    then: Annotated[list[ActionModel], Field(min_length=1, max_length=16)]
    unfit: Unfit = "block"
    on_error: OnError = "block"
    disclose: Literal["nothing", "category", "reason"] = "category"
    rollout: RolloutModel = RolloutModel(mode="enforce")
    active: ActiveModel | None = None

    @model_validator(mode="after")
    def _check(self) -> RuleModel:
        steers = [a for a in self.then if isinstance(a, SteerModel)]
        for action in self.then:
            if isinstance(action, VerifyModel) and not steers and {"wider", "swap-prompt"} & set(action.ladder):
                raise PydanticCustomError(
                    "ladder",
                    "rungs `wider` and `swap-prompt` need a `steer` in the same rule; add one or keep `blur` only",
                )
        return self


class GivenPicture(_Model):
    """A picture as its readers would report it."""

    lettering: list[Text] | None = None
    concept: dict[ConceptName, Share] = {}
    errors: list[ConceptName] = []


class GivenSignals(_Model):
    """What detectors of the prompt would report, in place of what they do."""

    toxicity: Share | None = None
    concept: dict[ConceptName, Share] = {}
    errors: list[str] = []


class Given(_Model):
    """The request of a test, and what detectors say about it and about its picture."""

    prompt: Annotated[str, Field(max_length=4000)]
    negative_prompt: str = ""
    tenant: str = ""
    id: str = ""
    now: datetime | date | None = None
    signals: GivenSignals | None = None
    picture: GivenPicture | None = None


class Expect(_Model):
    """What must come out; a field that is left out is not looked at."""

    verdict: Verdict | None = None
    rules: list[Name] | None = None
    shadow: list[Name] | None = None
    errors: list[Name] | None = None
    violations: list[Name] | None = None
    donor: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Expect:
        if not self.model_fields_set:
            raise PydanticCustomError("expect", "`expect` must hold something, or the test cannot fail")
        return self


class TestModel(_Model):
    """One example that must hold before the policy goes live."""

    __test__ = False  # not a test of ours, although pytest would like its name

    name: Text
    given: Given
    expect: Expect


class PolicyModel(_Model):
    """One policy file."""

    format: Literal["palimpsest.policy/v1"] = Field(alias="schema")
    name: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    owner: Text
    description: str = ""
    lists: dict[Name, WordListModel] = {}
    rules: Annotated[list[RuleModel], Field(min_length=1, max_length=2000)]
    tests: Annotated[list[TestModel], Field(max_length=2000)] = []


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a policy file, for editors."""
    return PolicyModel.model_json_schema(by_alias=True)
