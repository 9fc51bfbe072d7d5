"""Runs the tests in policy files: examples that must hold before a policy goes live.

They run on the text detectors and on signals that the test gives, without a model, so they take milliseconds. Canary
rules count as enforced. `now` is 1970 unless the test sets it, so a test does not depend on the day it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from policies.decide.decide import decide
from policies.decide.decision import Decision
from policies.decide.snapshot import Snapshot
from policies.fields import length, moment
from policies.format.examples import Expect, Given, GivenPicture, GivenSignals, GivenStrikes
from policies.types import EPOCH, Request, Signal, Signals, Stage, Strike, Strikes, concept_of, sentinel_of

__all__ = ["TestResult", "run_tests"]


@dataclass(frozen=True, slots=True)
class TestResult:
    """The result of one test of a policy; `message` holds the expected and the actual values, empty when it passed."""

    __test__ = False

    policy: str
    index: int
    name: str
    passed: bool
    message: str = ""


def run_tests(snapshot: Snapshot, sense: Callable[[Request], Signals]) -> Iterator[TestResult]:
    """The results of all tests in all policies of `snapshot`, each decided under the whole snapshot.

    In lists of rules, those of other policies count only where the test names them: a policy cannot know what it is
    served beside.
    """
    snapshot = replace(snapshot, draw_canaries=False)
    for policy in snapshot.policies:
        own = {policy.name, *(rule.id for rule in policy.rules)}  # a policy that is too old has an error of its own
        for i, test in enumerate(policy.tests):
            request = _request(test.given)
            decision = _decide(request, test.given, _aged(snapshot, test.given, request), sense)
            wrong = "; ".join(_differences(test.expect, decision, request, own))
            yield TestResult(policy.name, i, test.name, not wrong, wrong)


def _request(given: Given) -> Request:
    now = moment(given.now) or EPOCH
    strikes = _strikes(given.strikes)
    return Request(given.prompt, given.negative_prompt, tenant=given.tenant, id=given.id, now=now, strikes=strikes)


def _strikes(given: list[GivenStrikes]) -> Strikes:
    items: list[Strike] = []
    for each in given:
        categories = None if each.category is None else frozenset({each.category})
        items += [Strike(each.of, categories, length(each.ago) if each.ago else timedelta())] * each.count
    return Strikes(tuple(items))


def _aged(snapshot: Snapshot, given: Given, request: Request) -> Snapshot:
    """The snapshot with the age that the test gives; current without one."""
    return replace(snapshot, as_of=request.now - length(given.age) if given.age else None)


def _decide(request: Request, given: Given, snapshot: Snapshot, sense: Callable[[Request], Signals]) -> Decision:
    signals = sense(request)
    if given.signals is not None:
        signals = _with_given(signals, given.signals)
    decision = decide(request, signals, snapshot)
    if given.picture is None:
        return decision
    picture = _picture(given.picture, snapshot, sense)
    return decide(request, signals + picture, snapshot, stage="picture", before=decision)


def _with_given(signals: Signals, given: GivenSignals) -> Signals:
    """`signals` with the test's own signals in place of the detectors'."""
    toxicity = {"toxicity": given.toxicity} if given.toxicity is not None else {}
    scores = {**given.concept, **toxicity, **_sentinels(given.sentinel)}
    replaced = {*scores, *given.errors}
    kept = tuple(s for s in signals.items if s.name not in replaced)
    return Signals(kept, signals.covered - {("prompt", n) for n in replaced}) + _as_signals(
        scores, given.errors, "prompt"
    )


def _picture(given: GivenPicture, snapshot: Snapshot, sense: Callable[[Request], Signals]) -> Signals:
    """The picture's signals: those that are given, texts with their views, and nothing found for all other names."""
    names = {"lettering", *snapshot.reads} - set(given.errors)
    covered: set[tuple[Stage, str]] = {("picture", n) for n in names}
    covered |= {("prompt", n) for n in names if concept_of(n) is not None}  # by then sentinels have told of the text
    silent = Signals(covered=frozenset(covered))
    pieces = given.lettering or []
    joined = [" ".join(pieces)] if len(pieces) > 1 else []  # as a reader gives them: each, and all in one
    texts = tuple(
        replace(signal, name="lettering", stage="picture", span=None)
        for text in (*pieces, *joined)
        for signal in sense(Request(text)).of("prompt", "text")
    )
    scores = given.concept | _sentinels(given.sentinel)
    return silent + Signals(texts) + _as_signals(scores, given.errors, "picture")


def _sentinels(scores: dict[str, float]) -> dict[str, float]:
    return {sentinel_of(concept): score for concept, score in scores.items()}


def _as_signals(scores: dict[str, float], errors: list[str], stage: Stage) -> Signals:
    found = tuple(Signal(name, "given", "1", stage, score) for name, score in scores.items())
    failed = tuple(Signal(name, "given", "1", stage, error="the test says so") for name in errors)
    return Signals(found + failed, frozenset((stage, name) for name in scores))


def _differences(expect: Expect, decision: Decision, request: Request, own: Collection[str]) -> Iterator[str]:
    watched = decision.shadow.rules if decision.shadow else ()
    spared = [e.rule for e in (*decision.exempted, *(decision.shadow.exempted if decision.shadow else ()))]
    got = {
        "verdict": decision.verdict,
        "matched": sorted({*decision.rules, *watched, *spared}),
        "rules": sorted(decision.rules),
        "shadow": sorted(decision.shadow.rules) if decision.shadow else [],
        "exempted": sorted(e.rule for e in decision.exempted),
        "errors": sorted({e.rule for e in decision.errors}),
        "violations": sorted({v.rule for v in decision.violations}),
        "donor": next((d for s in decision.steers if (d := s.donor(request)) is not None), None),
    }
    for name in expect.model_fields_set:
        wanted = getattr(expect, name)
        told = got[name]
        if isinstance(told, list) and isinstance(wanted, list):
            wanted = sorted(wanted)
            told = [rule for rule in told if rule in own or rule in wanted]
        if told != wanted:
            yield f"expected {name} `{_said(wanted)}`, got `{_said(told)}`"


def _said(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
