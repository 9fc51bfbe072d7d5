"""The pages of policies: what each worker has in use, and a draft that is checked, tried, compared and exported.

Nothing here changes what is in use. The functions are those of `palimpsest policy check | explain | diff | replay`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from policies import VERDICTS, Snapshot, decide, diff, json_schema, narrate, parse_requests, replay
from policies import Request as Asked
from service.console.asking import part, ready_of, texts_of, whole
from service.console.completion import suggestions
from service.console.drafts import Checked, policies_in_use
from service.console.playground import marked
from service.errors import BadRequest, NotFound
from service.http.context import caller_of, runtime_of
from service.metrics.recorder import values_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.worker.runtime import Ready

__all__ = ["check", "differences", "draft_page", "explain_prompts", "export", "fields", "page", "replay_prompts"]

_MOST_PROMPTS = 2000
_SHOWN = 50


async def page(request: Request) -> Response:
    """`GET /console/policies`."""
    runtime = runtime_of(request)
    in_use, model = await run_in_threadpool(runtime.policies), ready_of(request).model.shown
    in_use["workers"] = [worker | worker.get("models", {}).get(model, {}) for worker in in_use["workers"]]
    figures = await run_in_threadpool(values_of, ("decisions_total", "shadow_differences_total"))
    shadow = {
        (rule, verdict): int(n) for (rule, verdict, mode), n in figures["decisions_total"].items() if mode == "shadow"
    }
    differences = {pair: int(n) for pair, n in figures["shadow_differences_total"].items() if n}
    return whole(
        request, "policies", in_use=in_use, shadow=shadow, differences=differences, files=list(_texts(request))
    )


async def draft_page(request: Request) -> Response:
    """`GET /console/draft`: the editor, with a file in use or a new one."""
    texts = _texts(request)
    name = request.query_params.get("file", next(iter(texts)))
    if name not in texts:
        raise NotFound(f"no policy file `{name[:64]}` is in use")
    return whole(request, "draft", files=list(texts), file=name, text=texts[name])


async def check(request: Request) -> Response:
    """`POST /console/draft/check`."""
    texts = await texts_of(request)
    found = await _checked(request, texts)
    return part("checked", found=found, file=texts["file"])


async def fields(request: Request) -> Response:
    """`POST /console/draft/fields`: what may be written where the cursor stands."""
    texts = await texts_of(request)
    try:
        line, column = int(texts.get("line", "1")), int(texts.get("column", "1"))
    except ValueError:
        raise BadRequest("`line` and `column` must be numbers", param="line") from None
    found = await run_in_threadpool(suggestions, json_schema(), texts.get("text", ""), line, column)
    return part("fields", found=found)


async def explain_prompts(request: Request) -> Response:
    """`POST /console/draft/explain`: the decisions of a draft on the prompts of a form, one a line."""
    texts = await texts_of(request)
    ready = ready_of(request, texts)
    snapshot = await _snapshot(request, texts)
    if isinstance(snapshot, Checked):
        return part("checked", found=snapshot, file=texts["file"])
    asked = _asked(request, texts)[:_SHOWN]

    def explained() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        for each in asked:
            decision = decide(each, ready.upload.loader.sense(each), snapshot)
            lines = list(narrate(each, decision, snapshot))[1:]
            told.append({"verdict": decision.verdict, "pieces": marked(each.prompt, decision.reasons), "lines": lines})
        return told

    return part("tried", tried=await run_in_threadpool(explained))


async def differences(request: Request) -> Response:
    """`POST /console/draft/diff`: what a draft means, compared with what is in use."""
    texts = await texts_of(request)
    snapshot = await _snapshot(request, texts)
    if isinstance(snapshot, Checked):
        return part("checked", found=snapshot, file=texts["file"])
    live = ready_of(request, texts).store.snapshot
    changes = await run_in_threadpool(diff, live, snapshot)
    return part("diff", changes=changes, old=live.digest, new=snapshot.digest)


async def replay_prompts(request: Request) -> Response:
    """`POST /console/draft/replay`: the decisions of the policies in use and of a draft on the same prompts."""
    texts = await texts_of(request)
    ready = ready_of(request, texts)
    snapshot = await _snapshot(request, texts)
    if isinstance(snapshot, Checked):
        return part("checked", found=snapshot, file=texts["file"])
    live = replace(ready.store.snapshot, draw_canaries=False)
    result = await run_in_threadpool(replay, _asked(request, texts), live, snapshot, ready.upload.loader.sense)
    changed = [c.to_dict() for c in sorted(result.changed, key=lambda c: not c.milder)]
    return part("replayed", result=result, changed=changed[:_SHOWN], verdicts=VERDICTS)


async def export(request: Request) -> Response:
    """`POST /console/draft/export`: the draft as a file, for `palimpsest policy sign` and `push`."""
    texts = await texts_of(request)
    name = _known(request, texts).rpartition("/")[2]
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(texts.get("text", ""), media_type="application/yaml", headers=headers)


def _texts(request: Request, form: Mapping[str, str] | None = None) -> dict[str, str]:
    return policies_in_use(ready_of(request, form))


def _known(request: Request, texts: Mapping[str, str]) -> str:
    """The name of the file that a form changes. Raises `NotFound`."""
    name = texts.get("file", "")
    if name not in _texts(request, texts):
        raise NotFound(f"no policy file `{name[:64]}` is in use")
    return name


async def _checked(request: Request, texts: Mapping[str, str]) -> Checked:
    ready: Ready = ready_of(request, texts)
    name = _known(request, texts)
    drafts = request.state.console.drafts
    found: Checked = await run_in_threadpool(drafts.checked, ready, name, texts.get("text", ""))
    return found


async def _snapshot(request: Request, texts: Mapping[str, str]) -> Snapshot | Checked:
    """The snapshot of a form's draft, in which canaries count as enforced; or what is wrong with it."""
    found = await _checked(request, texts)
    return found if found.snapshot is None else replace(found.snapshot, draw_canaries=False)


def _asked(request: Request, texts: Mapping[str, str]) -> list[Asked]:
    """The prompts of a form. Raises `BadRequest`."""
    lines = texts.get("prompts", "").splitlines()
    if len(lines) > _MOST_PROMPTS:
        raise BadRequest(f"`prompts` must have {_MOST_PROMPTS} lines at most, got {len(lines)}", param="prompts")
    try:
        found = list(parse_requests(lines, tenant=caller_of(request).name, now=datetime.now(UTC)))
    except ValueError as error:
        raise BadRequest(str(error), param="prompts") from None
    if not found:
        raise BadRequest("`prompts` must have a prompt, got none", param="prompts")
    return found
