"""Makes the answer, the refusal and the audit record from the outcome of a request.

Answers never contain scores, matched words or reasons. The audit record names rules, predicates and lists, but contains
no text of the request and no word that was found in it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from policies import Decision, Disclosure, StrikeKind
from service.audit import AuditKeys
from service.engine.outcome import Finished, Outcome, Picture
from service.errors import Refused
from service.order import Given, Order
from service.reviews.cases import Content

__all__ = ["answer_headers", "audit_record", "evaluation_answer", "generation_answer", "held_content", "refusal"]
__all__ += ["unanswered_record"]

# tokens are not counted; clients that sum them up find numbers
_USAGE: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
_USAGE |= {"input_tokens_details": {"image_tokens": 0, "text_tokens": 0}}


def generation_answer(finished: Finished, order: Order, ignored: Sequence[str], decision_id: str) -> dict[str, Any]:
    """The body of a 200 answer: OpenAI's shape plus `steering`."""
    outcome = finished.outcome
    return {
        "created": int(time.time()),
        "data": [_item(file, picture) for file, picture in zip(finished.files, outcome.pictures, strict=True)],
        "size": order.size,
        "output_format": order.output_format,
        "background": "opaque",
        "usage": _USAGE,
        "steering": {
            "verdict": outcome.verdict,
            **_how(outcome.most_changed),
            "rules": _disclosed(d for p in outcome.pictures for d in p.decision.disclosures),
            "rungs": list(dict.fromkeys(r for p in outcome.pictures for r in p.rungs)),
            "per_image": [_per_image(p, order.seed + k) for k, p in enumerate(outcome.pictures)],
            "decision_id": decision_id,
            "policy": outcome.decision.policy,
            "seed": order.seed,
            "safety_identifier": order.person or None,
            "lora": asdict(order.lora) if order.lora else None,
            "shape": _shape(outcome.pictures[0]),
            "asked_size": order.asked_size,
            "ignored": list(ignored),
        },
    }


def _item(file: bytes, picture: Picture) -> dict[str, Any]:
    item = {"b64_json": base64.b64encode(file).decode()}
    return item if picture.revised is None else item | {"revised_prompt": picture.revised}


def evaluation_answer(decision: Decision, decision_id: str) -> dict[str, Any]:
    """The body of a `POST /v1/policies/evaluate` answer. It discloses as much as a generation answer, without a
    picture.
    """
    return {
        "object": "policy.evaluation",
        "decision_id": decision_id,
        "verdict": decision.verdict,
        "rules": _disclosed(decision.disclosures),
        "messages": list(decision.messages),
        "policy": decision.policy,
        "reads": sorted(decision.reads),
    }


def _without_file(item: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in item.items() if k != "b64_json"}


def held_content(answers: Sequence[tuple[Finished, dict[str, Any]]], order: Order, decision_id: str) -> Content:
    """What is kept of a held request: the pictures as drawn and, if any, repaired, each with the answer that releases
    them.
    """
    (drawn, answer), *more = answers
    grounds = _grounds(drawn.outcome.decision)
    about = {
        "prompt": order.prompt,
        "negative_prompt": order.negative_prompt or None,
        "model": order.model,
        "given": order.given.kind if order.given else None,
        "decision_id": decision_id,
        "grounds": grounds | {"stage": drawn.outcome.refused},
    }
    bodies = [{**body, "data": [_without_file(item) for item in body["data"]]} for _, body in ((drawn, answer), *more)]
    repaired = more[0][0].files if more else ()
    return Content(about, bodies[0], drawn.files, bodies[1] if more else None, repaired)


def refusal(outcome: Outcome, order: Order, decision_id: str) -> Refused:
    """The error of a refusal, with as much detail as the rules disclose."""
    shown = outcome.decision.disclosures
    repair = order.given is not None and order.given.kind == "repair"
    of_image = outcome.refused == "upload" or (repair and outcome.refused == "picture")
    error = Refused(
        param="image" if of_image else "prompt",
        decision_id=decision_id,
        policy=outcome.decision.policy,
        stage=outcome.refused or "prompt",
        categories=tuple(dict.fromkeys(d.category for d in shown)),
        reasons=tuple(dict.fromkeys(d.why for d in shown if d.why)),
        messages=outcome.decision.messages,
        seed=order.seed,
        unread=any(e.on_error == "block" for e in outcome.decision.errors),
    )
    error.headers = answer_headers(
        {
            "verdict": outcome.verdict,
            "decision_id": decision_id,
            "policy": outcome.decision.policy,
            "seed": order.seed,
            "safety_identifier": order.person or None,
        }
    )
    return error


def answer_headers(steering: Mapping[str, Any]) -> dict[str, str]:
    """The headers that say what `steering` says of a request. A refusal has no `how`, since it has no picture."""
    told = {
        "Palimpsest-Verdict": steering["verdict"],
        "Palimpsest-Decision": steering["decision_id"],
        "Palimpsest-Policy": steering["policy"],
        "Palimpsest-Seed": str(steering["seed"]),
    }
    if steering.get("asked_size"):
        told["Palimpsest-Asked-Size"] = steering["asked_size"]
    if steering.get("safety_identifier"):
        told["Palimpsest-Safety-Identifier"] = steering["safety_identifier"]
    if "how" in steering:
        told["Palimpsest-How"] = f"{steering['how']}; sites={steering['sites']}"
    return told


def audit_record(
    outcome: Outcome, order: Order, keys: AuditKeys, *, seconds: float, strike: StrikeKind | None = None
) -> dict[str, Any]:
    """The audit record of an outcome. The prompt appears as a keyed hash only. `strike`: it was noted as one."""
    decision = outcome.decision
    return {
        "event": "decision",
        **_asked(order, keys),
        "verdict": outcome.verdict,
        "refused": outcome.refused,
        **_grounds(decision),
        "shadow": {"verdict": decision.shadow.verdict, "rules": list(decision.shadow.rules)}
        if decision.shadow
        else None,
        "pictures": [_audited(p) for p in outcome.pictures],
        "strike": strike,
        "seconds": round(seconds, 3),
    }


def unanswered_record(
    error: BaseException, order: Order, keys: AuditKeys, policy: str, seconds: float
) -> dict[str, Any]:
    """The audit record of a request that ended before its last judgement. No picture of it was returned."""
    return {
        "event": "unanswered",
        "outcome": "disconnect" if isinstance(error, asyncio.CancelledError) else getattr(error, "code", "error"),
        **_asked(order, keys),
        "policy": policy,
        "seconds": round(seconds, 3),
    }


def _asked(order: Order, keys: AuditKeys) -> dict[str, Any]:
    return {
        "model": order.model,
        "prompt": keys.hashed(order.prompt),
        "negative_prompt": keys.hashed(order.negative_prompt) if order.negative_prompt else None,
        "characters": len(order.prompt),
        "safety_identifier": order.person or None,
        **({} if order.given is None else {"given": _given(order.given, keys)}),
        "asked": {
            "n": order.n,
            "size": order.asked_size or order.size,
            "seed": order.seed,
            "num_inference_steps": order.steps,
            "guidance_scale": order.guidance,
            "lora": asdict(order.lora) if order.lora else None,
        },
    }


def _given(given: Given, keys: AuditKeys) -> dict[str, Any]:
    """A given picture in the audit record: a keyed hash of its pixels stands for it."""
    digest = hashlib.sha256(given.image.tobytes()).hexdigest()
    width, height = given.image.size
    return {
        "kind": given.kind,
        "image": keys.hashed(f"{width}x{height}:{digest}"),
        "size": f"{width}x{height}",
        "masked": given.mask is not None,
    }


def _grounds(decision: Decision) -> dict[str, Any]:
    reasons = [
        {"rule": r.rule, "predicate": r.predicate, "list": r.list, "view": r.view, "score": r.score}
        | ({"at": [r.span.source, r.span.start, r.span.end]} if r.span else {})
        for r in decision.reasons
    ]
    return {
        "policy": decision.policy,
        "rules": list(decision.rules),
        "reasons": reasons,
        "errors": [{"rule": e.rule, "on_error": e.on_error} for e in decision.errors],
        "exempted": [{"rule": e.rule, "exception": e.exception} for e in decision.exempted],
        "stale": list(decision.stale),
    }


def _audited(picture: Picture) -> dict[str, Any]:
    report = None if picture.made is None else picture.made.report
    return {
        "seed": report.seed if report else None,
        "verdict": picture.verdict,
        "rungs": list(picture.rungs),
        "marks": list(picture.marks),
        "replaced": picture.replaced,
        **_how(picture),
        "violated": [v.rule for v in picture.decision.violations],
        "plan": report.plan if report else None,
        "fired": dict(report.fired) if report else {},
        "shape": _shape(picture),
    }


def _shape(picture: Picture) -> dict[str, Any] | None:
    """What a client needs to reproduce the same pixels with the stock pipeline. None where nothing was drawn."""
    return None if picture.made is None else asdict(picture.made.report.shape)


def _per_image(picture: Picture, seed: int) -> dict[str, Any]:
    return {
        "verdict": picture.verdict,
        **_how(picture),
        "rules": _disclosed(picture.decision.disclosures),
        "labels": list(picture.decision.labels),
        "rungs": list(picture.rungs),
        "marks": list(picture.marks),
        "seed": seed,
        "shape": _shape(picture),
    }


def _how(picture: Picture) -> dict[str, Any]:
    return {"how": picture.how, "sites": picture.sites}


def _disclosed(disclosures: Any) -> list[dict[str, str]]:
    """Each disclosed rule once: its category, and its name and reason if the rule discloses them."""
    seen: dict[Disclosure, dict[str, str]] = {}
    for d in disclosures:
        seen.setdefault(d, {k: v for k, v in asdict(d).items() if v is not None})
    return list(seen.values())
