"""The difference of two snapshots in meaning, with a mark on each change that may make a decision milder.

A change counts as loosening unless it is provably at least as strict as before. So if no change is marked, the new
verdict on any request is no milder than the old one, as long as the detectors answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from policies.decide.rules import ExceptionRule, OverrideRule, Rule
from policies.decide.snapshot import Snapshot
from policies.decide.verify import VerifyRule
from policies.fields import length
from policies.format.model import FLOOR, PolicyModel, SteerModel
from policies.format.strictness import ON_ERRORS, ON_STALE, UNFITS, extent, strength_rank
from policies.predicates.compound import Compound, Side, implies
from policies.predicates.condition import Condition
from policies.predicates.time import lasts

__all__ = ["Change", "diff", "floor_losses"]

_SILENT = ("id", "when", "then", "watch", "rollout", "on_error", "unfit", "active", "exceptions", "renamed_from")
_NAMES = 5  # words named in one sentence


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One difference: where it is (`rule`, `list` or `policy` and its name), what it is, and whether it loosens."""

    where: str
    name: str
    text: str
    loosens: bool
    policy: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def diff(old: Snapshot, new: Snapshot) -> tuple[Change, ...]:
    """All differences from `old` to `new`, by place; empty when both mean the same."""
    return tuple(sorted({*_policies(old, new), *_lists(old, new), *_rules(old, new)}))


def floor_losses(old: Snapshot, new: Snapshot) -> list[str]:
    """The loosening of the floor from `old` to `new`, in sentences; a new version of the floor may loosen it.

    A floor that the loader added in place of a missing one is no new version of it.
    """
    before, after = (next((p for p in s.policies if p.name == FLOOR), None) for s in (old, new))
    if before is None:
        return []
    if after is None:
        return ["the policy `floor` is missing; a running service cannot drop its floor, so restart the service"]
    missing = new.floor_added and not old.floor_added
    if after.version != before.version and not missing:
        return []
    lost = [f"{c.name}: {c.text}" for c in _rules(old, new, only=FLOOR) if c.loosens]
    if missing:
        gone = "the policy `floor` is missing, and the shipped one does not replace it"
        return [f"{gone} ({one}); a running service cannot drop its floor, so restart the service" for one in lost]
    return [f"the floor would be loosened ({one}); give it a new `version` if that is meant" for one in lost]


def _policies(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    before, after = {p.name: p for p in old.policies}, {p.name: p for p in new.policies}
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            yield Change("policy", name, "added" if name in after else "removed", False, name)
            continue
        a, b = before[name], after[name]
        for field in ("version", "owner", "description", "requires"):
            if getattr(a, field) != getattr(b, field):
                text = f"{field} changed" if field in ("description", "requires") else _arrow(a, b, field)
                yield Change("policy", name, text, False, name)
        if a.tests != b.tests:
            kept = sum(t in b.tests for t in a.tests)
            text = f"tests: {len(b.tests) - kept} new or changed, {len(a.tests) - kept} gone"
            yield Change("policy", name, text, False, name)
        yield from _freshness(a, b)


def _freshness(a: PolicyModel, b: PolicyModel) -> Iterator[Change]:
    if a.freshness == b.freshness:
        return
    x, y = a.freshness, b.freshness
    milder = x is not None and (
        y is None or length(y.max_age) > length(x.max_age) or ON_STALE.index(y.on_stale) < ON_STALE.index(x.on_stale)
    )
    said = [f"{f.max_age}, then {f.on_stale}" if f else "none" for f in (x, y)]
    yield Change("policy", b.name, f"freshness: {said[0]} -> {said[1]}", milder, b.name)


def _lists(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    """The added and removed words of named lists. The rules that use them show whether that loosens."""
    names = {n for s in (old, new) for n in s.words if "#" not in n}
    for name in sorted(names):
        before, after = set(old.words.get(name, ())), set(new.words.get(name, ()))
        if before != after:
            parts = [
                f"{len(words)} {verb} ({_few(sorted(words))})"
                for verb, words in (("added", after - before), ("removed", before - after))
                if words
            ]
            yield Change("list", name, ", ".join(parts), False, name.partition("/")[0])


def _rules(old: Snapshot, new: Snapshot, *, only: str | None = None) -> Iterator[Change]:
    before = {r.id: r for r in old.rules}
    after = {r.id: r for r in new.rules}
    heirs = {was: r.id for r in new.rules for was in r.model.renamed_from if was in before and was not in after}
    for rule in old.rules:
        if only is not None and rule.policy != only:
            continue
        heir = after.get(heirs.get(rule.id, rule.id))
        if heir is None:
            yield Change("rule", rule.id, f"removed ({rule.mode})", _bites(rule), rule.policy)
            continue
        if heir.id != rule.id:
            yield Change("rule", heir.id, f"renamed from `{rule.id}`", False, heir.policy)
        for text, loosens in _rule(rule, heir, old, new):
            yield Change("rule", heir.id, text, loosens, rule.policy)
    for rule in new.rules:
        if only is None and rule.id not in before and rule.id not in heirs.values():
            yield Change("rule", rule.id, f"added ({rule.mode})", False, rule.policy)


def _bites(rule: Rule) -> bool:
    """Whether the rule can change a verdict for some request."""
    modes = [(rule.mode, rule.model.rollout.percent), *((o.set.mode, o.set.percent) for o in rule.overrides)]
    return any(mode is not None and extent(mode, percent) > 0 for mode, percent in modes)


def _rule(a: Rule, b: Rule, old: Snapshot, new: Snapshot) -> Iterator[tuple[str, bool]]:
    """The differences of one rule, each with whether it loosens."""
    if a.policy != b.policy:
        yield f"moved from policy `{a.policy}` to `{b.policy}`", a.policy == FLOOR
    x, y = a.model, b.model
    if x.rollout != y.rollout:
        less = extent(y.rollout.mode, y.rollout.percent) < extent(x.rollout.mode, x.rollout.percent)
        drawn = x.rollout.mode == y.rollout.mode == "canary" and x.rollout.by != y.rollout.by
        yield f"rollout: {_rollout(a)} -> {_rollout(b)}", less or drawn
    if x.on_error != y.on_error:
        yield _arrow(x, y, "on_error"), ON_ERRORS.index(y.on_error) < ON_ERRORS.index(x.on_error)
    if x.unfit != y.unfit:
        yield _arrow(x, y, "unfit"), UNFITS.index(y.unfit) < UNFITS.index(x.unfit)
    if a.verifies and b.verifies and a.watches != b.watches:
        yield f"watch: {a.watch} -> {b.watch}", b.watches < a.watches
    if (a.since, a.until) != (b.since, b.until):
        yield "the time in which it is in force changed", not lasts((a.since, a.until), (b.since, b.until))
    yield from _when(a, b, old, new)
    yield from _actions(a, b, old, new)
    yield from _exceptions(a, b, old, new)
    yield from _overrides(a.overrides, b.overrides)
    for field in type(x).model_fields:
        if field not in _SILENT and getattr(x, field) != getattr(y, field):
            yield (_arrow(x, y, field) if field in ("category", "disclose") else f"{field} changed"), False


def _when(a: Rule, b: Rule, old: Snapshot, new: Snapshot) -> Iterator[tuple[str, bool]]:
    x, y = Side(a.when, old.words), Side(b.when, new.words)
    wider, narrower = implies(x, y), implies(y, x)
    if not wider:
        yield "`when` matches less than before" if narrower else "`when` may match less than before", True
    elif not narrower:
        yield "`when` matches more than before", False
        if a.verifies and not all(_verified(leaf, x, b, new) for leaf in _picture_leaves(a.when)):
            # a rule that first matches because of the picture is violated by that; one that steered before is not
            yield "`when` matches earlier, so `verify` alone judges pictures that broke the rule by themselves", True


def _verified(leaf: Condition, side: Side, rule: Rule, snapshot: Snapshot) -> bool:
    return any(implies(side.of(leaf), Side(v.check, snapshot.words)) for v in rule.verifies)


def _picture_leaves(when: Condition) -> Iterator[Condition]:
    """The parts of the condition that need the picture; a `none` is one part, because its own parts must not hold."""
    if not when.reads():
        return
    if isinstance(when, Compound) and when.kind != "none":
        for part in when.parts:
            yield from _picture_leaves(part)
    else:
        yield when


def _actions(a: Rule, b: Rule, old: Snapshot, new: Snapshot) -> Iterator[tuple[str, bool]]:
    refuses = {action.do for action in b.model.then}
    for action in a.model.then:
        if action in b.model.then and action.do != "verify":
            continue
        kept = "block" in refuses or (action.do not in ("block", "verify") and "review-hold" in refuses)
        if isinstance(action, SteerModel) and not kept:
            rank = strength_rank(action.strength)
            kept = any(s.concept == action.concept and strength_rank(s.strength) >= rank for s in b.steers)
        if action.do != "verify":
            yield f"`then`: {_said(action)} is not there as it was", not kept
    for verify in a.verifies:
        stricter = any(_verifies_more(verify, v, old, new) for v in b.verifies)
        if not stricter:
            yield (
                f"`then`: verifying {verify.model.read} asks less than before",
                a.watches > 0 or "block" not in refuses,
            )
        elif not any(v.model == verify.model for v in b.verifies):
            yield f"`then`: verifying {verify.model.read} changed", False
    added = [x for x in b.model.then if x not in a.model.then and x.do not in {y.do for y in a.model.then}]
    yield from ((f"`then`: {_said(action)} added", False) for action in added)


def _verifies_more(a: VerifyRule, b: VerifyRule, old: Snapshot, new: Snapshot) -> bool:
    """Whether `b` fails every picture that `a` fails, and does no less then."""
    if a.model.read != b.model.read:
        return False
    if a.model.otherwise == "block" and b.model.otherwise != "block":
        return False
    return implies(Side(a.check, old.words), Side(b.check, new.words))


def _exceptions(a: Rule, b: Rule, old: Snapshot, new: Snapshot) -> Iterator[tuple[str, bool]]:
    def spared(one: ExceptionRule, there: Snapshot, by: Rule, here: Snapshot) -> bool:
        """Whether some exception of `by` spares all that this one spares, for as long."""
        side = Side(one.when, there.words)
        return any(one.expires <= e.expires and implies(side, Side(e.when, here.words)) for e in by.exceptions)

    before, after = {e.id for e in a.exceptions}, {e.id for e in b.exceptions}
    for exception in b.exceptions:
        if not spared(exception, new, a, old):
            yield f"exception `{exception.id}` {'spares more, or longer' if exception.id in before else 'added'}", True
    for exception in sorted(a.exceptions, key=lambda e: e.id):
        if exception.id not in after:
            yield f"exception `{exception.id}` removed", False
        elif not spared(exception, old, b, new):
            yield f"exception `{exception.id}` spares less, or not as long", False


def _overrides(a: Sequence[OverrideRule], b: Sequence[OverrideRule]) -> Iterator[tuple[str, bool]]:
    before = [(o.set, o.tenants, o.expires) for o in a]
    after = [(o.set, o.tenants, o.expires) for o in b]
    for override in b:
        if (override.set, override.tenants, override.expires) not in before:
            yield f"override added: {_override(override)}", override.loosens
    remaining = any(o.loosens for o in b)
    for override in a:
        if (override.set, override.tenants, override.expires) not in after:
            # of several the strictest counts, so without this one a milder one may
            yield f"override removed: {_override(override)}", not override.loosens or remaining


def _override(override: OverrideRule) -> str:
    setting = ", ".join(f"{k} {v}" for k, v in override.set.model_dump(exclude_none=True).items())
    tenants = override.tenants
    whom = "everybody" if tenants is None else ", ".join(sorted({*tenants.names, *(p + "*" for p in tenants.prefixes)}))
    return f"{setting} for {whom}" + (f" until {override.expires:%Y-%m-%d}" if override.expires else "")


def _rollout(rule: Rule) -> str:
    rollout = rule.model.rollout
    return f"canary {rollout.percent:g} % by {rollout.by}" if rollout.mode == "canary" else rollout.mode


def _said(action: Any) -> str:
    detail = getattr(action, "concept", None) or getattr(action, "value", None)
    return f"{action.do} {detail}" if detail else str(action.do)


def _arrow(a: Any, b: Any, field: str) -> str:
    return f"{field}: {getattr(a, field)} -> {getattr(b, field)}"


def _few(words: Sequence[str]) -> str:
    shown = ", ".join(f"`{w}`" for w in words[:_NAMES])
    return shown + (f" and {len(words) - _NAMES} more" if len(words) > _NAMES else "")
