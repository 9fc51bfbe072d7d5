"""What the handlers of all pages share: the form of a request, its model, and the answer as a page or a part of one."""

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

    from service.worker.runtime import Ready

__all__ = ["part", "ready_of", "texts_of", "whole"]

_LARGEST_FORM = 1 << 20


async def texts_of(request: Request) -> Mapping[str, str]:
    """The texts of a form, in which line ends are those that the person saw. Raises an `ApiError`."""
    form = await read_form(request, _LARGEST_FORM, seconds=runtime_of(request).settings.deadline_seconds)
    return {name: text.replace("\r\n", "\n") for name, text in form.texts.items()}


def ready_of(request: Request, texts: Mapping[str, str] | None = None) -> Ready:
    """What requests use for the model that a form, or else the query, names as `model`; by default the first. Raises
    `NotFound`.
    """
    named = (texts or {}).get("model") or request.query_params.get("model")
    return runtime_of(request).ready(named or None)


def whole(request: Request, template: str, code: int = 200, **values: Any) -> HTMLResponse:
    """A whole page, with the navigation."""
    facts = {
        "nav": request.state.nav,
        "here": request.state.page.path.partition("/{")[0],
        "title": request.state.page.title,
        "caller": caller_of(request).name,
        **_model(request),
    }
    return HTMLResponse(render(template, **(facts | values)), code)


def _model(request: Request) -> dict[str, Any]:
    """The chosen model, and all of them if there are several."""
    runtime = runtime_of(request)
    if not runtime.settings.models:
        return {"model": PurePath(runtime.settings.model).name, "models": []}
    names = [each.shown for each in runtime.models]
    return {"model": ready_of(request).model.shown, "models": names if len(names) > 1 else []}


def part(template: str, **values: Any) -> HTMLResponse:
    """A part of a page."""
    return HTMLResponse(render(template, **values))
