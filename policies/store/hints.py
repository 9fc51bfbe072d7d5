"""Hints about valid policies that are probably not as intended. A hint never refuses a policy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from policies.decide.donor import list_of
from policies.decide.snapshot import Snapshot
from policies.fields import Moment, moment
from policies.format.model import PolicyModel, RuleModel, SampleModel, SteerModel, VerifyModel

__all__ = ["advice"]

_SOON = timedelta(days=14)


def advice(snapshot: Snapshot, now: datetime) -> Iterator[str]:
    """One sentence for each hint: rules without a test that matches or one that does not, unused lists, near ends."""
    seen = [t.expect for p in snapshot.policies for t in p.tests]
    named = [(e, {*(e.matched or ()), *(e.rules or ()), *(e.shadow or ()), *(e.exempted or ())}) for e in seen]
    acting = {id for _, ids in named for id in ids}
    resting = [ids for e, ids in named if e.matched is not None or e.rules is not None or e.verdict == "allow"]
    for policy in snapshot.policies:
        for rule in policy.rules:
            if rule.id not in acting:
                yield f"{policy.name}: no test shows rule `{rule.id}` in action (`expect: {{matched: [{rule.id}]}}`)"
            if all(rule.id in ids for ids in resting):
                yield f"{policy.name}: no test shows rule `{rule.id}` leaving a harmless prompt alone"
            yield from _trust(policy, rule)
            yield from _ends(policy, rule, now)
        for override in policy.overrides:
            yield from _end(f"{policy.name}: the override of `{override.rule}`", override.expires, now)
        used = _used(policy)
        yield from (f"{policy.name}: nothing uses the list `{name}`" for name in policy.lists if name not in used)
    origin = snapshot.origin
    if origin is not None:
        yield from _end("the bundle", origin.not_after, now)


def _trust(policy: PolicyModel, rule: RuleModel) -> Iterator[str]:
    """A hint for a rule that sees no picture, or not every picture."""
    what = f"{policy.name}: rule `{rule.id}`"
    if not any(isinstance(a, VerifyModel) for a in rule.then):
        if not any(need.stage == "picture" for need in rule.when.needs()):
            yield f"{what} looks at no picture: it trusts the prompt"
    elif rule.watch == "matched-prompts":
        yield f"{what} looks at pictures of matching prompts only: it trusts the prompt (`watch: every-picture`)"
    elif isinstance(rule.watch, SampleModel):
        yield f"{what} watches {100 * rule.watch.share:g} % of the pictures; for the rest it trusts the prompt"


def _ends(policy: PolicyModel, rule: RuleModel, now: datetime) -> Iterator[str]:
    for exception in rule.exceptions:
        yield from _end(f"{policy.name}: exception `{exception.id}` of `{rule.id}`", exception.expires, now)
    if rule.active is not None:
        yield from _end(f"{policy.name}: rule `{rule.id}`", rule.active.until, now)


def _end(what: str, value: Moment | None, now: datetime) -> Iterator[str]:
    end = moment(value)
    if end is not None and end <= now:
        yield f"{what} ended on {end:%Y-%m-%d} and does nothing any more"
    elif end is not None and end - now <= _SOON:
        yield f"{what} ends on {end:%Y-%m-%d}"


def _used(policy: PolicyModel) -> set[str]:
    found = {list_of(a.toward) for r in policy.rules for a in r.then if isinstance(a, SteerModel)}
    return {name for name in found if name} | {w[1:] for r in policy.rules for w in _texts(r) if w.startswith("$")}


def _texts(value: Any) -> Iterator[str]:
    """Every text in a model."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _texts(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
