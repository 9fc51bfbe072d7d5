"""The parts of compiled rules that need nothing but their own model: actions, overrides, times, triggers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from policies.decide.decision import Disclosure
from policies.decide.rules import Compound, Condition, Finding, OverrideRule, TenantCheck, TimeCheck, Trigger, WordCheck
from policies.fields import moment
from policies.format.actions import Action, Block, Label, ReviewHold, Verify
from policies.format.model import (
    ActionModel,
    BlockModel,
    LabelModel,
    OverrideModel,
    ReviewHoldModel,
    RuleModel,
    VerifyModel,
)
from policies.format.strictness import loosening
from policies.predicates.conditions import TimeModel, Weekday

__all__ = ["action_of", "disclosure_of", "override_of", "reads_of", "time_of", "triggers_of"]


def action_of(model: ActionModel, rule: str) -> Action:
    """The action that `model` asks for, whatever the request."""
    if isinstance(model, VerifyModel):
        return Verify(rule, model.read, tuple(model.ladder), model.otherwise, model.max_extra_generations)
    if isinstance(model, LabelModel):
        return Label(rule, model.value)
    if isinstance(model, ReviewHoldModel):
        return ReviewHold(rule, model.queue)
    assert isinstance(model, BlockModel)  # INVARIANT: steering depends on the request and is made for it
    return Block(rule, model.message)


def disclosure_of(model: RuleModel) -> Disclosure | None:
    """What a caller may learn of the rule when it acts."""
    if model.disclose == "nothing":
        return None
    return Disclosure(model.category, model.id, model.why) if model.disclose == "reason" else Disclosure(model.category)


def override_of(model: OverrideModel, rule: RuleModel) -> OverrideRule:
    """The override with its tenants and its end resolved, and whether it makes `rule` milder."""
    tenants = TenantCheck.of(model.tenants) if model.tenants is not None else None
    return OverrideRule(model.set, tenants, bool(loosening(model.set, rule)), moment(model.expires))


def time_of(model: TimeModel) -> TimeCheck:
    """The time with days and clock as numbers."""
    names = get_args(Weekday)
    start, end = ((int(t[:2]) * 60 + int(t[3:])) for t in model.between) if model.between else (0, 0)
    return TimeCheck(
        moment(model.since),
        moment(model.until),
        frozenset(names.index(d) for d in model.weekdays) if model.weekdays else None,
        (start, end) if model.between else None,
    )


def reads_of(when: Condition) -> Iterable[str]:
    """The names that a condition looks for in pictures."""
    if isinstance(when, Compound):
        for part in when.parts:
            yield from reads_of(part)
    elif isinstance(when, WordCheck | Finding) and when.stage == "picture":
        yield when.name


def triggers_of(when: Condition) -> frozenset[Trigger] | None:
    """A set of findings without any of which `when` is certainly false; None when there is no such set."""
    if isinstance(when, WordCheck):
        return frozenset({(when.stage, when.name, name) for name in when.lists} | {(when.stage, when.name, "?")})
    if isinstance(when, Finding):
        return frozenset({(when.stage, when.name, "*"), (when.stage, when.name, "?")})
    if isinstance(when, TenantCheck | TimeCheck) or when.kind == "none":
        return None
    parts = [triggers_of(p) for p in when.parts]
    if when.kind == "all":
        return min((p for p in parts if p is not None), key=len, default=None)
    return None if None in parts else frozenset().union(*(p for p in parts if p is not None))
