"""Compiles policies into one immutable snapshot: rules with resolved lists, one automaton, one digest.

Everything that can be computed before a request comes is computed here. For each rule the snapshot also holds the
triggers that could make it true, so that `decide` judges a few of a thousand rules for a request.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import assert_never

from policies.decide.decision import Disclosure
from policies.decide.rules import ExceptionRule, Freshness, OverrideRule, Rule
from policies.decide.snapshot import Origin, Snapshot
from policies.decide.verify import VerifyRule
from policies.everyday import load_everyday
from policies.evidence import Trigger
from policies.fields import length, moment
from policies.format.actions import Action, Block, Label, ReviewHold, Verify
from policies.format.model import (
    ActionModel,
    BlockModel,
    ExceptionModel,
    LabelModel,
    OverrideModel,
    PolicyModel,
    ReviewHoldModel,
    RuleModel,
    SampleModel,
    SteerModel,
    VerifyModel,
)
from policies.format.strictness import loosening
from policies.inflections import inflect
from policies.matcher import Matcher
from policies.near import Near
from policies.predicates.compound import Compound, open_to_all
from policies.predicates.condition import Condition
from policies.predicates.predicate import RuleScope
from policies.predicates.strikes import longest
from policies.predicates.tenant import TenantCheck
from policies.spelling import fold

__all__ = ["compile_snapshot"]


def compile_snapshot(
    policies: Iterable[PolicyModel],
    words: Mapping[str, Iterable[str]],
    *,
    canary_key: bytes | None = None,
    origin: Origin | None = None,
) -> Snapshot:
    """The snapshot of `policies`; `words` has the entries of every list, under `policy/list`.

    Nothing is validated here: the loader has done so.
    """
    ordered = tuple(sorted(policies, key=lambda p: p.name))
    lists = {name: tuple(dict.fromkeys(fold(w) for w in entries)) for name, entries in words.items()}
    forms = {
        name: inflect(lists[name], model.inflect, load_everyday())
        for p in ordered
        for list_name, model in p.lists.items()
        if model.inflect is not None and (name := f"{p.name}/{list_name}") in lists
    }
    lists |= {name: (*lists[name], *found.kept) for name, found in forms.items()}
    digest = _digest(ordered, lists)
    overrides: defaultdict[str, list[OverrideModel]] = defaultdict(list)
    for policy in ordered:
        for override in policy.overrides:
            overrides[override.rule].append(override)
    used, near, innocent = set[str](), set[str](), set[str]()
    scopes = ((r, RuleScope(p.name, r.id, lists, used, near, innocent)) for p in ordered for r in p.rules)
    rules = sorted((_rule(r, scope, overrides.get(r.id, ())) for r, scope in scopes), key=lambda r: r.id)
    by_trigger: defaultdict[Trigger, list[int]] = defaultdict(list)
    watching: defaultdict[Trigger, list[int]] = defaultdict(list)
    for i, rule in enumerate(rules):
        for trigger in rule.triggers or ():
            by_trigger[trigger].append(i)
        for trigger in _watched(rule):
            watching[trigger].append(i)
    ever = [r.watches == 1 and r.always and open_to_all(r.when) for r in rules]
    return Snapshot(
        digest=digest,
        policies=ordered,
        rules=tuple(rules),
        words=lists,
        forms=forms,
        matcher=Matcher(
            {name: lists[name] for name in used},
            Near({name: lists[name] for name in near}, {name: lists[name] for name in innocent}),
        ),
        canary_key=canary_key,
        by_trigger={t: tuple(found) for t, found in by_trigger.items()},
        always=tuple(i for i, r in enumerate(rules) if r.triggers is None),
        watching={t: tuple(found) for t, found in watching.items()},
        watched=frozenset().union(*(r.verified for r, all_ in zip(rules, ever, strict=True) if all_)),
        watchers=tuple(i for i, r in enumerate(rules) if r.watches and not r.sleeps and not ever[i]),
        names=frozenset().union(*(c.looks_at() for r in rules for c in _conditions(r))),
        freshness=tuple(
            Freshness(p.name, length(p.freshness.max_age), p.freshness.on_stale) for p in ordered if p.freshness
        ),
        as_of=origin.created if origin else None,
        origin=origin,
        strikes=longest(c for r in rules if not r.sleeps for c in _conditions(r)),
    )


def _digest(policies: Iterable[PolicyModel], lists: Mapping[str, tuple[str, ...]]) -> str:
    dumped = [p.model_dump(mode="json", by_alias=True) for p in policies]
    content = {
        "policies": [{**p, "rules": sorted(p["rules"], key=lambda r: str(r["id"]))} for p in dumped],
        "lists": {name: sorted(entries) for name, entries in lists.items()},
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _conditions(rule: Rule) -> Iterator[Condition]:
    """Every condition of the rule: of `when`, of its verifications and of its exceptions."""
    yield rule.when
    yield from (v.check for v in rule.verifies)
    yield from (e.when for e in rule.exceptions)


def _watched(rule: Rule) -> Iterator[Trigger]:
    """What wakes a watching rule at stage `picture`: each trigger of its verifications, once."""
    if not rule.watches or rule.sleeps:
        return
    yield from {t for v in rule.verifies for t in v.check.triggers() or ()}


def _watches(model: RuleModel) -> float:
    if isinstance(model.watch, SampleModel):
        return model.watch.share
    return 1.0 if model.watch == "every-picture" else 0.0


def _rule(model: RuleModel, scope: RuleScope, overrides: Iterable[OverrideModel]) -> Rule:
    when = model.when.compile(scope)
    verifies = tuple(VerifyRule.of(a, scope) for a in model.then if isinstance(a, VerifyModel))
    settings = tuple(_override(o, model) for o in overrides)
    sleeps = model.rollout.mode == "disabled" and all(o.set.mode in (None, "disabled") for o in settings)
    return Rule(
        id=model.id,
        policy=scope.policy,
        model=model,
        when=when,
        verifies=verifies,
        triggers=frozenset() if sleeps else when.triggers(),
        reads=when.reads(),
        since=moment(model.active.since) if model.active else None,
        until=moment(model.active.until) if model.active else None,
        exceptions=tuple(_exception(e, scope) for e in model.exceptions),
        overrides=settings,
        actions=tuple(a if isinstance(a, SteerModel) else _action(a, model.id) for a in model.then),
        verified=frozenset(v.model.read for v in verifies),
        disclosure=_disclosure(model),
        always=model.rollout.mode == "enforce" and not settings and model.active is None,
        watches=_watches(model) if verifies else 0.0,
    )


def _exception(model: ExceptionModel, scope: RuleScope) -> ExceptionRule:
    parts: list[Condition] = [TenantCheck.of(model.tenants)] if model.tenants is not None else []
    if model.when is not None:
        parts.append(model.when.compile(scope))
    expires = moment(model.expires)
    assert expires is not None  # INVARIANT: `moment` gives None for None only
    return ExceptionRule(model.id, parts[0] if len(parts) == 1 else Compound("all", tuple(parts)), expires)


def _action(model: ActionModel, rule: str) -> Action:
    """The action that `model` asks for, whatever the request."""
    if isinstance(model, VerifyModel):
        return Verify(rule, model.read, tuple(model.ladder), model.otherwise, model.max_extra_generations)
    if isinstance(model, LabelModel):
        return Label(rule, model.value)
    if isinstance(model, ReviewHoldModel):
        return ReviewHold(rule, model.queue)
    if isinstance(model, BlockModel):
        return Block(rule, model.message)
    if isinstance(model, SteerModel):
        raise TypeError("a steer depends on the request, so `decide` makes it")
    assert_never(model)


def _disclosure(model: RuleModel) -> Disclosure | None:
    """What a caller may learn of the rule when it acts."""
    if model.disclose == "nothing":
        return None
    return Disclosure(model.category, model.id, model.why) if model.disclose == "reason" else Disclosure(model.category)


def _override(model: OverrideModel, rule: RuleModel) -> OverrideRule:
    """The override with its tenants and its end resolved, and whether it makes `rule` milder."""
    tenants = TenantCheck.of(model.tenants) if model.tenants is not None else None
    return OverrideRule(model.set, tenants, bool(loosening(model.set, rule)), moment(model.expires))
