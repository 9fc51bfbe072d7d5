"""Answers as server-sent events, in the shape that OpenAI clients read: one `completed` event per picture.

Events of our own (queued, step) are sent to those who ask for `progress`, because OpenAI's clients take every event
that they do not know for a partial picture. Without them, a comment tells that the request is in the queue.

A picture is only in its `completed` event, which is sent after the last picture has been judged. There are no partial
images. A failure before the first event is an ordinary error answer with its status. A later failure is an `error`
event, because the status has already been sent. Step events cover the first generation of each picture. Repairs appear
only in the `completed` events, as rungs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from policies import Rung
from service.errors import ApiError, Disconnected
from service.http.body import watching

__all__ = ["EventProgress", "EventStream", "completed", "event_stream"]

_QUEUED = b": queued\n\n"
_STILL_HERE = b": still working\n\n"
_HEARTBEAT_SECONDS = 10.0
Kind = Literal["image_generation", "image_edit"]  # how the types of events begin


class EventProgress:
    """A `Progress` that queues events for the one stream that reads them. `own`: whether it sends events of our own."""

    def __init__(self, kind: Kind, *, own: bool = True) -> None:
        self._kind = kind
        self._own = own
        self._loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[bytes] = asyncio.Queue()

    def queued(self, pictures: int) -> None:
        """The request's pictures are in the engine's queue."""
        if self._own:
            self.tell({"type": f"{self._kind}.queued", "n": pictures})
        else:
            self._send(_QUEUED)

    def step(self, picture: int, step: int, steps: int) -> None:
        """A denoising step of a picture is done."""
        if self._own:
            self.tell({"type": f"{self._kind}.step", "index": picture, "step": step, "steps": steps})

    def rung(self, picture: int, rung: Rung, result: Literal["passed", "failed"]) -> None:
        """A repair was tried. Clients are not told: the answer lists the repairs of a picture that leaves."""

    def tell(self, event: dict[str, Any]) -> None:
        """Sends an event. May be called on any thread."""
        self._send(_sent(event | {"created_at": int(time.time())}))

    def _send(self, event: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, so there is no reader
            self._loop.call_soon_threadsafe(self.events.put_nowait, event)


def completed(answer: Mapping[str, Any], kind: Kind) -> Iterator[dict[str, Any]]:
    """One `completed` event per picture of an answer."""
    for index, item in enumerate(answer["data"]):
        yield {
            "type": f"{kind}.completed",
            "index": index,
            **item,
            "created_at": answer["created"],
            "size": answer["size"],
            "quality": "auto",
            "background": answer["background"],
            "output_format": answer["output_format"],
            "usage": answer["usage"],
            "steering": answer["steering"],
        }


_P = TypeVar("_P", bound=EventProgress)


class EventStream(StreamingResponse):
    """A stream that reports its end: `over` is called once, with the error that ended it or None."""

    def __init__(self, events: AsyncIterator[bytes], ended: list[BaseException | None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self.over: Callable[[BaseException | None], None] = lambda error: None
        self._events = events
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if not self._ended:  # the client disconnected before the last event
                self._ended.append(Disconnected("the client disconnected before the answer"))
            self.over(self._ended[0])


async def event_stream(
    request: Request,
    work: Callable[[_P], Awaitable[dict[str, Any]]],
    told: Callable[[BaseException], ApiError],
    kind: Kind,
    new_progress: Callable[[Kind], _P] = EventProgress,  # type: ignore[assignment]
) -> EventStream:
    """The stream of events of `work`, which gets a `new_progress`. `told` converts an unexpected exception to an API
    error.

    Raises the error of `work` if it fails before its first event.
    """
    ended: list[BaseException | None] = []
    events = _events(request, work, told, kind, new_progress, ended)
    first = await anext(events)
    return EventStream(_all(first, events), ended)


async def _all(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for event in rest:
        yield event


async def _events(
    request: Request,
    work: Callable[[_P], Awaitable[dict[str, Any]]],
    told: Callable[[BaseException], ApiError],
    kind: Kind,
    new_progress: Callable[[Kind], _P],
    ended: list[BaseException | None],
) -> AsyncIterator[bytes]:
    progress, begun = new_progress(kind), False
    task = asyncio.ensure_future(work(progress))
    try:
        async with watching(request) as gone:
            async for event in _until_done(progress, task, gone):
                begun = begun or event is not _STILL_HERE
                if begun:
                    yield event
        for done in completed(task.result(), kind):
            yield _sent(done)
        ended.append(None)
    except Exception as error:
        if not begun:
            raise
        ended.append(error)
        yield _sent(told(error).body(), kind="error")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until_done(
    progress: EventProgress, task: asyncio.Future[dict[str, Any]], gone: asyncio.Task[None]
) -> AsyncIterator[bytes]:
    """The events of `task` as they arrive, with a keep-alive comment after a while without events. Raises
    `Disconnected`.
    """
    while not task.done() or not progress.events.empty():
        heard = asyncio.ensure_future(progress.events.get())
        try:
            any_of: set[asyncio.Future[Any]] = {task, gone, heard}
            await asyncio.wait(any_of, timeout=_HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not task.done():
                raise Disconnected("the client disconnected before the answer")
            if heard.done():
                yield heard.result()
            elif not task.done():
                yield _STILL_HERE
        finally:
            heard.cancel()


def _sent(event: Mapping[str, Any], *, kind: str | None = None) -> bytes:
    return f"event: {kind or event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
