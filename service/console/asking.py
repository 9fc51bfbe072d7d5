"""What the handlers of all pages share: the caller's request, its form, and the answer as a page or a part of one."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from service.console.pages import render
from service.http.keys import Caller
from service.http.uploads import read_form

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.worker.runtime import Runtime

__all__ = ["caller_of", "part", "runtime_of", "texts_of", "whole"]

_LARGEST_FORM = 1 << 20


def runtime_of(request: Request) -> Runtime:
    """The worker's runtime."""
    runtime: Runtime = request.state.runtime
    return runtime


def caller_of(request: Request) -> Caller:
    """Who asks."""
    caller: Caller = request.state.caller
    return caller


async def texts_of(request: Request) -> Mapping[str, str]:
    """The texts of a form, in which line ends are those that the person saw. Raises an `ApiError`."""
    form = await read_form(request, _LARGEST_FORM, seconds=runtime_of(request).settings.deadline_seconds)
    return {name: text.replace("\r\n", "\n") for name, text in form.texts.items()}


def whole(request: Request, template: str, **values: Any) -> HTMLResponse:
    """A whole page, with the navigation."""
    facts = {
        "nav": request.state.nav,
        "here": request.state.page.path,
        "title": request.state.page.title,
        "caller": caller_of(request).name,
        "model": PurePath(runtime_of(request).settings.model).name,
    }
    return HTMLResponse(render(template, **facts, **values))


def part(template: str, **values: Any) -> HTMLResponse:
    """A part of a page."""
    return HTMLResponse(render(template, **values))
