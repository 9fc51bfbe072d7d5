"""The HTTP protocol of a worker: uvicorn's on h11, with a time limit for heads, and no head that can be read two ways.

A proxy in front may take another one of two lengths, of two content types or of two keys, and then both disagree about
what was asked. A connection that sends nothing, or a head byte by byte, would be kept for ever, and enough of them take
every file descriptor. Both happen before a request exists, so no middleware can see to them.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any, ClassVar

import h11
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import ApiError, BadRequest, HeadersTooLarge

__all__ = ["MAX_HEAD", "MAX_HEADERS", "StrictProtocol", "fault_of", "use_strict_protocol"]

MAX_HEAD = 32 << 10
MAX_HEADERS = 100
_END = b"\r\n\r\n"
_ONCE = frozenset(
    b"host content-length content-type content-encoding transfer-encoding authorization origin sec-fetch-site".split()
)


def use_strict_protocol() -> None:
    """Makes this the protocol of uvicorn servers in this process that name none, as BentoML's do."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{StrictProtocol.__name__}"


def fault_of(head: bytes) -> ApiError | None:
    """What is wrong with the head of a request, which need not be complete yet; `head` may go on after its end."""
    end = head.find(_END)
    if (len(head) if end < 0 else end) > MAX_HEAD:
        return HeadersTooLarge(f"the head of a request must be at most {MAX_HEAD} bytes")
    lines = (head if end < 0 else head[:end]).split(b"\n")
    if any(not line.endswith(b"\r") for line in lines[:-1]):
        return BadRequest("lines must end with CR LF", code="invalid_http")
    if end < 0:
        return None
    headers = lines[1:]
    if len(headers) > MAX_HEADERS:
        return HeadersTooLarge(f"a request must have at most {MAX_HEADERS} headers, got {len(headers)}")
    if any(line.startswith((b" ", b"\t")) for line in headers):
        return BadRequest("a header must be on one line", code="invalid_http")
    names = Counter(line.partition(b":")[0].strip().lower() for line in headers)
    if twice := next((name for name in sorted(_ONCE) if names[name] > 1), None):
        return BadRequest(f"the header `{twice.decode()}` must be given once", code="invalid_http")
    if b"content-length" in names and b"transfer-encoding" in names:
        return BadRequest("`Content-Length` and `Transfer-Encoding` exclude each other", code="invalid_http")
    return None


class _Connection(h11.Connection):
    """As h11's, but heads with a fault are refused; `fault` is that of the last one."""

    fault: ApiError | None = None

    def next_event(self) -> Any:
        if self.their_state is h11.IDLE:
            self.fault = fault_of(self.trailing_data[0])
            if self.fault is not None:
                raise h11.RemoteProtocolError(str(self.fault), error_status_hint=self.fault.status)
        return super().next_event()


class StrictProtocol(H11Protocol):
    """uvicorn's protocol. A connection on which no request is answered must send the whole head of the next one within
    `head_seconds`.
    """

    head_seconds: ClassVar[float] = 10.0
    conn: _Connection

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = _Connection(h11.SERVER, max_incomplete_event_size=2 * MAX_HEAD)
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def send_400_response(self, msg: str) -> None:
        fault = self.conn.fault or BadRequest("this is not a valid HTTP request", code="invalid_http")
        body = json.dumps(fault.body()).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ]
        for event in (h11.Response(status_code=fault.status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        """Runs the clock as long as no request is answered. More bytes of the same head do not set it back."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            self._stop_watching()
        elif self._limit is None:
            self._limit = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_watching(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
