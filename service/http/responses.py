"""The answer models, for the OpenAPI document only. Answers are not built from them; tests compare the two."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.http.requests import (
    EditRequest,
    EvaluateRequest,
    GenerationRequest,
    ModerationRequest,
    ProvenanceRequest,
    RepairRequest,
    ReviewDecision,
)
from service.reviews.cases import State

__all__ = ["MODELS"]

Verdict = Literal["allow", "label", "steer", "review-hold", "block"]
Rung = Literal["steer", "wider", "swap-prompt", "blur"]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


How = Literal["untouched", "steered", "prompt-replaced", "blurred"]
_SITES = Field(description="at how many sites the model was shown other text, or was edited")


class Rule(_Answer):
    """A rule that took part, with as much detail as it discloses."""

    category: str | None = None
    rule: str | None = None
    why: str | None = None


class Shape(_Answer):
    """The execution shape: what the stock pipeline needs to reproduce the same pixels."""

    model_config = ConfigDict(extra="allow")


class PerImage(_Answer):
    """What happened to one picture. `shape` is null for a given picture over which nothing was drawn."""

    verdict: Verdict
    how: How = Field(description="what the rules did to it")
    sites: int = _SITES
    rules: list[Rule]
    labels: list[str]
    rungs: list[Rung]
    marks: list[Literal["watermark", "c2pa"]] = Field(description="what says in the picture where it comes from")
    seed: int
    shape: Shape | None


class AppliedLora(_Answer):
    """The adapter that the pictures were made with."""

    name: str
    scale: float
    digest: str = Field(description="sha256 of its file")


class Steering(_Answer):
    """What happened to a request."""

    verdict: Verdict
    how: How = Field(description="the most that the rules did to one of the pictures")
    sites: int = _SITES
    rules: list[Rule]
    rungs: list[Rung]
    per_image: list[PerImage]
    decision_id: str
    policy: str
    seed: int
    safety_identifier: str | None = Field(description="a keyed hash of the one in the request: the same for the same")
    lora: AppliedLora | None
    shape: Shape | None
    asked_size: str | None = Field(description="the size that was asked for, where another one was drawn")
    ignored: list[str]


class Picture(_Answer):
    """Either of the two, as `response_format` says."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = Field(None, description="what the pipeline itself rewrote the prompt to, where it did")


class GenerationAnswer(_Answer):
    created: int
    data: list[Picture]
    size: str
    output_format: Literal["png", "webp", "jpeg"]
    background: Literal["opaque"]
    usage: dict[str, Any] = Field(description="tokens are not counted: zeros, in OpenAI's shape")
    steering: Steering


class ReviewAnswer(_Answer):
    """What became of a held request. `answer` has the pictures once they are released."""

    object: Literal["review"]
    id: str
    status: State
    created: int
    expires: int = Field(description="when the case ends, whatever was decided")
    reason: str | None = Field(description="the reviewer's, where they chose to tell it")
    answer: GenerationAnswer | None


class ReviewRow(_Answer):
    """A held case in a list. `repaired`: there are repaired pictures, too."""

    id: str
    queue: str
    tenant: str
    state: State
    created: float
    expires: float
    decided: float | None
    rules: list[str]
    pictures: int
    repaired: bool


class ReviewList(_Answer):
    object: Literal["list"]
    data: list[ReviewRow]
    has_more: bool


class ReviewCase(ReviewRow):
    object: Literal["review.case"]


class ReviewDetails(ReviewCase):
    """A held case with its prompt, and the grounds on which it is held. `steering` and `repaired_steering` are those of
    the answers that would be released.
    """

    prompt: str
    negative_prompt: str | None
    model: str
    given: Literal["edit", "repair"] | None
    decision_id: str
    grounds: dict[str, Any]
    steering: Steering
    repaired_steering: Steering | None


class EvaluationAnswer(_Answer):
    object: Literal["policy.evaluation"]
    decision_id: str
    verdict: Verdict
    rules: list[Rule]
    messages: list[str] = Field(description="what blocking rules tell the caller")
    policy: str
    reads: list[str]


class Moderation(_Answer):
    flagged: bool = Field(description="whether the policies would not just allow a prompt of this text")
    verdict: Verdict
    categories: dict[str, bool]
    category_scores: dict[str, float] = Field(description="1 where a rule of the category acts, else 0")
    category_applied_input_types: dict[str, list[Literal["text"]]]


class ModerationAnswer(_Answer):
    id: str
    model: Literal["palimpsest"]
    results: list[Moderation]
    ignored: list[str]


class Credentials(_Answer):
    """C2PA credentials. They are `detected` if they are valid and say that a model drew the picture, or a part."""

    type: Literal["c2pa"]
    outcome: Literal["detected", "not_detected"]
    validation_state: Literal["trusted", "valid", "invalid", "not_present"]
    issuer: str | None
    model: str | None
    generated_at: str | None = Field(description="UTC, RFC 3339; what the credentials say, without a time stamp")


class FoundWatermark(_Answer):
    """The watermark of this service's marking key."""

    type: Literal["watermark"]
    outcome: Literal["detected", "not_detected"]
    watermark: str
    model: None
    generated_at: None


class ProvenanceAnswer(_Answer):
    object: Literal["content_provenance_check"]
    created_at: int
    results: list[Credentials | FoundWatermark]


class ServedModel(_Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str = Field(description="the model's own name; `id` is this or an alias")
    sizes: list[str]
    defaults: dict[str, Any]
    limits: dict[str, int]
    adapters: dict[str, float] = Field(description="what `lora` may name, with the default scales")
    batching: Literal["fixed", "solo", "dynamic"]


class ModelsAnswer(_Answer):
    object: Literal["list"]
    data: list[ServedModel]


class Worker(_Answer):
    model_config = ConfigDict(extra="allow")

    worker: int
    state: Literal["starting", "ready", "failed", "stopping"]


class Detector(_Answer):
    """A detector in one worker. If its circuit breaker is open, it is not called and rules apply `on_error`."""

    name: str
    circuit: Literal["closed", "half-open", "open"]
    failures: int = Field(description="in a row, until now")
    stuck: int = Field(description="readings that hang")
    opened: int = Field(description="how often the circuit opened")
    last_error: str | None


class WorkerStatus(_Answer):
    worker: int
    state: Literal["starting", "ready", "failed", "stopping"]
    detectors: list[Detector]
    loaded: list[str] = Field(default=[], description="the models in memory, where the service has a table of them")


class StatusAnswer(_Answer):
    """`degraded`: a worker is not ready, or a circuit breaker is open."""

    object: Literal["status"]
    degraded: bool
    workers: list[WorkerStatus]


class PoliciesAnswer(_Answer):
    object: Literal["policies"]
    converged: bool
    workers: list[Worker]


class BundleName(_Answer):
    name: str
    sequence: int
    digest: str


class BundleAnswer(_Answer):
    """An accepted bundle. `changed` is false if it was stored already."""

    object: Literal["policy.bundle"]
    digest: str
    bundle: BundleName
    changed: bool


class Signature(BaseModel):
    key: str
    signature: str


class SignedBundle(BaseModel):
    """What `palimpsest policy sign` writes."""

    format: Literal["palimpsest.bundle/v1"]
    manifest: str
    signatures: list[Signature]
    files: dict[str, str]


class Error(_Answer):
    message: str
    type: str
    param: str | None
    code: str
    decision_id: str | None = None
    moderation_details: dict[str, Any] | None = None
    review: dict[str, str] | None = None


class ErrorAnswer(_Answer):
    error: Error = Field(description="OpenAI's shape; `code` is for machines.")


MODELS: tuple[type[BaseModel], ...] = (
    GenerationRequest,
    EditRequest,
    RepairRequest,
    EvaluateRequest,
    SignedBundle,
    GenerationAnswer,
    EvaluationAnswer,
    ModerationRequest,
    ModerationAnswer,
    ProvenanceRequest,
    ProvenanceAnswer,
    ModelsAnswer,
    PoliciesAnswer,
    StatusAnswer,
    BundleAnswer,
    ReviewDecision,
    ReviewAnswer,
    ReviewList,
    ReviewCase,
    ReviewDetails,
    ErrorAnswer,
)
