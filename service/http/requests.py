"""The requests of the API: strict pydantic models in OpenAI's shape, and the JSON parser.

An OpenAI field that has no effect here is accepted and listed in the answer (`steering.ignored`). Every other unknown
field is an error. Values out of range are rejected, never clamped.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from palimpsest_base.suggest import did_you_mean, nearest
from service.errors import BadRequest, NotFound
from service.image_files import FORMATS, Format, Upload
from service.order import MAX_GUIDANCE, Given, Limits, Lora, Order
from service.reviews.cases import Choice
from service.settings import MAX_LORA_SCALE

__all__ = [
    "MAX_DEPTH",
    "MAX_SEED",
    "MAX_TEXTS",
    "SIZE",
    "EditRequest",
    "EvaluateRequest",
    "GenerationRequest",
    "ModerationRequest",
    "ProvenanceRequest",
    "RepairRequest",
    "ReviewDecision",
    "nearest_size",
    "parse_body",
    "parse_fields",
    "parse_json",
    "unknown",
]

MAX_DEPTH = 16
MAX_TEXTS = 32  # in one request for moderation
MAX_SEED = 2**63 - 1 - 64  # a request's k-th picture uses `seed + k`
_SHOWN = 5
SIZE = "[1-9][0-9]{0,4}x[1-9][0-9]{0,4}"


def _whole(value: Any) -> Any:
    """A number without a fraction as an integer. JSON has one number type, and JSON Schema counts 1.0 as an integer."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


_Whole = BeforeValidator(_whole)
# bounds stand next to the type, or the schema does not tell them
Count = Annotated[StrictInt, Field(ge=1), _Whole]
# OpenAI allows 64 characters, which are a digest; programs also send addresses
Identifier = Annotated[StrictStr, Field(max_length=256)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    IGNORED: ClassVar[frozenset[str]] = frozenset()


class LoraRequest(_Body):
    """The adapter of a request. Without `scale`: the adapter's default."""

    name: StrictStr
    scale: Annotated[StrictFloat | StrictInt, Field(gt=0.0, le=MAX_LORA_SCALE)] | None = None


class _Drawing(_Body):
    """What requests for pictures share."""

    IGNORED: ClassVar[frozenset[str]] = frozenset(
        (
            *("quality", "style", "background", "moderation", "metadata"),
            *("prompt_cache_key", "input_fidelity", "complexity", "svg", "frame_count", "frame_duration_ms"),
        )
    )

    model: StrictStr | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Format | None = None
    output_compression: Annotated[StrictInt, Field(ge=0, le=100), _Whole] | None = None
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_SEED), _Whole] | None = None
    negative_prompt: StrictStr | None = None
    num_inference_steps: Count | None = None
    guidance_scale: Annotated[StrictFloat, Field(ge=0.0, le=MAX_GUIDANCE)] | None = None
    lora: LoraRequest | None = None
    safety_identifier: Annotated[Identifier, Field(min_length=1)] | None = None
    user: Annotated[
        Identifier | None, Field(description="OpenAI's older field, for `safety_identifier` where this is absent")
    ] = None

    @property
    def identifier(self) -> str:
        """What the caller calls the person for whom it asks; empty: it did not say."""
        return self.safety_identifier or self.user or ""

    def _order(self, limits: Limits, prompt: str, n: int | None, size: tuple[int, int]) -> Order:
        """The order: this request with defaults and a seed. Raises `BadRequest` if it exceeds a limit."""
        if self.negative_prompt:
            _check_text(self.negative_prompt, "negative_prompt", limits.max_prompt)
        if self.model is not None and self.model not in limits.models:
            raise NotFound(unknown("model", self.model, limits.models), param="model", code="model_not_found")
        if self.response_format == "url" and not limits.urls:
            raise BadRequest(f"`response_format` {_NO_URLS}", param="response_format")
        _at_most("n", n, limits.max_n)
        steps = self._steps(limits)
        width, height = size
        return Order(
            prompt=prompt,
            negative_prompt=self.negative_prompt or "",
            model=limits.models[0],
            n=n or 1,
            width=width,
            height=height,
            steps=steps,
            guidance=self._guidance(limits),
            seed=secrets.randbelow(2**31) if self.seed is None else self.seed,
            lora=self._lora(limits),
            output_format=self.output_format or "png",
            quality=100 if self.output_compression is None else self.output_compression,
        )

    @property
    def unused(self) -> tuple[str, ...]:
        """Supported fields that have no effect on this request."""
        lossless = self.output_format in (None, "png")
        compression = lossless and self.output_compression is not None
        user = self.user is not None and (self.safety_identifier is not None or not self.user)
        return (*(("output_compression",) * compression), *(("user",) * user))

    def by_url(self, limits: Limits) -> bool:
        """Whether the pictures are answered with as URLs."""
        # what OpenAI says of its older models, and what their clients count on
        usual = limits.urls and self.model in ("dall-e-2", "dall-e-3")
        return self.response_format == "url" or (usual and self.response_format is None)

    def _steps(self, limits: Limits) -> int:
        _at_most("num_inference_steps", self.num_inference_steps, limits.max_steps)
        if self.num_inference_steps is not None and self.num_inference_steps < limits.min_steps:
            message = f"`num_inference_steps` must be at least {limits.min_steps}, got {self.num_inference_steps}"
            raise BadRequest(message, param="num_inference_steps")
        return self.num_inference_steps or limits.default_steps

    def _lora(self, limits: Limits) -> Lora | None:
        if self.lora is None:
            return None
        name = self.lora.name
        if name not in limits.adapters:
            offered = ", ".join(f"`{each}`" for each in limits.adapters) or "none"
            message = f"unknown adapter `{name[:64]}`; offered: {offered}"
            raise BadRequest(message, param="lora", code="adapter_not_found")
        found = limits.adapters[name]
        return found if self.lora.scale is None else replace(found, scale=float(self.lora.scale))

    def _guidance(self, limits: Limits) -> float | None:
        """The guidance scale, or the model's default. Raises `BadRequest` for a value that the model would ignore."""
        if self.guidance_scale is not None and limits.default_guidance is None:
            raise BadRequest("this model does not support `guidance_scale`", param="guidance_scale")
        guidance = limits.default_guidance if self.guidance_scale is None else float(self.guidance_scale)
        if self.negative_prompt and not limits.negative:
            raise BadRequest("this model does not support `negative_prompt`", param="negative_prompt")
        if self.negative_prompt and limits.negative_above is not None and (guidance or 0) <= limits.negative_above:
            message = f"`negative_prompt` is ignored unless `guidance_scale` is above {limits.negative_above:g}"
            raise BadRequest(f"{message}, got {guidance:g}", param="negative_prompt")
        return guidance


class GenerationRequest(_Drawing):
    """`POST /v1/images/generations`."""

    prompt: StrictStr
    n: Count | None = None
    size: StrictStr | None = None
    stream: StrictBool | None = None
    progress: Annotated[
        StrictBool | None, Field(description="in a stream, also events for the queue and for each step")
    ] = None
    partial_images: Annotated[StrictInt, Field(ge=0, le=0), _Whole] | None = None

    @property
    def unused(self) -> tuple[str, ...]:
        """Supported fields that have no effect on this request."""
        by_url = self.stream and self.response_format == "url"  # OpenAI's events have no URLs either
        progress = self.progress and not self.stream
        return (*super().unused, *(("response_format",) * bool(by_url)), *(("progress",) * bool(progress)))

    def within(self, limits: Limits) -> Order:
        """The order: this request with defaults and a seed. Raises `BadRequest` if it exceeds a limit."""
        _check_text(self.prompt, "prompt", limits.max_prompt)
        asked = limits.default_size if self.size in (None, "auto") else str(self.size)
        size = asked
        if asked not in limits.sizes:
            if not (limits.nearest_size and re.fullmatch(SIZE, asked)):
                raise BadRequest(unknown("size", asked, limits.sizes), param="size")
            size = nearest_size(asked, limits.sizes)
        order = self._order(limits, self.prompt, self.n, _pixels(size))
        return replace(order, asked_size=None if size == asked else asked)


class EditRequest(GenerationRequest):
    """`POST /v1/images/edits`, without its files. `prompt` says what the whole new picture shows."""

    def over(self, limits: Limits, image: Upload, mask: Upload | None) -> Order:
        """The order for edits of `image`. What is wholly transparent in `mask`, or without one in `image`, may change.
        Raises `BadRequest` if something exceeds a limit or does not fit the picture.
        """
        _check_text(self.prompt, "prompt", limits.max_prompt)
        own = _size_of(image)
        other = self.size not in (None, "auto", own)
        if other and not (limits.nearest_size and re.fullmatch(SIZE, str(self.size))):
            kept = f"the picture's own, which an edit keeps: `{own}`"
            raise BadRequest(f"`size` must be `auto` or {kept}, got `{str(self.size)[:64]}`", param="size")
        marked = image.clear
        if mask is not None:
            marked = mask.clear
            if mask.image.size != image.image.size:
                message = f"`mask` must be as large as `image`, {own}, got {_size_of(mask)}"
                raise BadRequest(message, param="mask", code="invalid_image")
            if marked is None:
                message = "`mask` must be wholly transparent where the picture may change, and is so nowhere"
                raise BadRequest(message, param="mask", code="invalid_image")
        order = self._order(limits, self.prompt, self.n, _drawn_size(image, limits))
        given = Given("edit", image.image, marked, image.file, image.media_type)
        return replace(_over(order, given), asked_size=self.size if other else None)


class RepairRequest(_Drawing):
    """`POST /v1/images/repairs`, without its file. `prompt` says what the picture shows, as far as that is known."""

    prompt: StrictStr | None = None

    def over(self, limits: Limits, image: Upload) -> Order:
        """The order for a repair of `image`. Raises `BadRequest` if something exceeds a limit."""
        if self.prompt is not None:
            _check_text(self.prompt, "prompt", limits.max_prompt)
        order = self._order(limits, self.prompt or "", 1, _drawn_size(image, limits))
        return _over(order, Given("repair", image.image, None, image.file, image.media_type))


def _over(order: Order, given: Given) -> Order:
    if order.steps < 2:  # there is nothing to keep of a way of one step
        message = f"`num_inference_steps` must be at least 2 to draw over a given picture, got {order.steps}"
        raise BadRequest(message, param="num_inference_steps")
    return replace(order, given=given)


def _drawn_size(image: Upload, limits: Limits) -> tuple[int, int]:
    """The size at which the model draws over a picture: its own, if the model has it, else the model's."""
    own = _size_of(image)
    return _pixels(own if own in limits.sizes else limits.default_size)


def _size_of(image: Upload) -> str:
    return f"{image.image.width}x{image.image.height}"


def nearest_size(asked: str, sizes: Sequence[str]) -> str:
    """The size of the nearest aspect ratio to that of `asked`; of several, the one of the nearest area."""
    width, height = _pixels(asked)

    def distance(size: str) -> tuple[float, float]:
        w, h = _pixels(size)
        return abs(math.log(w * height / (h * width))), abs(math.log(w * h / (width * height)))

    return min(sizes, key=distance)


def _pixels(size: str) -> tuple[int, int]:
    width, height = size.split("x")
    return int(width), int(height)


class EvaluateRequest(_Body):
    """`POST /v1/policies/evaluate`: decides without generating a picture."""

    prompt: StrictStr
    negative_prompt: StrictStr | None = None
    model: StrictStr | None = None
    safety_identifier: Annotated[Identifier, Field(min_length=1)] | None = None

    def within(self, limits: Limits) -> EvaluateRequest:
        """This request. Raises `BadRequest` if it exceeds a limit."""
        _check_text(self.prompt, "prompt", limits.max_prompt)
        if self.negative_prompt:
            _check_text(self.negative_prompt, "negative_prompt", limits.max_prompt)
        return self


class TextPart(_Body):
    """A text of a `ModerationRequest`."""

    type: Literal["text"]
    text: StrictStr


class ModerationRequest(_Body):
    """`POST /v1/moderations`: one text, or several; `TextPart` is how OpenAI writes one that stands beside pictures.
    `model` is one of ours, whose policies decide, or any moderation model of OpenAI's, which stands for the first one.
    """

    model: StrictStr | None = None
    input: (
        StrictStr
        | Annotated[list[StrictStr], Field(min_length=1, max_length=MAX_TEXTS)]
        | Annotated[list[TextPart], Field(min_length=1, max_length=1)]
    )

    def within(self, limits: Limits) -> list[str]:
        """The texts, one for each result. Raises `BadRequest` if something exceeds a limit."""
        given = [self.input] if isinstance(self.input, str) else self.input
        texts = [each if isinstance(each, str) else each.text for each in given]
        for text in texts:
            _check_text(text, "input", limits.max_prompt)
        return texts


class ProvenanceRequest(_Body):
    """`POST /v1/content_provenance_checks`, without its file."""


class ReviewDecision(_Body):
    """`POST /v1/reviews/{id}`: a reviewer decides about a held case. The caller gets `reason` if `tell`."""

    decision: Choice
    reason: Annotated[StrictStr, Field(min_length=1, max_length=1000)] | None = None
    tell: StrictBool = False


_Model = TypeVar("_Model", bound=_Body)


def parse_body(raw: bytes, model: type[_Model]) -> tuple[_Model, tuple[str, ...]]:
    """The request in `raw`, and the names of its ignored fields. Raises `BadRequest` that lists all problems."""
    values = parse_json(raw)
    if not isinstance(values, dict):
        raise BadRequest(f"the body must be a JSON object, got {_kind(values)}", code="invalid_json")
    return _parsed(values, model)


def parse_fields(texts: Mapping[str, str], model: type[_Model]) -> tuple[_Model, tuple[str, ...]]:
    """The request in the texts of a form, as `parse_body` gives it. Fields that are no texts are written as in JSON;
    `lora` may also be sent as `lora[name]` and `lora[scale]`. Raises `BadRequest` that lists all problems.
    """
    values: dict[str, Any] = {}
    for name, text in texts.items():
        outer, bracket, inner = name.partition("[")
        if outer == "lora" and bracket and inner.endswith("]"):
            lora = values.setdefault("lora", {})
            if isinstance(lora, dict):
                lora[inner[:-1]] = text if inner == "name]" else _written(text)
        else:
            values[name] = _written(text) if name in _NO_TEXTS else text
    return _parsed(values, model)


_NO_TEXTS = frozenset(("n", "output_compression", "stream", "progress", "partial_images", "seed"))
_NO_TEXTS |= {"num_inference_steps", "guidance_scale", "lora", "tell"}


def _written(text: str) -> Any:
    """The value that a form's text writes as in JSON; of what is none, the text, for the error that names the field."""
    try:
        return parse_json(text.encode("utf-8", "surrogatepass"))
    except BadRequest:
        return text


def _parsed(values: dict[str, Any], model: type[_Model]) -> tuple[_Model, tuple[str, ...]]:
    ignored = tuple(sorted(set(values) & model.IGNORED))
    known = {**{k: v for k, v in values.items() if k not in model.IGNORED}}
    try:
        return model.model_validate(known), ignored
    except ValidationError as error:
        raise _bad_request(error, model) from None


def parse_json(raw: bytes) -> Any:
    """The value in `raw`: UTF-8, no duplicate names, no NaN, at most `MAX_DEPTH` deep. Raises `BadRequest`."""
    try:
        text = raw.decode("utf-8-sig")  # RFC 8259 allows a byte order mark to be ignored, and some clients send one
    except UnicodeDecodeError:
        raise BadRequest("the body must be UTF-8", code="invalid_json") from None
    if _depth(text) > MAX_DEPTH:
        raise BadRequest(f"the body must be at most {MAX_DEPTH} levels deep", code="invalid_json")
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        message = f"the body is not JSON: {error.msg.lower()} at line {error.lineno}, column {error.colno}"
        raise BadRequest(message, code="invalid_json") from None
    except ValueError:  # an integer of thousands of digits
        raise BadRequest("the body contains a number with too many digits", code="invalid_json") from None


def _depth(text: str) -> int:
    """The nesting depth of brackets outside strings. Computed without recursion, because the JSON parser recurses."""
    deepest = level = 0
    for bracket in re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        level += 1 if bracket in "[{" else -1
        deepest = max(deepest, level)
    return deepest


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise BadRequest(f"`{twice[:64]}` appears twice in the body", code="invalid_json")
    return values


def _no_constant(name: str) -> Any:
    raise BadRequest(f"`{name}` is not JSON", code="invalid_json")


def _bad_request(error: ValidationError, model: type[_Body]) -> BadRequest:
    problems = error.errors(include_url=False, include_context=False)
    told = list(dict.fromkeys(_one_line(p, model) for p in problems))
    lines = told[:_SHOWN]
    if len(told) > _SHOWN:
        lines.append(f"and {len(told) - _SHOWN} more")
    first = problems[0]
    code = {"extra_forbidden": "unknown_parameter", "missing": "missing_required_parameter"}.get(first["type"])
    return BadRequest("; ".join(lines), param=str(first["loc"][0])[:64], code=code)


def _one_line(problem: Any, model: type[_Body]) -> str:
    name = str(problem["loc"][0])
    if name == "lora" and len(problem["loc"]) > 1:
        own = str(problem["loc"][1])[:64]
        if problem["type"] == "extra_forbidden":
            return f"unknown field `lora.{own}`{did_you_mean(own, LoraRequest.model_fields)}"
        name = f"lora.{own}"
    elif name in _REASONS and len(problem["loc"]) > 1:  # of one of several types, none of which fits
        return f"`{name}` {_REASONS[name]}"
    if problem["type"] == "extra_forbidden":
        return f"unknown field `{name[:64]}`{_hint(name, model)}"
    if problem["type"] == "missing":
        return f"`{name}` is missing"
    if name in _REASONS:
        return f"`{name}` {_REASONS[name]}"
    got = _shown(problem["input"])
    if problem["type"] == "string_too_long":
        got = f"{len(problem['input'])}"
    return f"`{name}`: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {got}"


def _hint(name: str, model: type[_Body]) -> str:
    """A clause that names the field that was probably meant: one with an effect, unless `name` is almost another."""
    useful = list(model.model_fields)
    meant = _ELSEWHERE.get(name.lower().replace("-", "_"))
    if meant is None or meant not in useful:
        meant = nearest(name, model.IGNORED, alike=0.8) or nearest(name, useful)
    return f"; did you mean `{meant}`?" if meant else ""


# what other services and programs call a field
_ELSEWHERE = {
    **dict.fromkeys(("step", "steps", "num_steps", "sampling_steps", "ddim_steps"), "num_inference_steps"),
    **dict.fromkeys(("cfg", "cfg_scale", "scale", "guidance"), "guidance_scale"),
    **dict.fromkeys(("negative", "neg_prompt", "text_negative"), "negative_prompt"),
    **dict.fromkeys(("num_images", "num_outputs", "num_images_per_prompt", "samples", "batch_size", "n_iter"), "n"),
    **dict.fromkeys(("width", "height", "image_size", "resolution", "aspect_ratio"), "size"),
    **dict.fromkeys(("text", "input", "inputs", "text_prompt", "text_prompts", "description"), "prompt"),
    **dict.fromkeys(("random_seed", "noise_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("format", "image_format", "mime_type"), "output_format"),
    **dict.fromkeys(("adapter", "adapters", "loras", "lora_name", "lora_scale", "lora_weights"), "lora"),
    **dict.fromkeys(("model_id", "model_name", "engine", "checkpoint"), "model"),
}

_NO_URLS = "must be `b64_json`: pictures are not kept here (`picture_urls` is `off`), so none has a URL"
# what pydantic would say of these does not name the way out
_REASONS = {
    "partial_images": "must be 0: no picture leaves before its last judgement",
    "response_format": "must be `b64_json`, or `url` where the service offers it",
    "output_format": f"must be one of {', '.join(f'`{f}`' for f in FORMATS)}",
    "input": f'must be a text, a list of 1 to {MAX_TEXTS} texts, or a list of one `{{"type": "text", "text": ...}}`;'
    " pictures are judged by `POST /v1/images/repairs`",
    "lora": "must be an object with a `name` and, if wanted, a `scale`",
    "stream": "must be true or false",
    "progress": "must be true or false",
}


def _check_text(text: str, name: str, longest: int) -> None:
    if not text.strip():
        raise BadRequest(f"`{name}` must not be empty", param=name)
    if len(text) > longest:
        raise BadRequest(
            f"`{name}` must be at most {longest} characters, got {len(text)}", param=name, code="string_too_long"
        )
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise BadRequest(f"`{name}` contains an unpaired surrogate, which is not valid text", param=name)


def _at_most(name: str, value: int | None, limit: int) -> None:
    if value is not None and value > limit:
        raise BadRequest(f"`{name}` must be at most {limit}, got {value}", param=name)


def unknown(what: str, got: str, known: Iterable[str]) -> str:
    """The error for a name that is not known: with the nearest that is, or all of them."""
    return f"unknown {what} `{got[:64]}`{did_you_mean(got, known)}"


def _kind(value: Any) -> str:
    return {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")


def _shown(value: Any) -> str:
    """A number as it is, or the kind of another value. Texts of callers are not repeated."""
    return f"`{value}`" if isinstance(value, (bool, int, float)) and len(str(value)) < 32 else _kind_or_object(value)


def _kind_or_object(value: Any) -> str:
    return "an object" if isinstance(value, dict) else _kind(value)
