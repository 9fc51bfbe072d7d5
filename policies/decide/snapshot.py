"""Compiles policies into one immutable snapshot: rules with resolved lists, one automaton, one digest.

Everything that can be worked out before a request comes is worked out here, so that `decide` only looks. Besides the
conditions a snapshot holds, for each rule, which findings could make it true at all (`triggers`): of a thousand rules
a request wakes a handful.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from policies.decide.matcher import Matcher, Near
from policies.decide.rule_parts import action_of, disclosure_of, override_of, reads_of, time_of, triggers_of
from policies.decide.rules import (
    Compound,
    Condition,
    ExceptionRule,
    Finding,
    Freshness,
    Rule,
    TenantCheck,
    Trigger,
    VerifyRule,
    WordCheck,
)
from policies.decide.spelling import fold
from policies.fields import length, moment
from policies.format.model import (
    ExceptionModel,
    OverrideModel,
    PolicyModel,
    RuleModel,
    SteerModel,
    VerifyModel,
)
from policies.predicates.conditions import WhenModel, WordsModel
from policies.types import Stage

__all__ = ["Origin", "Rule", "Snapshot", "compile_snapshot"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The signed bundle that a snapshot came from; `name` is the set it belongs to, `key` who signed it."""

    name: str
    sequence: int
    digest: str
    created: datetime
    not_after: datetime
    key: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All rules that are in force together, pinned to a request for its whole life.

    `digest` names the content: the same rules and words give the same digest whatever the files are called or how
    they are laid out. `words` has the folded entries of every list under `policy/list`. `as_of` is when the content
    was last known to be current; None means now.
    """

    digest: str
    policies: tuple[PolicyModel, ...]
    rules: tuple[Rule, ...]
    words: Mapping[str, tuple[str, ...]]
    matcher: Matcher
    canary_key: bytes | None = None
    draw_canaries: bool = True  # False in tests of files: there a canary counts as enforced
    by_trigger: Mapping[Trigger, tuple[int, ...]] = field(default_factory=dict)
    always: tuple[int, ...] = ()
    names: frozenset[tuple[Stage, str]] = frozenset()  # every (stage, name) that some rule looks at
    freshness: tuple[Freshness, ...] = ()
    as_of: datetime | None = None
    origin: Origin | None = None

    @property
    def concepts(self) -> frozenset[str]:
        """The concepts that some rule in force, canary or shadow steers: packs that a host should have."""
        return frozenset(s.concept for r in self.rules if not r.sleeps for s in r.steers)

    @property
    def reads(self) -> frozenset[str]:
        """What pictures may have to be read for: `lettering` and concepts' names."""
        awake = [r for r in self.rules if not r.sleeps]
        verified = frozenset(v.model.read for r in awake for v in r.verifies)
        return verified | frozenset(name for r in awake for name in r.reads)

    def stale(self, now: datetime) -> tuple[Freshness, ...]:
        """The policies that are older at `now` than they allow; a bundle past its end is as old as can be."""
        if not self.freshness or self.as_of is None:
            return ()
        ended = self.origin is not None and now >= self.origin.not_after
        return tuple(f for f in self.freshness if ended or now - self.as_of > f.max_age)


def compile_snapshot(
    policies: Iterable[PolicyModel],
    words: Mapping[str, Iterable[str]],
    *,
    canary_key: bytes | None = None,
    origin: Origin | None = None,
) -> Snapshot:
    """The snapshot of `policies`; `words` has the entries of every list, under `policy/list`.

    Not validated here: the loader has done so.
    """
    ordered = tuple(sorted(policies, key=lambda p: p.name))
    lists = {name: tuple(dict.fromkeys(fold(w) for w in entries)) for name, entries in words.items()}
    digest = _digest(ordered, lists)
    overrides: defaultdict[str, list[OverrideModel]] = defaultdict(list)
    for policy in ordered:
        for override in policy.overrides:
            overrides[override.rule].append(override)
    compiler = _Compiler(lists)
    rules = sorted(
        (compiler.rule(r, p.name, overrides.get(r.id, ())) for p in ordered for r in p.rules), key=lambda r: r.id
    )
    by_trigger: defaultdict[Trigger, list[int]] = defaultdict(list)
    for i, rule in enumerate(rules):
        for trigger in rule.triggers or ():
            by_trigger[trigger].append(i)
    return Snapshot(
        digest=digest,
        policies=ordered,
        rules=tuple(rules),
        words=compiler.lists,
        matcher=Matcher({n: compiler.lists[n] for n in compiler.used}),
        canary_key=canary_key,
        by_trigger={t: tuple(found) for t, found in by_trigger.items()},
        always=tuple(i for i, r in enumerate(rules) if r.triggers is None),
        names=frozenset(compiler.names),
        freshness=tuple(
            Freshness(p.name, length(p.freshness.max_age), p.freshness.on_stale) for p in ordered if p.freshness
        ),
        as_of=origin.created if origin else None,
        origin=origin,
    )


def _digest(policies: Iterable[PolicyModel], lists: Mapping[str, tuple[str, ...]]) -> str:
    dumped = [p.model_dump(mode="json", by_alias=True) for p in policies]
    content = {
        "policies": [{**p, "rules": sorted(p["rules"], key=lambda r: str(r["id"]))} for p in dumped],
        "lists": {name: sorted(entries) for name, entries in lists.items()},
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Compiler:
    """Collects what the rules use while it compiles them."""

    def __init__(self, lists: Mapping[str, tuple[str, ...]]) -> None:
        self.lists = dict(lists)
        self.used: set[str] = set()
        self.names: set[tuple[Stage, str]] = set()

    def rule(self, model: RuleModel, policy: str, overrides: Iterable[OverrideModel]) -> Rule:
        when = self.condition(model.when, policy, model.id)
        verifies = tuple(self.verify(a, policy, model.id) for a in model.then if isinstance(a, VerifyModel))
        settings = tuple(override_of(o, model) for o in overrides)
        sleeps = model.rollout.mode == "disabled" and all(o.set.mode in (None, "disabled") for o in settings)
        return Rule(
            id=model.id,
            policy=policy,
            model=model,
            when=when,
            verifies=verifies,
            triggers=frozenset() if sleeps else triggers_of(when),
            reads=frozenset(reads_of(when)),
            since=moment(model.active.since) if model.active else None,
            until=moment(model.active.until) if model.active else None,
            exceptions=tuple(self.exception(e, policy, model.id) for e in model.exceptions),
            overrides=settings,
            actions=tuple(a if isinstance(a, SteerModel) else action_of(a, model.id) for a in model.then),
            verified=frozenset(v.model.read for v in verifies),
            disclosure=disclosure_of(model),
            always=model.rollout.mode == "enforce" and not settings and model.active is None,
        )

    def exception(self, model: ExceptionModel, policy: str, rule: str) -> ExceptionRule:
        parts: list[Condition] = [TenantCheck.of(model.tenants)] if model.tenants is not None else []
        if model.when is not None:
            parts.append(self.condition(model.when, policy, rule))
        expires = moment(model.expires)
        assert expires is not None
        return ExceptionRule(model.id, parts[0] if len(parts) == 1 else Compound("all", tuple(parts)), expires)

    def condition(self, when: WhenModel, policy: str, rule: str) -> Condition:
        if when.lettering is not None:
            asked = when.lettering
            if asked.any_of is not None:
                resolved = WordsModel(any_of=asked.any_of, unless=asked.unless, views=asked.views)
                return self.check("prompt", "lettering", resolved, policy, rule)
            if asked.toxicity_at_least is not None:
                return self.finding("prompt", "toxicity", asked.toxicity_at_least, lettering=True)
            return self.finding("prompt", "lettering", 0.0)
        if when.toxicity_at_least is not None:
            return self.finding("prompt", "toxicity", when.toxicity_at_least)
        if when.prompt is not None:
            return self.check("prompt", "text", when.prompt, policy, rule)
        if when.concept is not None:
            return self.finding("prompt", when.concept.name, when.concept.at_least)
        if when.tenant is not None:
            return TenantCheck.of(when.tenant.any_of)
        if when.time is not None:
            return time_of(when.time)
        if when.picture is not None:
            if when.picture.lettering is not None:
                return self.check("picture", "lettering", when.picture.lettering, policy, rule)
            assert when.picture.concept is not None
            return self.finding("picture", when.picture.concept.name, when.picture.concept.at_least)
        for kind, parts in (("all", when.all), ("any", when.any), ("none", when.none)):
            if parts is not None:
                return Compound(kind, tuple(self.condition(p, policy, rule) for p in parts))  # type: ignore[arg-type]
        raise AssertionError("the model lets no condition through without a predicate")

    def verify(self, model: VerifyModel, policy: str, rule: str) -> VerifyRule:
        if model.below is not None:
            return VerifyRule(model, self.finding("picture", model.read, model.below))
        assert model.none_of is not None
        words = WordsModel(any_of=model.none_of, unless=model.unless)
        check = self.check("picture", "lettering", words, policy, rule)
        near = Near(w for name in sorted(check.lists) for w in self.lists[name]) if model.near else None
        return VerifyRule(model, check, near)

    def finding(self, stage: Stage, name: str, at_least: float, *, lettering: bool = False) -> Finding:
        self.names.add((stage, name))
        return Finding(stage, name, at_least, lettering)

    def check(
        self, stage: Stage, name: Literal["text", "lettering"], words: WordsModel, policy: str, rule: str
    ) -> WordCheck:
        self.names.add((stage, name))
        lists = self.resolve(words.any_of, policy, rule)
        unless = self.resolve(words.unless or (), policy, rule)
        return WordCheck(stage, name, lists, unless, words.views == "plain")

    def resolve(self, items: Iterable[str], policy: str, rule: str) -> frozenset[str]:
        """The names of the lists meant by `items`; words written in a rule become a list under the rule's name."""
        names = {f"{policy}/{item[1:]}" for item in items if item.startswith("$")}
        literals = tuple(sorted({fold(item) for item in items if not item.startswith("$")}))
        if literals:
            name = f"{rule}#{hashlib.sha256(repr(literals).encode()).hexdigest()[:8]}"
            self.lists[name] = literals
            names.add(name)
        self.used |= names
        return frozenset(names)
