"""What the handlers of all pages share: the form of a request, and the answer as a page or a part of one."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from service.console.pages import render
from service.http.context import caller_of, runtime_of
from service.http.uploads import read_form

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["part", "texts_of", "whole"]

_LARGEST_FORM = 1 << 20


async def texts_of(request: Request) -> Mapping[str, str]:
    """The texts of a form, in which line ends are those that the person saw. Raises an `ApiError`."""
    form = await read_form(request, _LARGEST_FORM, seconds=runtime_of(request).settings.deadline_seconds)
    return {name: text.replace("\r\n", "\n") for name, text in form.texts.items()}


def whole(request: Request, template: str, code: int = 200, **values: Any) -> HTMLResponse:
    """A whole page, with the navigation."""
    facts = {
        "nav": request.state.nav,
        "here": request.state.page.path.partition("/{")[0],
        "title": request.state.page.title,
        "caller": caller_of(request).name,
        "model": PurePath(runtime_of(request).settings.model).name,
    }
    return HTMLResponse(render(template, **(facts | values)), code)


def part(template: str, **values: Any) -> HTMLResponse:
    """A part of a page."""
    return HTMLResponse(render(template, **values))
