"""Explains a decision, as plain data and in English; `palimpsest policy explain` prints it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from policies.decide.decide import decide
from policies.decide.decision import Decision
from policies.decide.snapshot import Snapshot
from policies.judgement import Reason
from policies.types import Request, Signals

__all__ = ["explain", "narrate"]


def explain(request: Request, snapshot: Snapshot, sense: Callable[[Request], Signals]) -> dict[str, Any]:
    """One JSON object for `request`: prompt, verdict, rules, actions, reasons, reads, shadow, errors, policy.

    `exempted` and `stale` are there only when they are not empty. A reason whose word is an inflected form says
    `inflected_from` which entry.
    """
    decision = decide(request, sense(request), snapshot)
    fields = decision.to_dict()
    for reason, said in zip(decision.reasons, fields["reasons"], strict=True):
        if (entry := _entry(reason, snapshot)) is not None:
            said["inflected_from"] = entry
    names = ("verdict", "rules", "actions", "reasons", "reads", "shadow", "errors", "policy", "exempted", "stale")
    return {"prompt": request.prompt, **{name: fields[name] for name in names if name in fields}}


def narrate(request: Request, decision: Decision, snapshot: Snapshot) -> Iterator[str]:
    """The lines of an explanation: the verdict, then for each rule why it exists and why it matched."""
    models = {r.id: r.model for r in snapshot.rules}
    yield f"{decision.verdict}: {request.prompt}"
    for rule in dict.fromkeys((*decision.rules, *(e.rule for e in decision.errors))):
        yield f"  {rule} ({models[rule].category}): {models[rule].why}" if rule in models else f"  {rule}:"
        yield from (f"    because {r.text}{_inflected(r, snapshot)}" for r in decision.reasons if r.rule == rule)
        yield from (
            f"    because it could not be judged: {e.text} (on_error: {e.on_error})"
            for e in decision.errors
            if e.rule == rule
        )
        for steer in (s for s in decision.steers if s.rule == rule):
            donor = steer.donor(request)
            yield f"    steer {steer.concept}" + (f", donor: {donor}" if donor is not None else "")
    for spared in decision.exempted:
        yield f"  {spared.rule} would act, but its exception `{spared.exception}` spares this request"
    if decision.reads:
        yield f"  the picture is read for: {', '.join(sorted(decision.reads))}"
    watching = [r.id for r in snapshot.rules if r.watches and r.id not in decision.rules and not r.sleeps]
    if watching:
        yield f"  whatever the prompt says, its picture is watched by: {', '.join(watching)}"
    if decision.stale:
        yield f"  stale: {', '.join(decision.stale)}"
    if decision.shadow is not None and decision.shadow.rules:
        yield f"  in shadow: {decision.shadow.verdict} by {', '.join(decision.shadow.rules)}"
        yield from (f"    because {r.text}" for r in decision.shadow.reasons)


def _inflected(reason: Reason, snapshot: Snapshot) -> str:
    entry = _entry(reason, snapshot)
    return "" if entry is None else f", inflected from `{entry}`"


def _entry(reason: Reason, snapshot: Snapshot) -> str | None:
    """The entry that the word of `reason` is an inflected form of; None when it is an entry itself."""
    policy = next((r.policy for r in snapshot.rules if r.id == reason.rule), "")
    forms = snapshot.forms.get(f"{policy}/{reason.list}")
    return forms.kept.get(reason.word) if forms is not None else None
