"""Pictures by URL: in the answers that ask for it, and what is behind such a URL.

Only an answer's pictures get one, so each has passed its last judgement. A link needs no key, because its name is the
secret; pages of other sites may show what is behind it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from service.errors import NotFound, Unavailable
from service.http.context import runtime_of
from service.image_files import Format
from service.metrics.recorder import Recorder
from service.picture_links import Full, NoPicture, PictureLinks

__all__ = ["check_room", "picture", "with_urls"]

PATH = "/v1/pictures"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Robots-Tag": "noindex, noarchive",
}
T = TypeVar("T")


async def picture(request: Request) -> Response:
    """`GET /v1/pictures/{name}`: the picture behind a link."""
    runtime, name = runtime_of(request), request.path_params["name"]
    if runtime.settings.picture_urls != "files":
        raise _nothing()
    try:
        file = await run_in_threadpool(runtime.ready().links.open, name)
    except NoPicture:
        runtime.recorder.linked("gone")
        raise _nothing() from None
    runtime.recorder.linked("opened")
    form = name.rpartition(".")[2]
    shown = {"Content-Disposition": f'inline; filename="picture.{form}"'}
    return Response(file, media_type=f"image/{form}", headers=_HEADERS | shown)


async def check_room(request: Request) -> None:
    """Raises `Unavailable` if there is no room for another link, before anything is drawn for it."""
    runtime = runtime_of(request)
    if runtime.settings.picture_urls == "files":
        await run_in_threadpool(_stored, runtime.recorder, runtime.ready().links.check_room)


async def with_urls(request: Request, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with URLs in the place of its pictures, as the setting `picture_urls` says. Raises `Unavailable`."""
    runtime, form = runtime_of(request), answer["output_format"]
    encoded = [item["b64_json"] for item in answer["data"]]
    if runtime.settings.picture_urls == "data":
        urls = [f"data:image/{form};base64,{each}" for each in encoded]
    else:
        keep = partial(_keep, runtime.ready().links, encoded, form)
        names = await run_in_threadpool(_stored, runtime.recorder, keep)
        runtime.recorder.linked("kept", len(names))
        base = runtime.settings.public_url or str(request.base_url)
        urls = [f"{base.rstrip('/')}{PATH}/{name}" for name in names]
    plain = [{k: v for k, v in item.items() if k != "b64_json"} for item in answer["data"]]
    return answer | {"data": [{"url": url} | rest for url, rest in zip(urls, plain, strict=True)]}


def _keep(links: PictureLinks, encoded: list[str], form: Format) -> list[str]:
    return [links.keep(base64.b64decode(each), form) for each in encoded]


def _stored(recorder: Recorder, work: Callable[[], T]) -> T:
    try:
        return work()
    except Full:
        recorder.linked("full")
        message = "there is no room for another picture behind a URL; ask for `b64_json`, or again later"
        raise Unavailable(message, code="no_room_for_urls", retry_after=60) from None
    except OSError:
        recorder.linked("error")
        raise Unavailable("the picture could not be kept behind a URL; ask for `b64_json`") from None


def _nothing() -> NotFound:
    return NotFound("there is no such picture, or its time is over", code="picture_not_found")
