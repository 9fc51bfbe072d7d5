"""The review queue: the cases that wait, one case with its pictures, and the decision on it.

What is looked at and decided here is in the audit log as if it were asked of `/v1/reviews`: the functions are the same.
To open a case is to look at its prompt, and at its pictures blurred; each picture in clear is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from policies import Reason, Span
from service.console.asking import texts_of, whole
from service.console.playground import marked
from service.errors import ApiError
from service.http.context import runtime_of
from service.http.endpoints.reviews import decided, opened, reviews_of
from service.http.requests import ReviewDecision, parse_fields

__all__ = ["case_page", "decide", "page", "span_of_time"]

_SHOWN = 20


async def page(request: Request) -> Response:
    """`GET /console/reviews`: the cases that wait, the oldest first, by the fields `queue` and `after`."""
    return await _listed(request)


async def case_page(request: Request) -> Response:
    """`GET /console/reviews/{id}`. A case that cannot be opened, such as one that was rejected, is told above the
    others.
    """
    try:
        case = await opened(request)
    except ApiError as error:
        return await _listed(request, error=error)
    grounds = case["grounds"]
    reasons = [_reason(each) for each in grounds["reasons"]]
    in_use = next((s for s in runtime_of(request).snapshots() if s.digest == grounds["policy"]), None)
    why = {} if in_use is None else {rule.id: rule.model.why for rule in in_use.rules}
    values: dict[str, Any] = {
        "pieces": marked(case["prompt"], reasons),
        "reasons": reasons,
        "why": why,
        "age": span_of_time,
    }
    return whole(request, "case", case=case, now=time.time(), **values, **await _waiting(request, case["id"]))


async def decide(request: Request) -> Response:
    """`POST /console/reviews/{id}`: the decision of a form, told above the cases that are left."""
    texts = await texts_of(request)
    try:
        decision, _ = parse_fields({**texts, "reason": texts.get("reason", "").strip()}, ReviewDecision)
        done = await decided(request, decision)
    except ApiError as error:
        return await _listed(request, error=error)
    return await _listed(request, done=done)


async def _listed(
    request: Request, *, done: Mapping[str, Any] | None = None, error: ApiError | None = None
) -> Response:
    """The waiting cases, below what was `done` or went wrong."""
    shown = partial(whole, request, "reviews", error.status if error else 200, title="Review", done=done, error=error)
    return shown(now=time.time(), age=span_of_time, **await _waiting(request, done["id"] if done else None))


async def _waiting(request: Request, case_id: str | None) -> dict[str, Any]:
    """The waiting cases of the queue that the query names, or of all: a page of them, the one behind `case_id` (if this
    was the last, the oldest), and how many each queue has.
    """
    reviews, queue = reviews_of(request), request.query_params.get("queue") or None
    listed = partial(reviews.list, queue=queue)
    cases = await run_in_threadpool(partial(listed, after=request.query_params.get("after"), limit=_SHOWN))
    behind = await run_in_threadpool(partial(listed, after=case_id, limit=1))
    others = [each["id"] for each in (*behind["data"], *cases["data"]) if each["id"] != case_id]
    return {
        "cases": cases,
        "following": others[0] if others else None,
        "waiting": await run_in_threadpool(reviews.waiting),
        "queue": queue,
        "query": f"?{urlencode({'queue': queue})}" if queue else "",
    }


def _reason(ground: Mapping[str, Any]) -> Reason:
    """A reason as it was kept: without the word that was found, which its span points at."""
    words = [f"{ground['rule']}: {ground['predicate']}"]
    words += [f"{name} {ground[name]}" for name in ("list", "view") if ground[name]]
    words += [f"score {ground['score']:.2f}"] if ground["score"] is not None else []
    span = Span(*ground["at"]) if "at" in ground else None
    return Reason(ground["rule"], ground["predicate"], ", ".join(words), span=span)


def span_of_time(seconds: float) -> str:
    """A time as people say it, in the largest unit of which there are two, rounded."""
    units = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
    unit, length = next((each for each in units if seconds >= 2 * each[1]), units[-1])
    count = max(0, round(seconds / length))
    return f"{count} {unit}{'' if count == 1 else 's'}"
