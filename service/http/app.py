"""The public API: a Starlette app whose handlers parse the request, call the runtime, and answer.

`service.bento` mounts the app in BentoML's service; tests run it without BentoML. The app only needs
`app.state.runtime`. Errors that a handler raises are returned in OpenAI's shape. An unexpected exception becomes a 500
that contains only a request id.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span, StatusCode
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.errors import (
    ApiError,
    Busy,
    DeadlineExceeded,
    Disconnected,
    Held,
    Internal,
    NotFound,
    Refused,
    Unavailable,
    without_message,
)
from service.http.answers import answer_headers
from service.http.body import read_json_bytes, unless_gone
from service.http.context import caller_of, for_person, runtime_of
from service.http.endpoints.moderations import moderate
from service.http.endpoints.pictures import check_room, picture, with_urls
from service.http.endpoints.provenance import check_provenance
from service.http.endpoints.reviews import decide_review, list_reviews, review_case, review_outcome, review_picture
from service.http.guard import Access, Needed, error_response
from service.http.keys import Scope
from service.http.openapi import document
from service.http.requests import (
    EditRequest,
    EvaluateRequest,
    GenerationRequest,
    RepairRequest,
    parse_body,
    parse_fields,
    unknown,
)
from service.http.streaming import EventProgress, EventStream, Kind, event_stream
from service.http.uploads import form_of, picture_of
from service.metrics.catalogue import RequestOutcome
from service.metrics.recorder import render
from service.order import Order
from service.tracing import Tracing

if TYPE_CHECKING:
    from service.worker.runtime import Runtime

__all__ = ["ENDPOINTS", "Endpoint", "access", "as_told", "counted", "make_app", "pictures"]

log = logging.getLogger("bentoml.palimpsest.http")

Handler = Callable[[Request], Awaitable[Response]]


async def generate(request: Request) -> Response:
    """`POST /v1/images/generations`."""
    runtime = runtime_of(request)
    settings = runtime.settings
    raw = await read_json_bytes(request, settings.max_body, seconds=settings.deadline_seconds)
    parsed, ignored = parse_body(raw, GenerationRequest)
    limits = runtime.ready(parsed.model).limits
    order = for_person(request, parsed.within(limits), parsed.identifier)
    ignored = (*ignored, *parsed.unused)
    if parsed.stream:
        return await _streamed(request, order, ignored, "image_generation", own=bool(parsed.progress))
    return await _drawn(request, order, ignored, by_url=parsed.by_url(limits))


async def edit(request: Request) -> Response:
    """`POST /v1/images/edits`: draws over an uploaded picture."""
    form = await form_of(request, ("image", "mask"))
    parsed, ignored = parse_fields(form.texts, EditRequest)
    image = await picture_of(request, form, "image")
    mask = await picture_of(request, form, "mask") if "mask" in form.files else None
    limits = runtime_of(request).ready(parsed.model).limits
    order = for_person(request, parsed.over(limits, image, mask), parsed.identifier)
    ignored = (*ignored, *parsed.unused)
    if not parsed.stream:
        return await _drawn(request, order, ignored, by_url=parsed.by_url(limits))
    return await _streamed(request, order, ignored, "image_edit", own=bool(parsed.progress))


async def repair(request: Request) -> Response:
    """`POST /v1/images/repairs`: judges an uploaded picture, and mends what may not stand on it."""
    form = await form_of(request, ("image",))
    parsed, ignored = parse_fields(form.texts, RepairRequest)
    image = await picture_of(request, form, "image")
    limits = runtime_of(request).ready(parsed.model).limits
    order = for_person(request, parsed.over(limits, image), parsed.identifier)
    return await _drawn(request, order, (*ignored, *parsed.unused), by_url=parsed.by_url(limits))


async def evaluate(request: Request) -> Response:
    """`POST /v1/policies/evaluate`: decides without generating a picture."""
    runtime = runtime_of(request)
    settings = runtime.settings
    raw = await read_json_bytes(request, settings.max_body, seconds=settings.deadline_seconds)
    parsed, _ = parse_body(raw, EvaluateRequest)
    asked = parsed.within(runtime.ready(parsed.model).limits)
    work = runtime.evaluate(asked, request.state.request_id, tenant=caller_of(request).name)
    return JSONResponse(await unless_gone(request, work))


async def models(request: Request) -> Response:
    """`GET /v1/models`."""
    return JSONResponse(runtime_of(request).listed())


async def model(request: Request) -> Response:
    """`GET /v1/models/{model}`: one model, in the shape that it has in the list."""
    asked = request.path_params["model"]
    listed = runtime_of(request).listed()["data"]
    for each in listed:
        if each["id"] == asked:
            return JSONResponse(each)
    message = unknown("model", asked, [each["id"] for each in listed])
    raise NotFound(message, param="model", code="model_not_found")


async def policies(request: Request) -> Response:
    """`GET /v1/policies`: the policies in use in each worker, and those that it could not load."""
    return JSONResponse(await run_in_threadpool(runtime_of(request).policies))


async def status(request: Request) -> Response:
    """`GET /v1/status`: the state of each worker, and the detectors whose circuit breaker is open."""
    return JSONResponse(await run_in_threadpool(runtime_of(request).status))


async def put_policies(request: Request) -> Response:
    """`PUT /v1/policies`: accepts a signed bundle for all workers. Answers 202, because workers load it by polling."""
    runtime = runtime_of(request)
    settings, model = runtime.settings, request.query_params.get("model")
    raw = await read_json_bytes(request, settings.max_bundle, seconds=settings.deadline_seconds)
    answer = await runtime.put_policies(raw, request.state.request_id, tenant=caller_of(request).name, model=model)
    return JSONResponse(answer, status_code=202)


async def openapi(request: Request) -> Response:
    """`GET /v1/openapi.json`: the API document of this service, with the sizes and limits of its model."""
    return JSONResponse(document(runtime_of(request).limits()))


async def metrics(request: Request) -> Response:
    """`GET /metrics`: replaces BentoML's route, whose metrics gain a series for every scanned path."""
    body, content_type = await run_in_threadpool(render)
    return Response(body, media_type=content_type)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path: its name in metrics, the required key scope, and whether the rate limit applies."""

    path: str
    method: str
    name: str
    handler: Handler
    scope: Scope | None = None
    limited: bool = False
    public: bool = False  # without a key


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("/v1/images/generations", "POST", "generations", generate, "generate", limited=True),
    Endpoint("/v1/images/edits", "POST", "edits", edit, "generate", limited=True),
    Endpoint("/v1/images/repairs", "POST", "repairs", repair, "generate", limited=True),
    Endpoint("/v1/policies/evaluate", "POST", "evaluate", evaluate, "generate", limited=True),
    Endpoint("/v1/moderations", "POST", "moderations", moderate, "generate", limited=True),
    Endpoint("/v1/content_provenance_checks", "POST", "provenance_checks", check_provenance, "generate", limited=True),
    Endpoint("/v1/pictures/{name}", "GET", "pictures", picture, public=True),
    Endpoint("/v1/models", "GET", "models", models),
    Endpoint("/v1/models/{model}", "GET", "models", model),
    Endpoint("/v1/policies", "GET", "policies", policies, "policy:read"),
    Endpoint("/v1/policies", "PUT", "put_policies", put_policies, "policy:write", limited=True),
    Endpoint("/v1/status", "GET", "status", status, "metrics"),
    Endpoint("/v1/reviews", "GET", "reviews", list_reviews, "review"),
    Endpoint("/v1/reviews/{id}", "GET", "review", review_outcome, "generate"),
    Endpoint("/v1/reviews/{id}", "POST", "decide_review", decide_review, "review"),
    Endpoint("/v1/reviews/{id}/case", "GET", "review_case", review_case, "review"),
    Endpoint("/v1/reviews/{id}/pictures/{k}", "GET", "review_picture", review_picture, "review"),
    Endpoint("/v1/openapi.json", "GET", "openapi", openapi),
)


def access() -> Access:
    """The scope that each path and method requires, for the guard."""
    found: dict[str, dict[str, Needed]] = {"/metrics": {"GET": "metrics", "HEAD": "metrics"}}
    for endpoint in ENDPOINTS:
        methods = found.setdefault(endpoint.path, {})
        needed = "public" if endpoint.public else endpoint.scope
        methods |= dict.fromkeys(("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,), needed)
    return found


def make_app() -> Starlette:
    """The app. The caller must set `app.state.runtime`."""
    # the model is a `:path`, because the id of a hub model has a slash
    routes = [Route(e.path.replace("{model}", "{model:path}"), counted(e), methods=[e.method]) for e in ENDPOINTS]
    return Starlette(routes=[*routes, Route("/metrics", metrics, methods=["GET"])])


def counted(endpoint: Endpoint) -> Handler:
    """The endpoint's handler with rate limit, error answers, a span, and request metrics under the endpoint's name."""

    async def told(request: Request) -> Response:
        started = time.perf_counter()
        request_id = getattr(request.state, "request_id", None) or os.urandom(16).hex()
        request.state.request_id = request_id
        runtime: Runtime | None = getattr(request.app.state, "runtime", None)
        tracing = Tracing() if runtime is None else runtime.recorder.tracing
        span = tracing.request(endpoint.name, request.headers)
        status = 200

        def over(error: BaseException | None) -> None:
            outcome: RequestOutcome = getattr(request.state, "outcome", "ok") if error is None else _outcome(error)
            seconds = time.perf_counter() - started
            if runtime is not None:
                runtime.recorder.request(endpoint.name, outcome, seconds)
            if span is not None:
                _end(span, endpoint, status, outcome, request_id)
            fields = {"endpoint": endpoint.name, "status": status, "outcome": outcome, "seconds": round(seconds, 3)}
            log.info("%s %d %s %.3f s request=%s", *fields.values(), request_id, extra=fields)

        with tracing.within(span):
            try:
                if endpoint.limited:
                    await runtime_of(request).limiter.admit(caller_of(request))
                response = await endpoint.handler(request)
            except Exception as error:
                refusal = as_told(error, request_id)
                status = refusal.status
                over(refusal)
                return error_response(refusal)
            status = response.status_code
            if isinstance(response, EventStream):
                response.over = over
            else:
                over(None)
            return response

    return told


def _end(span: Span, endpoint: Endpoint, status: int, outcome: RequestOutcome, request_id: str) -> None:
    """Ends the span of a request. The names are OpenTelemetry's where it has some."""
    span.set_attributes(
        {
            "http.request.method": endpoint.method,
            "http.route": endpoint.path,
            "http.response.status_code": status,
            "palimpsest.outcome": outcome,
            "palimpsest.request_id": request_id,
        }
    )
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


async def pictures(
    request: Request, order: Order, ignored: Sequence[str] = (), progress: EventProgress | None = None
) -> dict[str, Any]:
    """The body of the answer with the pictures of an order. The request's state gets the outcome that is counted."""
    runtime, caller = runtime_of(request), caller_of(request)
    answer = await runtime.generate(order, ignored, request.state.request_id, tenant=caller.name, progress=progress)
    request.state.outcome = {"steer": "steered", "label": "labelled"}.get(answer["steering"]["verdict"], "ok")
    return answer


async def _drawn(request: Request, order: Order, ignored: Sequence[str], *, by_url: bool) -> Response:
    """The answer with the pictures of an order."""
    if by_url:
        await check_room(request)
    answer = await unless_gone(request, pictures(request, order, ignored))
    if by_url:
        answer = await with_urls(request, answer)
    return JSONResponse(answer, headers=answer_headers(answer["steering"]))


async def _streamed(request: Request, order: Order, ignored: Sequence[str], kind: Kind, *, own: bool) -> Response:
    """The answer as a stream of events, with those of our own if `own`."""
    return await event_stream(
        request,
        lambda progress: pictures(request, order, ignored, progress),
        lambda error: as_told(error, request.state.request_id),
        kind,
        partial(EventProgress, own=own),
    )


def as_told(error: BaseException, request_id: str) -> ApiError:
    """The API error for `error`. An unexpected exception is logged, without its message."""
    if isinstance(error, ApiError):
        return error
    log.error("request %s failed: %s", request_id, without_message(error))
    return Internal(request_id)


def _outcome(error: BaseException) -> RequestOutcome:
    kinds: tuple[tuple[type[ApiError], RequestOutcome], ...] = (
        (Held, "held"),
        (Refused, "refused"),
        (Busy, "busy"),
        (DeadlineExceeded, "deadline"),
        (Disconnected, "cancelled"),
        (Unavailable, "unavailable"),
    )
    for kind, outcome in kinds:
        if isinstance(error, kind):
            return outcome
    return "client_error" if isinstance(error, ApiError) and error.status < 500 else "error"
