"""The HTTP side of the review queue: the caller's outcome, and the reviewers' list, look and decide."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.errors import BadRequest, NotFound
from service.http.body import read_json_bytes
from service.http.context import caller_of, runtime_of
from service.http.requests import ReviewDecision, parse_body
from service.reviews.reviews import Reviews

__all__ = ["decide_review", "decided", "list_reviews", "opened", "review_case", "review_outcome", "review_picture"]
__all__ += ["reviews_of"]

T = TypeVar("T")


async def review_outcome(request: Request) -> Response:
    """`GET /v1/reviews/{id}`: what became of a held request, for the one who sent it."""
    work = partial(reviews_of(request).outcome, request.path_params["id"], tenant=caller_of(request).name)
    return JSONResponse(await run_in_threadpool(work))


async def list_reviews(request: Request) -> Response:
    """`GET /v1/reviews`: the held cases, the oldest first."""
    asked = _query(request, ("state", "queue", "tenant", "after", "limit"))
    state = asked.get("state", "pending")
    work = partial(
        reviews_of(request).list,
        state=None if state == "all" else state,
        queue=asked.get("queue"),
        tenant=asked.get("tenant"),
        after=asked.get("after"),
        limit=_as(_number, "limit", asked.get("limit", "20"), "a whole number"),
    )
    return JSONResponse(await run_in_threadpool(work))


async def review_case(request: Request) -> Response:
    """`GET /v1/reviews/{id}/case`: a case with its prompt and grounds."""
    return JSONResponse(await opened(request))


async def review_picture(request: Request) -> Response:
    """`GET /v1/reviews/{id}/pictures/{k}`: a picture of a case, blurred unless `clear`."""
    asked = _query(request, ("clear", "repaired"))
    try:
        number = _number(request.path_params["k"])
    except ValueError:
        raise NotFound("a picture of a case has a number, from 0") from None
    work = partial(
        reviews_of(request).look,
        request.path_params["id"],
        number,
        reviewer=caller_of(request).name,
        clear=_as(_truth, "clear", asked.get("clear", "false"), "`true` or `false`"),
        repaired=_as(_truth, "repaired", asked.get("repaired", "false"), "`true` or `false`"),
    )
    return Response(await run_in_threadpool(work), media_type="image/png")


async def decide_review(request: Request) -> Response:
    """`POST /v1/reviews/{id}`: releases or rejects a case, once."""
    settings = runtime_of(request).settings
    raw = await read_json_bytes(request, settings.max_body, seconds=settings.deadline_seconds)
    parsed, _ = parse_body(raw, ReviewDecision)
    return JSONResponse(await decided(request, parsed))


async def opened(request: Request) -> dict[str, Any]:
    """The case of a request's path with its prompt and grounds, at which its caller has now looked."""
    work = partial(reviews_of(request).case, request.path_params["id"], reviewer=caller_of(request).name)
    return await run_in_threadpool(work)


async def decided(request: Request, decision: ReviewDecision) -> dict[str, Any]:
    """The case of a request's path, which its caller has now decided."""
    work = partial(
        reviews_of(request).decide,
        request.path_params["id"],
        decision.decision,
        reviewer=caller_of(request).name,
        reason=decision.reason,
        tell=decision.tell,
    )
    return await run_in_threadpool(work)


def reviews_of(request: Request) -> Reviews:
    """The review queue. Raises `Unavailable` before there is one."""
    return runtime_of(request).ready().reviews


def _query(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    """The query's parameters. Raises `BadRequest` for one that is unknown or given twice."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise BadRequest(f"unknown parameter `{name[:64]}`; known: {', '.join(known)}", param=name[:64])
        if name in found:
            raise BadRequest(f"`{name}` must be given once", param=name)
        found[name] = value
    return found


def _as(kind: Callable[[str], T], name: str, value: str, must: str) -> T:
    try:
        return kind(value)
    except ValueError:
        raise BadRequest(f"`{name}` must be {must}, got `{value[:32]}`", param=name) from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text[:9])


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"
