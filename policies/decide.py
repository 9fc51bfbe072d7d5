"""Decides: a pure function of request, signals and snapshot, in which no order matters, of rules or of files.

Every rule in force is judged by itself, and the strictest of what they ask for wins. A rule that cannot be judged
does what its `on_error` says, never nothing by accident. Shadow rules are judged by the same code and change nothing
but the field `shadow`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace

from policies.actions import Action, Block, Label, ReviewHold, Steer, Verdict, Verify, strictest
from policies.decision import Decision, Disclosure, Reason, RuleError, Shadow, Violation
from policies.donor import replacements
from policies.evidence import Evidence, Outcome
from policies.model import ActionModel, LabelModel, ReviewHoldModel, SteerModel, VerifyModel
from policies.snapshot import Rule, Snapshot
from policies.types import Request, Signals, Stage

__all__ = ["decide"]


@dataclass(frozen=True, slots=True)
class _Judged:
    """What one rule came to."""

    rule: Rule
    enforced: bool
    matched: bool = False
    actions: tuple[Action, ...] = ()
    reasons: tuple[Reason, ...] = ()
    errors: tuple[RuleError, ...] = ()
    violations: tuple[Violation, ...] = ()
    reads: frozenset[str] = frozenset()


def decide(
    request: Request,
    signals: Signals,
    snapshot: Snapshot,
    *,
    stage: Stage = "prompt",
    before: Decision | None = None,
) -> Decision:
    """The decision of `snapshot` on `request`.

    At stage `picture`, `signals` are those of the prompt and of one picture added, and `before` is the decision that
    the picture was made under: its rules stay in force, so that the verdict never falls below that of the prompt.
    """
    evidence = Evidence(request, signals, snapshot.matcher, stage)
    judged = [
        _judge(rule, evidence, snapshot, enforced=mode == "enforce", before=before)
        for rule in _awake(snapshot, evidence, before)
        if (mode := _mode(rule, request, snapshot)) is not None
    ]
    decision = _compose([j for j in judged if j.enforced], stage, snapshot, before)
    if all(j.enforced for j in judged):
        return decision
    imagined = _compose(judged, stage, snapshot, before)
    shadow = Shadow(
        imagined.verdict,
        tuple(j.rule.id for j in judged if not j.enforced and j.matched),
        tuple(r for j in judged if not j.enforced for r in j.reasons),
        tuple(e for j in judged if not j.enforced for e in j.errors),
    )
    return replace(decision, reads=decision.reads | imagined.reads, shadow=shadow)


def _awake(snapshot: Snapshot, evidence: Evidence, before: Decision | None) -> Iterable[Rule]:
    """The rules that can be anything but false, by id: those whose triggers are pulled, and those in force already."""
    woken = set(snapshot.always)
    for trigger in evidence.present(snapshot):
        woken.update(snapshot.by_trigger.get(trigger, ()))
    if before is not None:
        earlier = {*before.rules, *(e.rule for e in before.errors)}
        if before.shadow is not None:
            earlier |= {*before.shadow.rules, *(e.rule for e in before.shadow.errors)}
        woken.update(i for i, r in enumerate(snapshot.rules) if r.id in earlier)
    return [snapshot.rules[i] for i in sorted(woken)]


def _mode(rule: Rule, request: Request, snapshot: Snapshot) -> str | None:
    """`enforce` or `shadow` for this request; None when the rule is not in force at all."""
    rollout = rule.model.rollout
    if rollout.mode == "disabled" or not rule.active(request.now):
        return None
    if rollout.mode != "canary":
        return rollout.mode
    if not snapshot.draw_canaries:
        return "enforce"
    assert rollout.percent is not None
    assert snapshot.canary_key is not None  # INVARIANT: the loader refuses canaries without a key
    drawn = hmac.new(snapshot.canary_key, f"{rule.id}|{request.tenant}|{request.id}".encode(), hashlib.sha256).digest()
    return "enforce" if int.from_bytes(drawn[:8], "big") / 2**64 < rollout.percent / 100 else "shadow"


def _judge(rule: Rule, evidence: Evidence, snapshot: Snapshot, *, enforced: bool, before: Decision | None) -> _Judged:
    blocked = _blocked_by_error(rule, before)
    if blocked is not None:
        return _on_error(rule, blocked.text, evidence, snapshot, enforced)
    outcome = evidence.judge(rule.when, rule.id)
    earlier = _earlier(rule, before)
    if outcome.truth or earlier is not None:
        return _matched(rule, outcome, evidence, snapshot, enforced, earlier)
    if outcome.error is not None:
        return _on_error(rule, outcome.error, evidence, snapshot, enforced)
    return _Judged(rule, enforced, reads=outcome.pending)


def _blocked_by_error(rule: Rule, before: Decision | None) -> RuleError | None:
    """The error for which `rule` blocked in `before`: what the picture shows cannot make up for it."""
    if before is None or rule.model.on_error != "block":
        return None
    errors = (*before.errors, *(before.shadow.errors if before.shadow else ()))
    return next((e for e in errors if e.rule == rule.id), None)


def _earlier(rule: Rule, before: Decision | None) -> tuple[Reason, ...] | None:
    """The reasons for which `rule` was in force in `before`; None when it was not."""
    if before is None:
        return None
    if rule.id in before.rules:
        return tuple(r for r in before.reasons if r.rule == rule.id)
    if before.shadow is not None and rule.id in before.shadow.rules:
        return tuple(r for r in before.shadow.reasons if r.rule == rule.id)
    return None


def _on_error(rule: Rule, error: str, evidence: Evidence, snapshot: Snapshot, enforced: bool) -> _Judged:
    """The rule as its `on_error` wants it: blocked, as if it had matched, or passed over with a note."""
    note = RuleError(rule.id, error, rule.model.on_error)
    if rule.model.on_error == "block":
        return _Judged(rule, enforced, actions=(Block(rule.id),), errors=(note,))
    if rule.model.on_error == "allow":
        return _Judged(rule, enforced, errors=(note,))
    judged = _matched(rule, Outcome(True), evidence, snapshot, enforced, None, blind=True)
    return _Judged(
        rule, enforced, True, judged.actions, judged.reasons, (note, *judged.errors), judged.violations, judged.reads
    )


def _matched(
    rule: Rule,
    outcome: Outcome,
    evidence: Evidence,
    snapshot: Snapshot,
    enforced: bool,
    earlier: tuple[Reason, ...] | None,
    *,
    blind: bool = False,
) -> _Judged:
    """A rule in force: its actions, and at stage `picture` what its verifications found.

    A rule that matches only now, because of what the picture shows, steered nothing yet: that is a violation in itself.
    `blind` rules match because of an error, know nothing about the picture, and are spared that.
    """
    reasons = outcome.reasons if outcome.truth else earlier or ()
    actions = tuple(_action(a, rule, reasons, evidence.request, snapshot) for a in rule.model.then)
    reads = frozenset(v.model.read for v in rule.verifies) | outcome.pending
    if evidence.stage == "prompt":
        return _Judged(rule, enforced, True, actions, reasons, reads=reads)
    errors: list[RuleError] = []
    violations: list[Violation] = []
    more: list[Action] = []
    late = earlier is None and bool(rule.reads) and not blind
    for verify, action in zip(rule.verifies, (a for a in actions if isinstance(a, Verify)), strict=True):
        failed = evidence.fails(verify, rule.id)
        if failed.error is not None:
            errors.append(RuleError(rule.id, failed.error, rule.model.on_error))
            more.extend(_after_error(rule, action))
        elif failed.truth or (late and verify.model.read in rule.reads):
            violations.append(Violation(rule.id, action, failed.reasons or reasons))
    return _Judged(rule, enforced, True, (*actions, *more), reasons, tuple(errors), tuple(violations), reads)


def _after_error(rule: Rule, verify: Verify) -> tuple[Action, ...]:
    """What a picture that could not be read gets: no ladder, but what `on_error` says."""
    if rule.model.on_error == "allow":
        return ()
    held = rule.model.on_error == "apply" and verify.otherwise == "review-hold"
    return (ReviewHold(rule.id),) if held else (Block(rule.id),)


def _action(
    model: ActionModel, rule: Rule, reasons: tuple[Reason, ...], request: Request, snapshot: Snapshot
) -> Action:
    if isinstance(model, SteerModel):
        return Steer(
            rule.id,
            model.concept,
            model.toward,
            replacements(model.toward, reasons, request, snapshot.words, policy=rule.policy),
            None if model.strength == "auto" else model.strength,
            rule.model.unfit,
        )
    if isinstance(model, VerifyModel):
        return Verify(rule.id, model.read, tuple(model.ladder), model.otherwise, model.max_extra_generations)
    if isinstance(model, LabelModel):
        return Label(rule.id, model.value)
    if isinstance(model, ReviewHoldModel):
        return ReviewHold(rule.id, model.queue)
    return Block(rule.id, model.message)


def _compose(judged: list[_Judged], stage: Stage, snapshot: Snapshot, before: Decision | None) -> Decision:
    actions = tuple(a for j in judged for a in j.actions)
    violations = tuple(v for j in judged for v in j.violations)
    verdicts = [_verdict(a) for a in actions] + [v.verify.otherwise for v in violations]
    acted = [j for j in judged if j.matched or j.actions]
    return Decision(
        verdict=strictest(verdicts),
        stage=stage,
        policy=snapshot.digest,
        actions=actions,
        rules=tuple(j.rule.id for j in judged if j.matched),
        reasons=tuple(r for j in judged for r in j.reasons),
        errors=tuple(e for j in judged for e in j.errors),
        violations=violations,
        reads=frozenset().union(*(j.reads for j in judged)) | (before.reads if before else frozenset()),
        disclosures=tuple(d for j in acted if (d := _disclosure(j.rule)) is not None),
    )


def _verdict(action: Action) -> Verdict:
    return "allow" if isinstance(action, Verify) else action.do


def _disclosure(rule: Rule) -> Disclosure | None:
    model = rule.model
    if model.disclose == "nothing":
        return None
    return Disclosure(model.category, model.id, model.why) if model.disclose == "reason" else Disclosure(model.category)
