"""The console's app: its paths, who may open them, and the headers of its answers.

Every request passes one place: the console is on, a change comes from the console's own pages, and the caller has the
scopes that the path requires. The guard before it sees to the host name. A session's cookie opens only these paths,
never `/v1`, so no other site can use it against the API.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from service.console import blocks, now, playground, policies, reviews
from service.console.drafts import Drafts
from service.console.history import History
from service.console.pages import STATIC, render
from service.console.sessions import COOKIE, SESSION_SECONDS, Sessions
from service.errors import ApiError, Forbidden, NotFound, Unauthorized
from service.http.app import Endpoint, as_told, counted
from service.http.context import runtime_of
from service.http.endpoints.reviews import review_picture
from service.http.guard import error_response
from service.http.keys import Caller, KeyRing, Scope
from service.http.uploads import read_form
from service.settings import Settings

__all__ = ["HEADERS", "Console"]

log = logging.getLogger("bentoml.palimpsest.console")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    # with `no-referrer`, as on every other path, browsers would send `Origin: null` from the sign-in form
    "Referrer-Policy": "same-origin",
}
_SIGN_IN = "/console/sign-in"
_LARGEST_FORM = 1 << 20


@dataclass(frozen=True, slots=True)
class Page:
    """One method of one path. `title`: it answers a whole page, in the navigation unless the path has an id; None: it
    answers a part of a page, or does something.

    `scope` is required beside `console`. `counted`: the endpoint of the API as which its requests are counted.
    """

    path: str
    method: str
    handler: Callable[[Request], Awaitable[Response]]
    scope: Scope | None = None
    title: str | None = None
    counted: str | None = None


PAGES: tuple[Page, ...] = (
    Page("/", "GET", playground.page, "generate", "Playground"),
    Page("/console/draw", "POST", playground.draw, "generate", counted="generations"),
    Page("/console/plain", "POST", playground.plain, "generate"),
    Page("/console/policies", "GET", policies.page, "policy:read", "Policies"),
    Page("/console/draft", "GET", policies.draft_page, "policy:read", "Draft"),
    Page("/console/draft/check", "POST", policies.check, "policy:read"),
    Page("/console/draft/fields", "POST", policies.fields, "policy:read"),
    Page("/console/draft/explain", "POST", policies.explain_prompts, "policy:read"),
    Page("/console/draft/diff", "POST", policies.differences, "policy:read"),
    Page("/console/draft/replay", "POST", policies.replay_prompts, "policy:read"),
    Page("/console/draft/export", "POST", policies.export, "policy:read"),
    Page("/console/blocks", "GET", blocks.page, None, "Block map"),
    Page("/console/reviews", "GET", reviews.page, "review", "Review"),
    Page("/console/reviews/{id}", "GET", reviews.case_page, "review", "Held case"),
    Page("/console/reviews/{id}", "POST", reviews.decide, "review", "Review"),
    Page("/console/reviews/{id}/pictures/{k}", "GET", review_picture, "review"),
    Page("/console/now", "GET", now.page, "metrics", "Now"),
)


class Console:
    """The console of one worker. Set `app.state.runtime` before the first request; `watch` starts the history of
    metrics.
    """

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        self.history = History()
        self.drafts = Drafts()
        self._settings = settings
        self._keys = keys
        routes = [self._route(p.path, self._answered(p), p.method, whole=bool(p.title)) for p in PAGES]
        self.app = Starlette(
            routes=[
                *routes,
                self._route(_SIGN_IN, self._sign_in, "GET", "POST"),
                self._route("/console/sign-out", self._sign_out, "POST"),
                self._route("/console/static/{name}", _static, "GET"),
            ],
            exception_handlers={404: _nothing, 405: _nothing},
        )

    @property
    def on(self) -> bool:
        """Whether the console is served, by the setting `console`."""
        if self._settings.console == "auto":
            return self._settings.loopback or self._keys.offers("console")
        return self._settings.console == "on"

    def watch(self) -> None:
        """Starts to keep the last hour of the service's metrics."""
        if self._settings.console != "off":
            self.history.start()

    def serves(self, path: str) -> bool:
        """Whether the path is the console's."""
        return (path == "/" or path.startswith("/console/")) and self.on

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Answers a request. Its state holds the request id."""
        scope = {**scope, "state": {**scope.get("state", {}), "console": self}}
        await self.app(scope, receive, send)

    def pages(self, caller: Caller) -> list[Page]:
        """The pages that a caller may open, for the navigation."""
        return [p for p in PAGES if p.title and "{" not in p.path and (p.scope is None or p.scope in caller.scopes)]

    def _answered(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """The page's handler for callers that may open it."""
        handler = page.handler
        if page.counted:
            handler = counted(Endpoint(page.path, page.method, page.counted, page.handler, limited=True))

        async def answered(request: Request) -> Response:
            caller = self._caller(request)
            if caller is None and page.title:
                return RedirectResponse(_SIGN_IN, 303)
            if caller is None:
                raise Unauthorized()
            if page.scope is not None and page.scope not in caller.scopes:
                raise Forbidden(f"this key may not do this: it lacks the scope `{page.scope}`")
            runtime = runtime_of(request)
            request.state.caller, request.state.nav, request.state.page = caller, self.pages(caller), page
            if page.method == "POST" and not page.counted:
                await runtime.limiter.admit(caller)
            return await handler(request)

        return answered

    def _route(
        self, path: str, handler: Callable[[Request], Awaitable[Response]], *methods: str, whole: bool = True
    ) -> Route:
        """The handler at a path, behind the checks that need no caller. An error is a page if a `whole` page was asked
        for.
        """

        async def opened(request: Request) -> Response:
            try:
                self._check_source(request)
                response = await handler(request)
            except Exception as error:
                told = as_told(error, request.state.request_id)
                response = _error_page(told) if whole else error_response(told)
            response.headers.update(HEADERS)
            log.info("%s %s %d request=%s", request.method, path, response.status_code, request.state.request_id)
            return response

        return Route(path, opened, methods=list(methods))

    def _check_source(self, request: Request) -> None:
        """Raises `Forbidden` for changes that another site asks for. The guard has seen to the host name."""
        host = request.headers.get("host", "")
        if request.method == "POST" and urlsplit(request.headers.get("origin", "")).netloc != host:
            raise Forbidden("a change must come from the console's own pages")

    def _caller(self, request: Request) -> Caller | None:
        """Who asks. Without keys: anybody on a loopback address."""
        if not self._keys.asks:
            caller = self._keys.find("")
            return caller if caller is not None and "console" in caller.scopes else None
        return self._sessions(request).caller(request.cookies.get(COOKIE, ""))

    def _sessions(self, request: Request) -> Sessions:
        return Sessions(self._keys, runtime_of(request).keys.session)

    async def _sign_in(self, request: Request) -> Response:
        if not self._keys.asks and self._settings.loopback:
            return RedirectResponse("/", 303)
        if request.method == "GET":
            return HTMLResponse(render("sign_in", wrong=False))
        form = await read_form(request, _LARGEST_FORM, seconds=self._settings.deadline_seconds)
        value = self._sessions(request).begin(form.texts.get("key", ""))
        if value is None:
            return HTMLResponse(render("sign_in", wrong=True), 403)
        response = RedirectResponse("/", 303)
        secure = request.url.scheme == "https"
        response.set_cookie(
            COOKIE, value, max_age=SESSION_SECONDS, path="/", secure=secure, httponly=True, samesite="strict"
        )
        return response

    async def _sign_out(self, request: Request) -> Response:
        response = RedirectResponse(_SIGN_IN, 303)
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return response


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in {file.name for file in STATIC.iterdir() if file.is_file()}:
        raise NotFound("there is nothing at this path")
    return FileResponse(STATIC / name)


async def _nothing(request: Request, error: Exception) -> Response:
    response = _error_page(NotFound("there is nothing at this path"))
    response.headers.update(HEADERS)
    return response


def _error_page(error: ApiError) -> HTMLResponse:
    return HTMLResponse(render("error", error=error), error.status)
