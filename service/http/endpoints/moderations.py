"""`POST /v1/moderations`: the policies' decision on texts, in the shape of OpenAI's moderation.

A text is judged as a prompt for a picture of the model that is named, or of the first one, because that is what the
policies are about: an insult that nobody asks to write on a sign is not flagged where the policies do not mind it. As
everywhere, no detector's score leaves: a category's score is 1 where a rule of it acts, and 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.http.body import read_json_bytes, unless_gone
from service.http.context import caller_of, runtime_of
from service.http.requests import EvaluateRequest, ModerationRequest, parse_body

__all__ = ["OPENAI", "moderate", "result"]

OPENAI = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
    *("self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic"),
)
# what policies call a category -> OpenAI's; one that is not here keeps its own name
_CALLED: Mapping[str, tuple[str, ...]] = {
    "profanity": ("harassment",),
    "threat": ("harassment/threatening", "violence"),
    "minors": ("sexual", "sexual/minors"),
    "weapons": ("violence",),
}


async def moderate(request: Request) -> Response:
    """`POST /v1/moderations`."""
    runtime = runtime_of(request)
    settings = runtime.settings
    raw = await read_json_bytes(request, settings.max_body, seconds=settings.deadline_seconds)
    parsed, ignored = parse_body(raw, ModerationRequest)
    model = next((parsed.model for limits in runtime.limits() if parsed.model in limits.models), None)
    if model != parsed.model:
        ignored = (*ignored, "model")
    texts = parsed.within(runtime.ready(model).limits)
    request_id, tenant = request.state.request_id, caller_of(request).name

    async def judged() -> list[dict[str, Any]]:
        asked = [EvaluateRequest(prompt=text, model=model) for text in texts]
        return [await runtime.evaluate(each, request_id, tenant=tenant) for each in asked]

    decided = await unless_gone(request, judged())
    results = [result(each["verdict"], (rule["category"] for rule in each["rules"])) for each in decided]
    told = {"id": f"modr-{request_id}", "model": "palimpsest", "results": results, "ignored": list(ignored)}
    return JSONResponse(told)


def result(verdict: str, categories: Iterable[str]) -> dict[str, Any]:
    """One result. It is flagged if the policies would not just allow the text: a rule may do so without disclosing
    its category.
    """
    found = {name for category in categories for name in _CALLED.get(category, (category,))}
    names = (*OPENAI, *sorted(found - set(OPENAI)))
    return {
        "flagged": verdict != "allow",
        "verdict": verdict,
        "categories": {name: name in found for name in names},
        "category_scores": {name: float(name in found) for name in names},
        "category_applied_input_types": {name: ["text"] if name in found else [] for name in names},
    }
