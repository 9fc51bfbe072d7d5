"""The OpenAPI document, generated for the served models from the pydantic models that validate requests.

It contains the sizes, limits and defaults of this service. A request that is valid by the document is accepted; any
other is rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic.json_schema import models_json_schema

from service.http.answers import answer_headers
from service.http.requests import MAX_TEXTS, SIZE, GenerationRequest
from service.http.responses import MODELS
from service.image_files import FORMATS, LONGEST_SIDE, SHORTEST_SIDE, Format
from service.order import Limits
from service.reviews.cases import STATES
from service.reviews.reviews import MOST_LISTED
from service.settings import MAX_LORA_SCALE

__all__ = ["document"]

_ERRORS = {
    400: "the request is invalid, or the policies refused it (`moderation_blocked`)",
    401: "the API key is missing, unknown or expired",
    403: "the key lacks the required scope, or the bundle is not trusted",
    202: "held for review; ask the path in `Location` for the outcome",
    404: "there is no such model, case or picture",
    409: "the bundle conflicts with the one in use, or the case is decided",
    413: "the body is too large",
    415: "the body must be JSON, or a form where pictures are uploaded, and not compressed",
    429: "the queue is full, or the rate limit of the key is exceeded; see `Retry-After`",
    499: "the client disconnected; this answer is never sent",
    500: "internal error; the log contains it under the request id",
    503: "the worker is not ready, is ending, or cannot write the audit log; see `Retry-After`",
    504: "the deadline of the request passed",
}
_DRAWN = ("GenerationRequest", "EditRequest", "RepairRequest")
# some character that is not blank, as `str.strip` sees it
_TEXT = r"[^\t-\r\u001c- \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


def document(served: Sequence[Limits]) -> dict[str, Any]:
    """The document for a service of models with these limits. Of several models it tells the widest limits; `GET
    /v1/models` has those of each.
    """
    limits = _widest(served)
    _, schemas = models_json_schema([(m, "validation") for m in MODELS], ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schemas["$defs"]
    for name in _DRAWN:
        _narrow(parts[name]["properties"], limits)
        if limits.negative_above is not None:
            parts[name] |= _unheard(limits.negative_above)
    parts["ReviewDecision"] |= {
        "if": {"properties": {"tell": {"const": True}}, "required": ["tell"]},
        "then": {"properties": {"reason": {"type": "string"}}, "required": ["reason"]},
    }
    parts["ModerationRequest"]["properties"]["input"] = _moderated(limits)
    del parts["TextPart"], parts["LoraRequest"]  # written out in the requests, with what this service takes
    for name in (*_DRAWN, "EvaluateRequest"):
        fields = parts[name]["properties"]
        _narrow_texts(fields, limits)
        fields["model"] = _open(fields["model"], {"type": "string", "enum": list(limits.models)})
    _add_files(parts, limits)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Palimpsest",
            "version": "1",
            "description": "Text-to-image generation in OpenAI's shape, under written policies."
            + (" Limits are the widest of several models; `GET /v1/models` has each one's." if len(served) > 1 else ""),
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "paths": _paths(),
        "components": {"schemas": parts, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _widest(served: Sequence[Limits]) -> Limits:
    """The limits within which a request must be for some of the models."""
    first, *more = served
    if not more:
        return first
    guidance = next((each.default_guidance for each in served if each.default_guidance is not None), None)
    above = [each.negative_above for each in served]
    return replace(
        first,
        models=tuple(name for each in served for name in each.models),
        sizes=tuple(dict.fromkeys(size for each in served for size in each.sizes)),
        default_guidance=guidance,
        max_n=max(each.max_n for each in served),
        max_steps=max(each.max_steps for each in served),
        min_steps=min(each.min_steps for each in served),
        nearest_size=any(each.nearest_size for each in served),
        negative=any(each.negative for each in served),
        negative_above=None if None in above else min(each for each in above if each is not None),
        adapters={name: lora for each in reversed(served) for name, lora in each.adapters.items()},
    )


def _paths() -> dict[str, Any]:
    asked = (400, 401, 403, 413, 415, 429, 499, 500, 503, 504)
    drawn = (*asked, 404)
    form = "multipart/form-data"
    got = (401, 403, 500, 503)
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    name = model | {"name": "name"}
    return {
        "/v1/images/generations": {
            "post": _with_headers(
                _operation("Make pictures", "GenerationRequest", _pictures("image_generation"), drawn)
            ),
        },
        "/v1/images/edits": {
            "post": _with_headers(
                _operation("Draw over a picture", "EditRequest", _pictures("image_edit"), drawn, form)
            ),
        },
        "/v1/images/repairs": {
            "post": _with_headers(
                _operation("Judge a picture, and mend it", "RepairRequest", _json(200, "GenerationAnswer"), drawn, form)
            ),
        },
        "/v1/policies/evaluate": {
            "post": _operation("Decide, and make nothing", "EvaluateRequest", _json(200, "EvaluationAnswer"), drawn),
        },
        "/v1/moderations": {
            "post": _operation("Judge texts", "ModerationRequest", _json(200, "ModerationAnswer"), asked)
        },
        "/v1/content_provenance_checks": {
            "post": _operation(
                "Find the marks of a picture", "ProvenanceRequest", _json(200, "ProvenanceAnswer"), asked, form
            )
        },
        "/v1/pictures/{name}": {
            "get": _operation("A picture behind a link", None, _image(*FORMATS), (404, 500, 503))
            | {"parameters": [name], "security": []}
        },
        "/v1/models": {"get": _operation("The models that are served", None, _json(200, "ModelsAnswer"), got)},
        "/v1/models/{model}": {
            "get": _operation("One model", None, _json(200, "ServedModel"), (*got, 404)) | {"parameters": [model]}
        },
        "/v1/policies": {
            "get": _operation("What each worker has in use", None, _json(200, "PoliciesAnswer"), got),
            "put": _operation("Send a signed bundle", "SignedBundle", _json(202, "BundleAnswer"), (*drawn, 409))
            | {"parameters": _query_of({"model": {"type": "string"}})},
        },
        **_review_paths(asked, got),
        "/v1/status": {"get": _operation("How each worker does", None, _json(200, "StatusAnswer"), got)},
        "/v1/openapi.json": {
            "get": _operation("This document", None, {200: {"application/json": {"schema": {"type": "object"}}}}, got)
        },
    }


def _review_paths(asked: tuple[int, ...], got: tuple[int, ...]) -> dict[str, Any]:
    case = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    number = {"name": "k", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
    text: dict[str, Any] = {"type": "string"}
    listed = {"state": text | {"enum": [*STATES, "all"]}, "queue": text, "tenant": text, "after": text}
    listed |= {"limit": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED}}
    looked = {"clear": {"type": "boolean"}, "repaired": {"type": "boolean"}}
    return {
        "/v1/reviews": {
            "get": _operation("Held cases", None, _json(200, "ReviewList"), (*got, 400, 404))
            | {"parameters": _query_of(listed)}
        },
        "/v1/reviews/{id}": {
            "get": _operation("What became of a held request", None, _json(200, "ReviewAnswer"), (*got, 404))
            | {"parameters": [case]},
            "post": _operation(
                "Release or reject a case", "ReviewDecision", _json(200, "ReviewCase"), (*asked, 404, 409)
            )
            | {"parameters": [case]},
        },
        "/v1/reviews/{id}/case": {
            "get": _operation("A held case, its prompt and grounds", None, _json(200, "ReviewDetails"), (*got, 404))
            | {"parameters": [case]}
        },
        "/v1/reviews/{id}/pictures/{k}": {
            "get": _operation("A picture of a held case, blurred unless `clear`", None, _image("png"), (*got, 400, 404))
            | {"parameters": [case, number, *_query_of(looked)]}
        },
    }


def _query_of(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": schema} for name, schema in parameters.items()]


def _pictures(kind: str) -> dict[int, Any]:
    """The answer with pictures, at once or as a stream of events of this kind."""
    kinds = [f"{kind}.{each}" for each in ("queued", "step", "completed")]
    events = {
        "type": "object",
        "description": "one server-sent event; `completed` comes once a picture, `error` at most once and last;"
        " `queued` and `step` come if the request has `progress`",
        "properties": {
            "event": {"type": "string", "enum": [*kinds, "error"]},
            "data": {"type": "string", "contentMediaType": "application/json"},
        },
        "required": ["event", "data"],
    }
    return {200: {"application/json": _schema("GenerationAnswer"), "text/event-stream": {"schema": events}}}


def _operation(
    summary: str, body: str | None, good: dict[int, Any], bad: tuple[int, ...], kind: str = "application/json"
) -> dict[str, Any]:
    answers = {str(code): {"description": "done", "content": content} for code, content in good.items()}
    told = {"application/json": _schema("ErrorAnswer")}
    answers |= {str(code): {"description": _ERRORS[code], "content": told} for code in sorted(bad)}
    operation: dict[str, Any] = {"summary": summary, "responses": answers}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {kind: _schema(body)}}
    return operation


def _with_headers(operation: dict[str, Any]) -> dict[str, Any]:
    """The operation with the headers that say what `steering` says. A stream and a bad request have none of them."""
    refused = {"verdict": "block", "decision_id": "", "policy": "", "seed": 0}
    names = list(answer_headers({**refused, "how": "untouched", "sites": 0, "asked_size": "1x1"}))
    text = {"schema": {"type": "string"}}
    operation["responses"]["200"]["headers"] = dict.fromkeys(names, text)
    told_too = dict.fromkeys(answer_headers(refused), text)
    operation["responses"]["400"]["headers"] = told_too
    error = {"application/json": _schema("ErrorAnswer")}
    operation["responses"]["202"] = {
        "description": _ERRORS[202],
        "headers": told_too | {"Location": text},
        "content": error,
    }
    return operation


def _image(*forms: Format) -> dict[int, Any]:
    kinds = [f"image/{form}" for form in forms]
    return {200: {kind: {"schema": {"type": "string", "contentMediaType": kind}} for kind in kinds}}


def _json(code: int, model: str) -> dict[int, Any]:
    return {code: {"application/json": _schema(model)}}


def _schema(model: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{model}"}}


def _narrow(fields: dict[str, Any], limits: Limits) -> None:
    """Adds the model's limits to the request schema, and OpenAI's fields that are ignored."""
    if "n" in fields:
        fields["size"] = _open(fields["size"], _size(limits))
        fields["n"] = _open(fields["n"], {"type": "integer", "minimum": 1, "maximum": limits.max_n})
    steps = {"type": "integer", "minimum": limits.min_steps, "maximum": limits.max_steps}
    fields["num_inference_steps"] = _open(fields["num_inference_steps"], steps)
    scale = {"type": "number", "minimum": 0, "maximum": limits.max_guidance}
    fields["guidance_scale"] = (
        {"type": "null"} if limits.default_guidance is None else _open(fields["guidance_scale"], scale)
    )
    fields["lora"] = _open(fields["lora"], _lora(limits)) if limits.adapters else {"type": "null"}
    formats = ["b64_json", *(["url"] if limits.urls else [])]
    fields["response_format"] = _open(fields["response_format"], {"type": "string", "enum": formats})
    if not limits.negative:
        fields["negative_prompt"] = {"type": "null"}
    for name in sorted(GenerationRequest.IGNORED):
        fields[name] = {
            "description": "an OpenAI field without effect here: accepted, and listed in `steering.ignored`"
        }


def _size(limits: Limits) -> dict[str, Any]:
    known = {"type": "string", "enum": ["auto", *limits.sizes]}
    if not limits.nearest_size:
        return known
    told = f"of another size, the nearest of {', '.join(limits.sizes)} is drawn; see `steering.asked_size`"
    return {"anyOf": [known, {"type": "string", "pattern": f"^{SIZE}$", "description": told}]}


def _add_files(parts: dict[str, Any], limits: Limits) -> None:
    """Adds the files of uploads, and what differs where a picture is drawn over."""
    bounds = f"sides of {SHORTEST_SIDE} to {LONGEST_SIDE} pixels, at most {limits.max_pixels} pixels"
    told = f"a PNG, JPEG or WebP file with one still picture, {bounds}"
    image = {"type": "string", "contentMediaType": "application/octet-stream", "description": told}
    mask = image | {"description": f"{told}: as large as `image`, and wholly transparent where this may change"}
    size = "`auto`, or the size of `image`, which an edit keeps"
    parts["EditRequest"]["properties"]["size"] = _open(
        parts["EditRequest"]["properties"]["size"], {"type": "string", "description": size}
    )
    for name, files in (("EditRequest", {"image": image, "mask": mask}), ("RepairRequest", {"image": image})):
        parts[name]["properties"] |= files
        parts[name]["required"] = [*parts[name].get("required", ()), "image"]
        steps = parts[name]["properties"]["num_inference_steps"]["anyOf"][0]
        steps["minimum"] = max(2, steps["minimum"])
    parts["ProvenanceRequest"] |= {"properties": {"file": image}, "required": ["file"]}


def _lora(limits: Limits) -> dict[str, Any]:
    """The adapters that are offered, by name."""
    scale = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_LORA_SCALE}
    told = "; ".join(f"`{name}` at {lora.scale:g}" for name, lora in limits.adapters.items())
    return {
        "type": "object",
        "description": f"draw with an adapter; without `scale`: {told}",
        "properties": {
            "name": {"type": "string", "enum": list(limits.adapters)},
            "scale": {"anyOf": [scale, {"type": "null"}]},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def _unheard(above: float) -> dict[str, Any]:
    """Forbids a negative prompt where the guidance scale makes the pipeline ignore it."""
    low = {"properties": {"guidance_scale": {"type": "number", "maximum": above}}, "required": ["guidance_scale"]}
    return {"if": low, "then": {"properties": {"negative_prompt": {"enum": [None, ""]}}}}


def _narrow_texts(fields: dict[str, Any], limits: Limits) -> None:
    text = {"type": "string", "minLength": 1, "maxLength": limits.max_prompt, "pattern": _TEXT}
    needed = "anyOf" not in fields["prompt"]
    fields["prompt"] = text | {"title": "Prompt"} if needed else _open(fields["prompt"], text)
    if fields["negative_prompt"] != {"type": "null"}:
        fields["negative_prompt"] = _open(fields["negative_prompt"], {"anyOf": [text, {"const": ""}]})


def _moderated(limits: Limits) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": limits.max_prompt, "pattern": _TEXT}
    part = {
        "type": "object",
        "properties": {"type": {"const": "text"}, "text": text},
        "required": ["type", "text"],
        "additionalProperties": False,
    }
    several = {"type": "array", "minItems": 1, "maxItems": MAX_TEXTS, "items": text}
    return {"anyOf": [text, several, {"type": "array", "minItems": 1, "maxItems": 1, "items": part}]}


def _open(field: dict[str, Any], kind: dict[str, Any]) -> dict[str, Any]:
    """The schema of a nullable field, with another type in place of its own."""
    kept = {k: v for k, v in field.items() if k not in ("anyOf", "type")}
    return kept | {"anyOf": [kind, {"type": "null"}]}
