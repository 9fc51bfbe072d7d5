"""`decide`: a pure function of request, signals and snapshot. The order of rules and files does not matter.

Each rule in force is judged on its own, and the strictest verdict wins. A rule that cannot be judged does what its
`on_error` says. Exceptions are judged after a rule has matched, so the decision still shows what the rule would have
done. Shadow rules run through the same code and change only the field `shadow`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from policies.decide.decision import Decision, Exemption, RuleError, Shadow, Violation
from policies.decide.donor import replacements
from policies.decide.rollout import Force, force_of, tightened, watches
from policies.decide.rules import Rule
from policies.decide.snapshot import Snapshot
from policies.evidence import Evidence
from policies.format.actions import Action, Block, OnError, ReviewHold, Steer, Verdict, Verify, strictest
from policies.format.model import SteerModel
from policies.judgement import FALSE, Judgement, Reason
from policies.predicates.compound import may_hold
from policies.types import Request, Signals, Stage, sentinel_of

__all__ = ["decide"]


class _Judged(NamedTuple):
    """The result of one rule. It is a tuple, because a request that triggers many rules makes many of these."""

    rule: Rule
    enforced: bool
    matched: bool = False
    actions: tuple[Action, ...] = ()
    reasons: tuple[Reason, ...] = ()
    errors: tuple[RuleError, ...] = ()
    violations: tuple[Violation, ...] = ()
    reads: frozenset[str] = frozenset()
    exempted: tuple[Exemption, ...] = ()


def decide(
    request: Request,
    signals: Signals,
    snapshot: Snapshot,
    *,
    stage: Stage = "prompt",
    before: Decision | None = None,
) -> Decision:
    """The decision of `snapshot` on `request`.

    At stage `picture`, `signals` hold the signals of the prompt and of one picture, and `before` is the decision on the
    prompt. Its rules stay in force, so the verdict is never milder than that of the prompt.
    """
    evidence = Evidence(request, signals, snapshot.matcher, stage)
    tight = tightened(snapshot, request)
    judged = [
        _judge(rule, evidence, snapshot, force, before)
        for rule in _awake(snapshot, evidence, before)
        if (force := force_of(rule, request, snapshot, tight)) is not None
    ]
    decision = _aged(_compose([j for j in judged if j.enforced], stage, snapshot, before), request, snapshot)
    if all(j.enforced for j in judged):
        return decision
    imagined = _compose(judged, stage, snapshot, before)
    watched = [j for j in judged if not j.enforced]
    shadow = Shadow(
        strictest([imagined.verdict, decision.verdict]),
        tuple(j.rule.id for j in watched if j.matched),
        tuple(r for j in watched for r in j.reasons),
        tuple(e for j in watched for e in j.errors),
        tuple(e for j in watched for e in j.exempted),
    )
    return replace(decision, reads=decision.reads | imagined.reads, shadow=shadow)


def _aged(decision: Decision, request: Request, snapshot: Snapshot) -> Decision:
    """The decision with the effect of stale policies: those with `on_stale: refuse` block every request."""
    stale = snapshot.stale(request.now)
    if not stale:
        return decision
    assert snapshot.as_of is not None  # INVARIANT: nothing without a date is stale
    errors = tuple(
        RuleError(f.policy, f"policy `{f.policy}` was last current at {snapshot.as_of:%Y-%m-%d %H:%M} UTC", "block")
        for f in stale
        if f.on_stale == "refuse"
    )
    return replace(
        decision,
        verdict="block" if errors else decision.verdict,
        actions=(*decision.actions, *(Block(e.rule) for e in errors)),
        errors=(*decision.errors, *errors),
        stale=tuple(f.policy for f in stale),
    )


def _awake(snapshot: Snapshot, evidence: Evidence, before: Decision | None) -> Iterable[Rule]:
    """The rules that may hold, by id: those with a trigger in this request, those that watch and see something, and
    those in force already."""
    woken = set(snapshot.always)
    if evidence.request.given:
        woken.update(i for i, r in enumerate(snapshot.rules) if r.verifies and not r.sleeps)
    for trigger in evidence.present(snapshot.names):
        woken.update(snapshot.by_trigger.get(trigger, ()))
    if evidence.stage == "prompt":
        woken.update(snapshot.watchers)
    elif snapshot.watching:
        for trigger in evidence.present({(stage, name) for stage, name, _ in snapshot.watching}):
            woken.update(snapshot.watching.get(trigger, ()))
    if before is not None:
        earlier = {*before.rules, *(e.rule for e in before.errors)}
        if before.shadow is not None:
            earlier |= {*before.shadow.rules, *(e.rule for e in before.shadow.errors)}
        woken.update(i for i, r in enumerate(snapshot.rules) if r.id in earlier)
    return [snapshot.rules[i] for i in sorted(woken)]


def _judge(rule: Rule, evidence: Evidence, snapshot: Snapshot, force: Force, before: Decision | None) -> _Judged:
    """The result of the rule, or the exception that spares the request from it."""
    judged = _judge_unsparing(rule, evidence, snapshot, force, before)
    if not rule.exceptions or not force.spares or not (judged.matched or judged.errors):
        return judged
    for exception in rule.exceptions:
        if evidence.request.now < exception.expires and exception.when.judge(evidence, rule.id).truth:
            spared = Exemption(rule.id, exception.id, judged.reasons)
            return _Judged(rule, force.enforced, exempted=(spared,))
    return judged


def _judge_unsparing(
    rule: Rule, evidence: Evidence, snapshot: Snapshot, force: Force, before: Decision | None
) -> _Judged:
    blocked = _blocked_by_error(rule, force.on_error, before)
    if blocked is not None:
        return _on_error(rule, blocked.text, evidence, snapshot, force)
    judgement = rule.when.judge(evidence, rule.id)
    earlier = _earlier(rule, before)
    if judgement.truth or earlier is not None:
        return _matched(rule, judgement, evidence, snapshot, force, earlier)
    if judgement.error is not None:
        return _on_error(rule, judgement.error, evidence, snapshot, force)
    if not watches(rule, evidence.request, snapshot) or not may_hold(rule.when, evidence, rule.id):
        return _Judged(rule, force.enforced, reads=judgement.pending)
    seen = _seen(rule, evidence)
    if seen.truth:
        return _matched(rule, seen, evidence, snapshot, force, None)
    if seen.error is not None:
        return _on_error(rule, seen.error, evidence, snapshot, force)
    return _Judged(rule, force.enforced, reads=judgement.pending | rule.verified)


def _seen(rule: Rule, evidence: Evidence) -> Judgement:
    """Whether the picture fails one of the rule's verifications, although its prompt asked for nothing."""
    if evidence.stage == "prompt":
        return FALSE
    failed = [verify.fails(evidence, rule.id) for verify in rule.verifies]
    reasons = tuple(r for f in failed if f.truth for r in f.reasons)
    if reasons:
        return Judgement(True, reasons)
    return next((f for f in failed if f.error is not None), FALSE)


def _blocked_by_error(rule: Rule, on_error: OnError, before: Decision | None) -> RuleError | None:
    """The error because of which `rule` blocked in `before`; the picture cannot lift that block."""
    if before is None or on_error != "block":
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


def _on_error(rule: Rule, error: str, evidence: Evidence, snapshot: Snapshot, force: Force) -> _Judged:
    """The result that `on_error` asks for: a block, the rule applied as if it had matched, or a note only."""
    note = RuleError(rule.id, error, force.on_error)
    if force.on_error == "block":
        return _Judged(rule, force.enforced, actions=(Block(rule.id),), errors=(note,))
    if force.on_error == "allow":
        return _Judged(rule, force.enforced, errors=(note,))
    judged = _matched(rule, Judgement(True), evidence, snapshot, force, None, blind=True)
    return judged._replace(matched=True, errors=(note, *judged.errors))


def _matched(
    rule: Rule,
    judgement: Judgement,
    evidence: Evidence,
    snapshot: Snapshot,
    force: Force,
    earlier: tuple[Reason, ...] | None,
    *,
    blind: bool = False,
) -> _Judged:
    """The result of a rule in force: its actions, and at stage `picture` its failed verifications.

    A rule that first matches because of the picture has steered nothing yet, so the picture violates it. That does not
    hold for a `blind` rule, which matches because of an error. A shadow rule that would have steered is not verified,
    because the picture that it would have made does not exist.
    """
    reasons = judgement.reasons if judgement.truth else earlier or ()
    actions = tuple(
        _steer(a, rule, reasons, evidence, snapshot, force) if isinstance(a, SteerModel) else a for a in rule.actions
    )
    reads = rule.verified | judgement.pending if judgement.pending else rule.verified
    if evidence.stage == "prompt" or (not force.enforced and earlier is not None and rule.steers):
        return _Judged(rule, force.enforced, True, actions, reasons, reads=reads)
    errors: list[RuleError] = []
    violations: list[Violation] = []
    more: list[Action] = []
    late = earlier is None and not blind
    unasked = late and bool(rule.steers)
    for verify, action in zip(rule.verifies, (a for a in actions if isinstance(a, Verify)), strict=True):
        failed = verify.fails(evidence, rule.id)
        if failed.error is not None:
            errors.append(RuleError(rule.id, failed.error, force.on_error))
            more.extend(_after_error(rule, action, force.on_error))
        elif failed.truth or (late and _woke(rule, verify.model.read)):
            violations.append(Violation(rule.id, action, failed.reasons or reasons, unasked))
    return _Judged(rule, force.enforced, True, (*actions, *more), reasons, tuple(errors), tuple(violations), reads)


def _woke(rule: Rule, read: str) -> bool:
    """Whether `when` itself looks at the picture for what is verified, by a classifier or by the sentinel."""
    return read in rule.reads or sentinel_of(read) in rule.reads


def _after_error(rule: Rule, verify: Verify, on_error: OnError) -> tuple[Action, ...]:
    """The actions for a picture that could not be read: no ladder, only what `on_error` says."""
    if on_error == "allow":
        return ()
    held = on_error == "apply" and verify.otherwise == "review-hold"
    return (ReviewHold(rule.id),) if held else (Block(rule.id),)


def _steer(
    model: SteerModel, rule: Rule, reasons: tuple[Reason, ...], evidence: Evidence, snapshot: Snapshot, force: Force
) -> Steer:
    strength = model.strength if force.strength is None else force.strength
    asked = (s.span for s in evidence.signals.of("prompt", "lettering") if s.span is not None and s.text)
    return Steer(
        rule.id,
        model.concept,
        model.toward,
        replacements(model.toward, reasons, evidence.request, snapshot.words, policy=rule.policy, asked=asked),
        None if isinstance(strength, str) else strength,
        rule.model.unfit,
    )


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
        reads=snapshot.watched.union(*(j.reads for j in judged), before.reads if before else ()),
        disclosures=tuple(j.rule.disclosure for j in acted if j.rule.disclosure is not None),
        exempted=tuple(e for j in judged for e in j.exempted),
    )


def _verdict(action: Action) -> Verdict:
    return "allow" if isinstance(action, Verify) else action.do
