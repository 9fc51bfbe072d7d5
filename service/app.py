"""The public API: a Starlette app whose handlers parse, call the runtime, and answer.

It is mounted in BentoML's service (`service.bento`) and runs without it in tests; `app.state.runtime` is the one thing
that it needs. Errors that a handler raises are told in OpenAI's shape; what nobody expected becomes a 500 with a
request id and no more.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.api import EvaluateRequest, GenerationRequest, parse_body
from service.body import read_json_bytes, unless_gone
from service.errors import (
    ApiError,
    Busy,
    DeadlineExceeded,
    Disconnected,
    Internal,
    Refused,
    Unavailable,
    without_message,
)
from service.guard import error_response
from service.metrics import Outcome, render

if TYPE_CHECKING:
    from service.runtime import Runtime

__all__ = ["ROUTES", "make_app"]

log = logging.getLogger("bentoml.palimpsest.http")

Handler = Callable[[Request], Awaitable[Response]]


async def generate(request: Request) -> Response:
    """`POST /v1/images/generations`."""
    runtime = _runtime(request)
    raw = await read_json_bytes(request, runtime.settings.max_body)
    parsed, ignored = parse_body(raw, GenerationRequest)
    asked = parsed.within(runtime.ready().limits)
    answer = await unless_gone(request, runtime.generate(asked, ignored, request.state.request_id))
    request.state.outcome = {"steer": "steered", "label": "labelled"}.get(answer["steering"]["verdict"], "ok")
    return JSONResponse(answer)


async def evaluate(request: Request) -> Response:
    """`POST /v1/policies/evaluate`: decides and makes nothing."""
    runtime = _runtime(request)
    raw = await read_json_bytes(request, runtime.settings.max_body)
    parsed, _ = parse_body(raw, EvaluateRequest)
    asked = parsed.within(runtime.ready().limits)
    return JSONResponse(await unless_gone(request, runtime.evaluate(asked, request.state.request_id)))


async def models(request: Request) -> Response:
    """`GET /v1/models`."""
    return JSONResponse(_runtime(request).models())


async def policies(request: Request) -> Response:
    """`GET /v1/policies`: what each worker has in use, and what it could not load."""
    return JSONResponse(await run_in_threadpool(_runtime(request).policies))


async def metrics(request: Request) -> Response:
    """`GET /metrics`: this replaces BentoML's route, whose own series grow by one for every path that is scanned."""
    body, content_type = await run_in_threadpool(render)
    return Response(body, media_type=content_type)


def _told(name: str, handler: Handler) -> Handler:
    """`handler` with its errors told as answers, and its requests counted under `name`."""

    async def told(request: Request) -> Response:
        started = time.perf_counter()
        request_id = getattr(request.state, "request_id", None) or os.urandom(16).hex()
        request.state.request_id = request_id
        outcome: Outcome
        try:
            response = await handler(request)
            outcome = getattr(request.state, "outcome", "ok")
        except ApiError as error:
            response, outcome = error_response(error), _outcome(error)
        except Exception as error:
            log.error("request %s failed: %s", request_id, without_message(error))
            response, outcome = error_response(Internal(request_id)), "error"
        seconds = time.perf_counter() - started
        runtime: Runtime | None = getattr(request.app.state, "runtime", None)
        if runtime is not None:
            runtime.recorder.request(name, outcome, seconds)
        log.info("%s %d %s %.3f s request=%s", name, response.status_code, outcome, seconds, request_id)
        return response

    return told


ROUTES: dict[str, tuple[str, tuple[str, ...], Handler]] = {
    "/v1/images/generations": ("generations", ("POST",), generate),
    "/v1/models": ("models", ("GET", "HEAD"), models),
    "/v1/policies": ("policies", ("GET", "HEAD"), policies),
    "/v1/policies/evaluate": ("evaluate", ("POST",), evaluate),
}


def make_app() -> Starlette:
    """The app; whoever starts it sets `app.state.runtime`."""
    routes = [
        Route(path, _told(name, handler), methods=list(methods)) for path, (name, methods, handler) in ROUTES.items()
    ]
    return Starlette(routes=[*routes, Route("/metrics", metrics, methods=["GET"])])


def _runtime(request: Request) -> Runtime:
    runtime: Runtime | None = getattr(request.app.state, "runtime", None)
    if runtime is None:
        raise Unavailable("the worker is starting")
    return runtime


def _outcome(error: ApiError) -> Outcome:
    kinds: tuple[tuple[type[ApiError], Outcome], ...] = (
        (Refused, "refused"),
        (Busy, "busy"),
        (DeadlineExceeded, "deadline"),
        (Disconnected, "cancelled"),
        (Unavailable, "unavailable"),
    )
    for kind, outcome in kinds:
        if isinstance(error, kind):
            return outcome
    return "client_error" if error.status < 500 else "error"
