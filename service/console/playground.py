"""The playground: draws a prompt under the policies in use, and plainly beside it, with every word that was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from policies import Reason, Rung, narrate
from policies import Request as Asked
from service.console.asking import ready_of, texts_of, whole
from service.console.pages import render
from service.errors import Held, Refused
from service.http.app import as_told, pictures
from service.http.context import caller_of, runtime_of
from service.http.requests import GenerationRequest, parse_fields
from service.http.streaming import EventProgress, event_stream
from service.order import Order

__all__ = ["draw", "marked", "page", "plain"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text. `why`: the reasons that point at it; empty: nothing was found there."""

    text: str
    why: tuple[str, ...] = ()


class _Progress(EventProgress):
    """Progress that also tells of repairs: who uses the console may see how a picture came about."""

    def rung(self, picture: int, rung: Rung, result: Literal["passed", "failed"]) -> None:
        """A repair was tried, and the picture judged again."""
        self.tell({"type": "console.rung", "index": picture, "rung": rung, "result": result})


async def page(request: Request) -> Response:
    """`GET /`."""
    return whole(request, "playground", limits=ready_of(request).limits)


async def draw(request: Request) -> Response:
    """`POST /console/draw`: the stream of one picture under the policies in use, and of the decision on its prompt."""
    runtime, caller, request_id = runtime_of(request), caller_of(request), request.state.request_id
    order = await _order(request)

    async def work(progress: _Progress) -> dict[str, Any]:
        ready = runtime.ready(order.model)
        snapshot = ready.store.snapshot
        asked = Asked(order.prompt, order.negative_prompt, caller.name, id=request_id, now=datetime.now(UTC))
        _, decision = await ready.loop.judge_prompt(asked, snapshot)
        explained = render(
            "explained",
            pieces=marked(order.prompt, decision.reasons),
            lines=list(narrate(asked, decision, snapshot))[1:],
            verdict=decision.verdict,
        )
        progress.tell({"type": "console.explained", "html": explained})
        try:
            answer = await pictures(request, order, progress=progress)
        except Refused as error:
            case = error.case_id if isinstance(error, Held) and "review" in caller.scopes else None
            progress.tell({"type": "console.told", "html": render("refused", error=error, case=case)})
            raise
        progress.tell({"type": "console.told", "html": render("told", steering=answer["steering"])})
        return answer

    return await event_stream(request, work, _told(request), "image_generation", _Progress)


async def plain(request: Request) -> Response:
    """`POST /console/plain`: the stream of the picture that the model draws without any policy. Nothing of it is
    kept; the audit log records that it was drawn.
    """
    runtime, caller, request_id = runtime_of(request), caller_of(request), request.state.request_id
    order = await _order(request)
    work = partial(runtime.plain, order, request_id, tenant=caller.name)
    return await event_stream(request, lambda p: work(progress=p), _told(request), "image_generation")


def marked(text: str, reasons: Sequence[Reason]) -> list[Piece]:
    """`text` in pieces, those marked at which reasons point. Marks that overlap are one."""
    spans = sorted((r.span.start, r.span.end, r.text) for r in reasons if r.span and r.span.source == "prompt")
    merged: list[tuple[int, int, tuple[str, ...]]] = []
    for start, end, why in spans:
        if merged and start < merged[-1][1]:
            first, last, whys = merged.pop()
            merged.append((first, max(last, end), tuple(dict.fromkeys((*whys, why)))))
        else:
            merged.append((start, end, (why,)))
    pieces, at = [], 0
    for start, end, whys in merged:
        pieces += [Piece(text[at:start]), Piece(text[start:end], whys)]
        at = end
    return [piece for piece in (*pieces, Piece(text[at:])) if piece.text]


async def _order(request: Request) -> Order:
    """The order in a form, whose empty fields count as left out. Raises an `ApiError`."""
    texts = await texts_of(request)
    parsed, _ = parse_fields({k: v for k, v in texts.items() if v or k == "prompt"}, GenerationRequest)
    return parsed.within(runtime_of(request).ready(parsed.model).limits)


def _told(request: Request) -> Callable[[BaseException], Any]:
    return lambda error: as_told(error, request.state.request_id)
