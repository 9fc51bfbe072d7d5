"""The policy format as pydantic models: the single source of validation, JSON Schema and documentation.

The models define what a file may hold; `decide.compiler` compiles it and `decide.decide` applies it. Every field is
typed. `store.review` checks what a single field cannot show: rules, files and detectors against each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from policies.fields import (
    ConceptName,
    Duration,
    FormatModel,
    Moment,
    Name,
    ReadName,
    SignalName,
    Text,
    UnitFloat,
    Version,
    Words,
    exactly_one,
    just_one,
    plain_schema,
)
from policies.format.actions import LadderRung, OnError, Unfit
from policies.format.examples import TestModel
from policies.inflections import Language
from policies.predicates.when import WhenModel
from policies.predicates.words import needs_near

__all__ = ["FLOOR", "NOT_YET", "ActionModel", "BlockModel", "ExceptionModel", "LabelModel", "OverrideModel"]
__all__ += ["PolicyModel", "ReviewHoldModel", "RolloutModel", "RuleModel", "SampleModel", "SettingModel", "SteerModel"]
__all__ += ["VerifyModel", "WordListModel", "json_schema"]

FLOOR = "floor"  # the policy of this name cannot be loosened

# Fields that the format reserves for later versions. They are refused by name, never accepted and ignored.
NOT_YET = {"expr": "an expression language"}

RolloutMode = Literal["disabled", "shadow", "canary", "enforce"]
Percent = Annotated[float, Field(gt=0, lt=100)]


class WordListModel(FormatModel):
    """Words and phrases, one an entry, written here or in a text file beside the policy (`#` starts a comment).

    With `inflect: en`, or another language, the list also holds the regular plurals and verb forms of its entries.
    """

    model_config = exactly_one("file", "values")

    file: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    values: Annotated[list[Text], Field(min_length=1, max_length=10_000)] | None = None
    inflect: Language | None = None

    @model_validator(mode="after")
    def _check(self) -> WordListModel:
        just_one(self, ("file", "values"), "a list", instead="make a second list of the others")
        return self


class SteerModel(FormatModel):
    """Steer the sites of `concept` toward something else."""

    do: Literal["steer"]
    concept: ConceptName
    toward: Text | None = None
    strength: UnitFloat | Literal["auto"] = "auto"


class VerifyModel(FormatModel):
    """Read the picture; when it fails, climb `ladder`, and at its end do `otherwise`.

    `read` is `lettering`, a concept, or the sentinel of one (`sentinel:harm/gun`): the probe at its pack's own sites,
    for models whose pictures no classifier knows.
    """

    do: Literal["verify"]
    read: ReadName
    none_of: Words | None = None
    near: Literal[0, 1] = 0
    near_unless: Words | None = None
    unless: Words | None = None
    below: UnitFloat | None = None
    ladder: Annotated[list[LadderRung], Field(max_length=3)] = []
    otherwise: Literal["block", "review-hold"] = "block"
    max_extra_generations: Annotated[int, Field(ge=0, le=8)] = 2

    @model_validator(mode="after")
    def _check(self) -> VerifyModel:
        lettering = self.read == "lettering"
        if lettering and (self.none_of is None or self.below is not None):
            raise PydanticCustomError("verify", "`read: lettering` needs `none_of: [...]` and takes no `below`")
        words = (self.none_of, self.near or None, self.near_unless, self.unless)
        if not lettering and (self.below is None or any(w is not None for w in words)):
            said = "reading a concept needs `below: SCORE` and takes none of `none_of`, `near`, `near_unless`, `unless`"
            raise PydanticCustomError("verify", said)
        needs_near(self.near, self.near_unless)
        if not lettering and "blur" in self.ladder:
            raise PydanticCustomError("verify", "`blur` works on lettering only; leave it out of this ladder")
        return self


class LabelModel(FormatModel):
    """Mark the answer with `value`."""

    do: Literal["label"]
    value: Name


class ReviewHoldModel(FormatModel):
    """Hold the picture for a person."""

    do: Literal["review-hold"]
    queue: Name = "default"


class BlockModel(FormatModel):
    """Refuse the request. `message` is for the caller, whatever `disclose` says."""

    do: Literal["block"]
    message: Text | None = None


ActionModel = Annotated[SteerModel | VerifyModel | LabelModel | ReviewHoldModel | BlockModel, Field(discriminator="do")]


class SampleModel(FormatModel):
    """A share of the pictures, drawn for each request."""

    share: Annotated[float, Field(gt=0, lt=1)]


class RolloutModel(FormatModel):
    """How far a rule is in force; a canary is in force for `percent` of what it is drawn `by`, in shadow for the rest.

    The draw is a keyed hash: the same for the same request, tenant or prompt, and whoever is drawn at some percent is
    drawn at every higher one.
    """

    mode: RolloutMode
    percent: Percent | None = None
    by: Literal["request", "tenant", "prompt"] = "request"

    @model_validator(mode="after")
    def _check(self) -> RolloutModel:
        if (self.mode == "canary") != (self.percent is not None):
            raise PydanticCustomError("rollout", "`percent` goes with `mode: canary`, and only with it")
        if self.mode != "canary" and "by" in self.model_fields_set:
            raise PydanticCustomError("rollout", "`by` goes with `mode: canary`, and only with it")
        return self


class ActiveModel(FormatModel):
    """The time, in UTC, in which a rule is in force."""

    since: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None


class ExceptionModel(FormatModel):
    """Requests that a rule spares although it matches, for a reason, with an approval, and for a time.

    Both `tenants` and `when` must hold if both are given.
    """

    id: Name
    tenants: Words | None = None
    when: WhenModel | None = None
    reason: Text
    ticket: Text | None = None
    approved_by: Text
    expires: Moment

    @model_validator(mode="after")
    def _check(self) -> ExceptionModel:
        if self.tenants is None and self.when is None:
            raise PydanticCustomError(
                "exception", "an exception needs `tenants` or `when`; without both it would spare every request"
            )
        return self


class RuleModel(FormatModel):
    """When something holds, then something is done.

    `watch` says which pictures the rule's `verify` actions look at: every picture, a `share` of them, or only those
    whose prompt made the rule match. A rule without `verify` looks at no picture.
    """

    id: Name
    why: Text
    category: Name
    when: WhenModel
    then: Annotated[list[ActionModel], Field(min_length=1, max_length=16)]
    watch: Literal["every-picture", "matched-prompts"] | SampleModel = "every-picture"
    unfit: Unfit = "block"
    on_error: OnError = "block"
    disclose: Literal["nothing", "category", "reason"] = "category"
    rollout: RolloutModel = RolloutModel(mode="enforce")
    active: ActiveModel | None = None
    exceptions: Annotated[list[ExceptionModel], Field(max_length=200)] = []
    renamed_from: Annotated[list[Name], Field(max_length=16)] = []

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


class SettingModel(FormatModel):
    """What an override sets of a rule; nothing else can be overridden."""

    mode: RolloutMode | None = None
    percent: Percent | None = None
    strength: UnitFloat | Literal["auto"] | None = None
    on_error: OnError | None = None

    @model_validator(mode="after")
    def _check(self) -> SettingModel:
        if not self.model_fields_set:
            raise PydanticCustomError("set", "`set` must hold at least one of `mode`, `strength`, `on_error`")
        if (self.mode == "canary") != (self.percent is not None):
            raise PydanticCustomError("set", "`percent` goes with `mode: canary`, and only with it")
        return self


class OverrideModel(FormatModel):
    """Another setting of a rule, for some tenants or for all. Whatever loosens needs approval and an end."""

    rule: Name
    tenants: Words | None = None
    set: SettingModel
    reason: Text | None = None
    loosens: bool = False
    approved_by: Text | None = None
    expires: Moment | None = None


class DetectorsModel(FormatModel):
    """Names that detectors must cover, in prompts and in pictures."""

    prompt: list[SignalName] = []
    picture: list[ConceptName] = []


class RequiresModel(FormatModel):
    """What must be there for the policy to be loaded: a version of this software, a model, its packs, detectors."""

    engine: Version | None = None
    hosts: Annotated[list[Text], Field(min_length=1, max_length=100)] | None = None
    packs: list[ConceptName] = []
    detectors: DetectorsModel = DetectorsModel()


class FreshnessModel(FormatModel):
    """How old a policy may grow without being confirmed, and what it does then.

    `serve` only says so. `tighten` ignores exceptions and loosening overrides, enforces canaries for everybody and
    blocks on every error. `refuse` blocks every request.
    """

    max_age: Duration
    on_stale: Literal["serve", "tighten", "refuse"]


class PolicyModel(FormatModel):
    """One policy file."""

    format: Literal["palimpsest.policy/v1"] = Field(alias="schema")
    name: Name
    version: Version
    owner: Text
    description: str = ""
    requires: RequiresModel = RequiresModel()
    freshness: FreshnessModel | None = None
    lists: dict[Name, WordListModel] = {}
    rules: Annotated[list[RuleModel], Field(min_length=1, max_length=2000)]
    overrides: Annotated[list[OverrideModel], Field(max_length=2000)] = []
    tests: Annotated[list[TestModel], Field(max_length=2000)] = []


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a policy file, for editors."""
    made: dict[str, Any] = plain_schema(PolicyModel.model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "palimpsest.policy/v1", **made}
