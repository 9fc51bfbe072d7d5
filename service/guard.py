"""The outermost layer of ours: who may call what, and an answer whatever happens.

BentoML brings routes of its own (a web page, `/docs.json`, `/schema.json`) and lets everybody use them; here everything
that is not on the list does not exist. An exception that left this layer without an answer would keep the client
waiting for BentoML's whole timeout, so none does.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import uuid
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ApiError, Internal, MethodNotAllowed, NotFound, Unauthorized, without_message

__all__ = ["Guard", "KeyRing", "error_response"]

log = logging.getLogger("bentoml.palimpsest.http")

_PROBES = ("/livez", "/readyz", "/healthz")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that open the service, as digests; empty: no key is asked for."""

    digests: tuple[bytes, ...]

    @classmethod
    def of(cls, keys: Sequence[str]) -> KeyRing:
        return cls(tuple(hashlib.sha256(key.encode()).digest() for key in keys))

    def opens(self, authorization: str) -> bool:
        """Whether an `Authorization` header holds one of the keys; takes as long for every wrong key."""
        if not self.digests:
            return True
        scheme, _, key = authorization.partition(" ")
        got = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        found = [hmac.compare_digest(got, digest) for digest in self.digests]
        return scheme.lower() == "bearer" and any(found)


def error_response(error: ApiError) -> JSONResponse:
    """The answer that tells `error`."""
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


class Guard:
    """ASGI middleware around BentoML's routes and ours. `routes` maps a path to its methods."""

    def __init__(self, app: ASGIApp, routes: Mapping[str, tuple[str, ...]], keys: KeyRing) -> None:
        self.app = app
        self.routes = {**dict.fromkeys((*_PROBES, "/metrics"), ("GET", "HEAD")), **routes}
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # a websocket: none of ours, and closing before accepting answers 403
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = uuid.uuid4().hex
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, "X-Request-Id": request_id}.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if (error := self._refusal(scope)) is not None:
                await error_response(error)(scope, receive, send_with_headers)
            else:
                await self.app(scope, receive, send_with_headers)
        except Exception as error:
            log.error("request %s failed: %s", request_id, without_message(error))
            if not started:
                await error_response(Internal(request_id))(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> ApiError | None:
        path, method = scope["path"], scope["method"]
        if path not in self.routes:
            return NotFound("there is nothing at this path; see `/v1/models`, `/v1/policies`, `/v1/images/generations`")
        if path not in _PROBES and not self.keys.opens(Headers(scope=scope).get("authorization", "")):
            return Unauthorized()
        if method not in self.routes[path]:
            refusal = MethodNotAllowed(f"the method must be {' or '.join(self.routes[path])}, got {method[:16]}")
            refusal.headers = {"Allow": ", ".join(self.routes[path])}
            return refusal
        return None
