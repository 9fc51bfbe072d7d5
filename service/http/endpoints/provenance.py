"""`POST /v1/content_provenance_checks`: which marks an uploaded picture carries, in OpenAI's shape.

The file is parsed as any upload is, and under the same limits, before its credentials are read.
"""

from __future__ import annotations

import time

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.http.body import unless_gone
from service.http.context import runtime_of
from service.http.requests import ProvenanceRequest, parse_fields
from service.http.uploads import form_of, picture_of

__all__ = ["check_provenance"]


async def check_provenance(request: Request) -> Response:
    """`POST /v1/content_provenance_checks`."""
    form = await form_of(request, ("file",))
    parse_fields(form.texts, ProvenanceRequest)
    marker = runtime_of(request).ready().marker
    upload = await picture_of(request, form, "file")
    results = await unless_gone(request, run_in_threadpool(marker.check, upload))
    return JSONResponse({"object": "content_provenance_check", "created_at": int(time.time()), "results": results})
