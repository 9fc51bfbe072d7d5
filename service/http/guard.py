"""The outermost middleware: checks API keys and scopes, and answers every request.

BentoML adds routes of its own (a web page, `/docs.json`, `/schema.json`) that need no key. The guard answers 404 for
every path that is not on its list. An exception that reached BentoML would keep the client waiting for BentoML's whole
timeout, so the guard turns every exception into an answer.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from typing import Any, Literal, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as ASGIScope

from service.errors import ApiError, Forbidden, Internal, MethodNotAllowed, NotFound, Unauthorized, without_message
from service.hosts import refused_source
from service.http.keys import KeyRing, Scope
from service.logs import REQUEST_ID

__all__ = ["Access", "Guard", "Needed", "error_response"]

# what a method of a path requires: a key with this scope, any valid key (None), or no key
Needed = Scope | Literal["public"] | None
Access = Mapping[str, Mapping[str, Needed]]  # by path and method

log = logging.getLogger("bentoml.palimpsest.http")

_PROBES = ("/livez", "/readyz", "/healthz")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def error_response(error: ApiError) -> JSONResponse:
    """The HTTP response for `error`."""
    return JSONResponse(error.body(), status_code=error.status, headers=error.headers)


class Console(Protocol):
    """An app with paths of its own, which asks its callers for keys itself. Its headers go over the guard's."""

    def serves(self, path: str) -> bool:
        """Whether the path is the app's."""

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Answers a request."""


class Guard:
    """ASGI middleware around BentoML's routes and ours. Health checks need no key; all other paths do, and those of the
    console, which come before BentoML's, are the console's to open.

    The caller is stored as `caller` in the request's state, for the handlers. `hosts` are the names that requests other
    than health checks may be sent to; None: any.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        keys: KeyRing,
        console: Console | None = None,
        *,
        cors: Sequence[str] = (),
        hosts: Collection[str] | None = None,
    ) -> None:
        """`cors`: the origins whose pages may call all but the console from a browser."""
        self.app = app
        self._origins = cors
        self._across = _with_cors(self._answer, cors) if cors else None  # for pages of other origins
        self.hosts = hosts
        self.console = console
        self.access = access
        self.keys = keys

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].lower().startswith(("http://", "https://")):
            scope = _origin_form(scope)
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            across = self._across
            if across is not None and self.console is not None and self.console.serves(scope["path"]):
                across = None
            await (across or self._answer)(scope, receive, send)
        else:  # a websocket: none of ours, and closing before accepting answers 403
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        request_id = uuid.uuid4().hex
        REQUEST_ID.set(request_id)  # the task is the request's
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
            if scope["path"] not in _PROBES and (error := self._source_refusal(scope)) is not None:
                await error_response(error)(scope, receive, send_with_headers)
            elif self.console is not None and self.console.serves(scope["path"]):
                await self.console(scope, receive, send_with_headers)
            elif (error := self._refusal(scope, state)) is not None:
                await error_response(error)(scope, receive, send_with_headers)
            else:
                await self.app(scope, receive, send_with_headers)
        except Exception as error:
            log.error("request %s failed: %s", request_id, without_message(error))
            if not started:
                await error_response(Internal(request_id))(scope, receive, send_with_headers)

    def _source_refusal(self, scope: ASGIScope) -> ApiError | None:
        headers, method = Headers(scope=scope), scope["method"]
        return refused_source(headers, method, self.hosts, origins=self._origins, keys=self.keys.asks)

    def _refusal(self, scope: ASGIScope, state: MutableMapping[str, Any]) -> ApiError | None:
        """The error if the request is rejected, else None. In that case its caller is in `state`."""
        path, method = scope["path"], scope["method"]
        if path in _PROBES:
            return None if method in ("GET", "HEAD") else _wrong_method(method, ("GET", "HEAD"))
        methods = _methods(self.access, path)
        if methods is None or "\n" in path:  # which no route matches
            return NotFound("there is nothing at this path; see `/v1/openapi.json`")
        if methods.get(method) == "public":
            return None
        caller = self.keys.find(Headers(scope=scope).get("authorization", ""))
        if caller is None:
            return Unauthorized()
        if method not in methods:
            return _wrong_method(method, tuple(methods))
        needed = methods[method]
        if needed == "policy:write" and not self.keys.asks:
            return Unauthorized()  # also where everything else is open
        if needed is not None and needed not in caller.scopes:
            return Forbidden(f"this key may not do this: it lacks the scope `{needed}`")
        state["caller"] = caller
        return None


def _with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The app for browsers, too. A preflight needs no key, and cookies are never taken."""
    names = ("Verdict", "Decision", "Policy", "Seed", "How", "Asked-Size", "Safety-Identifier")
    shown = [f"Palimpsest-{name}" for name in names]
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT"),
        allow_headers=("*",),
        expose_headers=(*shown, "X-Request-Id", "Retry-After", "Location"),
    )


def _methods(access: Access, path: str) -> Mapping[str, Needed] | None:
    """What is allowed at `path`. A `{name}` in a path on the list stands for one part that is not empty; `{model}`, at
    the end, for several.
    """
    if path in access:
        return access[path]
    return next((methods for listed, methods in access.items() if _fits(path, listed)), None)


def _fits(path: str, listed: str) -> bool:
    start, model, _ = listed.partition("{model}")
    if model:
        return path.startswith(start) and path != start
    parts, wanted = path.split("/"), listed.split("/")
    return len(parts) == len(wanted) and all(
        part == want or (want.startswith("{") and part != "") for part, want in zip(parts, wanted, strict=True)
    )


def _origin_form(scope: ASGIScope) -> ASGIScope:
    """The scope of a request whose target is a whole URL, as it is sent to proxies (RFC 9112, 3.2.2), with the path."""
    path = scope["path"].partition("://")[2].partition("/")[2]
    raw = scope.get("raw_path", b"").partition(b"://")[2].partition(b"/")[2]
    return {**scope, "path": f"/{path}", "raw_path": b"/" + raw}


def _wrong_method(got: str, allowed: tuple[str, ...]) -> MethodNotAllowed:
    refusal = MethodNotAllowed(f"the method must be {' or '.join(allowed)}, got {got[:16]}")
    refusal.headers = {"Allow": ", ".join(allowed)}
    return refusal
