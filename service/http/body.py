"""Reads request bodies and detects clients that disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from service.errors import BadRequest, BodyTooLarge, DeadlineExceeded, Disconnected, WrongContentType

__all__ = ["read_bytes", "read_json_bytes", "unless_gone", "watching"]

_T = TypeVar("_T")


async def read_json_bytes(request: Request, limit: int, *, seconds: float) -> bytes:
    """The body of a JSON request. Raises as `read_bytes` does, and `WrongContentType`."""
    kind, _, said = request.headers.get("content-type", "").lower().partition(";")
    parameters = [part.partition("=") for part in said.split(";")]
    charsets = {value.strip(' "') for name, _, value in parameters if name.strip() == "charset"}
    if kind.strip() != "application/json" or not charsets <= {"utf-8", "utf8"}:
        raise WrongContentType("send JSON in UTF-8 with `Content-Type: application/json`")
    return await read_bytes(request, limit, seconds=seconds)


async def read_bytes(request: Request, limit: int, *, seconds: float) -> bytes:
    """The body of a request. Bytes are counted while they arrive, because a chunked upload declares no length.

    Raises `BodyTooLarge`, and `DeadlineExceeded` if the body does not arrive within `seconds`.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise WrongContentType("send an uncompressed body without `Content-Encoding`")
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit() and len(declared) < 20):
        raise BadRequest("`Content-Length` must be a number")
    if int(declared) > limit:
        raise BodyTooLarge(f"the body must be at most {limit} bytes, got {declared}")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise BodyTooLarge(f"the body must be at most {limit} bytes")
    except TimeoutError:
        raise DeadlineExceeded(f"the request body did not arrive within {seconds:g} s") from None
    except ClientDisconnect:
        raise Disconnected("the client disconnected while it sent its request") from None
    return bytes(body)


async def unless_gone(request: Request, work: Awaitable[_T]) -> _T:
    """The result of `work`. If the client disconnects first, `work` is cancelled and `Disconnected` is raised. The body
    must have been read.
    """
    async with watching(request) as gone:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Disconnected("the client disconnected before the answer")
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def watching(request: Request) -> AsyncIterator[asyncio.Task[None]]:
    """A task that ends when the client disconnects. The body must have been read."""

    async def until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.create_task(until_gone())
    try:
        yield gone
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
