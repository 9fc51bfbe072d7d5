"""Answers the conditions of rules from the signals of one request: true, false, or not known and why.

Not known has two causes that are kept apart: a detector failed or nobody looked (an error, which makes the answer
stricter), and the picture does not exist yet (pending, which makes the service read it). `all`, `any` and `none` are
Kleene's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from policies.decide.decision import Reason
from policies.decide.matcher import Match, Matcher
from policies.decide.rules import Compound, Condition, Finding, TenantCheck, Trigger, VerifyRule, WordCheck
from policies.decide.snapshot import Snapshot
from policies.types import Request, Signal, Signals, Source, Span, Stage

__all__ = ["Evidence", "Outcome"]

_MOST = 64  # reasons of one predicate; a request that repeats a word a thousand times needs no more


class Outcome(NamedTuple):
    """What a condition came to: `truth` None means not known, because of `error` or because `pending` is not read
    yet."""

    truth: bool | None
    reasons: tuple[Reason, ...] = ()
    error: str | None = None
    pending: frozenset[str] = frozenset()


_FALSE = Outcome(False)


class _Found(NamedTuple):
    match: Match
    signal: Signal


@dataclass(slots=True)
class Evidence:
    """The signals of one request as conditions want them; matches are looked up once and kept.

    At stage `prompt` the picture is pending. Built for one decision and thrown away with it.
    """

    request: Request
    signals: Signals
    matcher: Matcher
    stage: Stage
    _matches: dict[tuple[Stage, str], dict[str, list[_Found]]] = field(default_factory=dict)
    _silences: dict[tuple[Stage, str], Outcome | None] = field(default_factory=dict)

    def judge(self, when: Condition, rule: str) -> Outcome:
        """What `when` comes to; reasons carry the name of `rule`."""
        if isinstance(when, WordCheck | Finding):
            return self._ask(when, rule)
        if isinstance(when, Compound):
            return _combine(when.kind, [self.judge(p, rule) for p in when.parts])
        if isinstance(when, TenantCheck):
            said = f"the tenant is `{self.request.tenant}`"
            return Outcome(True, (Reason(rule, "tenant", said),)) if when.holds(self.request.tenant) else _FALSE
        said = f"the time is {self.request.now:%Y-%m-%d %H:%M} UTC"
        return Outcome(True, (Reason(rule, "time", said),)) if when.holds(self.request.now) else _FALSE

    def fails(self, verify: VerifyRule, rule: str) -> Outcome:
        """Whether the picture fails `verify`: its check, or an entry within one edit of a word that was read."""
        outcome = self.judge(verify.check, rule)
        if outcome.truth is False and verify.near is not None:
            reasons = tuple(self._near(verify, rule))
            return Outcome(True, reasons) if reasons else outcome
        return outcome

    def present(self, snapshot: Snapshot) -> Iterable[Trigger]:
        """The triggers that these signals pull, of those that the snapshot's rules wait for."""
        for stage, name in snapshot.names:
            if self._unknown(stage, name) is not None:
                yield (stage, name, "?")
                continue
            if self.signals.of(stage, name):
                yield (stage, name, "*")
            if name in ("text", "lettering"):
                for found in self._found(stage, name):
                    yield (stage, name, found)

    def _ask(self, check: WordCheck | Finding, rule: str) -> Outcome:
        unknown = self._unknown(check.stage, check.name)
        if unknown is not None:
            return unknown
        reasons = self._words(check, rule) if isinstance(check, WordCheck) else self._finding(check, rule)
        return Outcome(True, reasons) if reasons else _FALSE

    def _unknown(self, stage: Stage, name: str) -> Outcome | None:
        key = (stage, name)
        if key not in self._silences:
            self._silences[key] = self._silence(stage, name)
        return self._silences[key]

    def _silence(self, stage: Stage, name: str) -> Outcome | None:
        if stage == "picture" and self.stage == "prompt":
            return Outcome(None, pending=frozenset({name}))
        error = self.signals.error(stage, name)
        return None if error is None else Outcome(None, error=error)

    def _words(self, check: WordCheck, rule: str) -> tuple[Reason, ...]:
        found = self._found(check.stage, check.name)
        hits = [f for of in found if of in check.lists for f in found[of] if f.match.plain or not check.plain]
        if hits and check.unless:
            innocent = [f for name in check.unless for f in found.get(name, ())]
            hits = [h for h in hits if not any(_covers(i, h) for i in innocent)]
        if len(hits) < 2:
            return tuple(_reason(f, check, rule) for f in hits)
        kept: dict[tuple[int, int, int, str], _Found] = {}
        for hit in hits:  # the mildest view comes first and gives the reason
            kept.setdefault((id(hit.signal), hit.match.start, hit.match.end, hit.match.word), hit)
        ordered = sorted(kept.values(), key=lambda f: (f.match.start, f.match.end, f.match.word))
        return tuple(_reason(f, check, rule) for f in ordered[:_MOST])

    def _found(self, stage: Stage, name: str) -> dict[str, list[_Found]]:
        """The matches in all views of all signals called `name`, by list."""
        key = (stage, name)
        if key not in self._matches:
            by_list: defaultdict[str, list[_Found]] = defaultdict(list)
            for signal in self.signals.of(stage, name):
                for view in signal.views:
                    for match in self.matcher.find(view):
                        for of in match.lists:
                            by_list[of].append(_Found(match, signal))
            self._matches[key] = dict(by_list)
        return self._matches[key]

    def _finding(self, check: Finding, rule: str) -> tuple[Reason, ...]:
        signals = self.signals.of(check.stage, check.name)
        if check.lettering:
            asked = [s.span for s in self.signals.of("prompt", "lettering") if s.span]
            signals = tuple(s for s in signals if s.span and any(s.span.within(a) for a in asked))
        hits = [s for s in signals if s.score >= check.at_least]
        said = "asks for" if check.stage == "prompt" else "shows"
        return tuple(
            Reason(
                rule,
                check.name,
                f"the {check.stage} {said} `{s.label or check.name}` with a score of {s.score:.2f}",
                span=s.span,
                box=s.box,
                score=s.score,
            )
            for s in hits[:_MOST]
        )

    def _near(self, verify: VerifyRule, rule: str) -> Iterable[Reason]:
        check = verify.check
        assert isinstance(check, WordCheck)
        assert verify.near is not None
        innocent = self._found("picture", "lettering")
        spared = {f.match.word for name in check.unless for f in innocent.get(name, ())}
        for signal in self.signals.of("picture", "lettering"):
            tokens = dict.fromkeys(t for v in signal.views for t in (v.text.replace(" ", ""), *v.text.split()))
            for token in tokens:
                word = verify.near.find(token)
                if word is not None and token not in spared:
                    text = f"the picture reads `{signal.text}`, one letter away from `{word}`"
                    yield Reason(rule, "near", text, word=word, box=signal.box, score=signal.score)
                    break


def _combine(kind: str, parts: list[Outcome]) -> Outcome:
    if kind == "none":
        inner = _combine("any", parts)
        return inner if inner.truth is None else Outcome(not inner.truth)
    decisive = kind == "any"
    if any(p.truth is decisive for p in parts):
        return Outcome(decisive, tuple(r for p in parts if p.truth is decisive for r in p.reasons))
    if all(p.truth is not None for p in parts):
        return Outcome(not decisive, tuple(r for p in parts for r in p.reasons))
    error = next((p.error for p in parts if p.error is not None), None)
    return Outcome(None, error=error, pending=frozenset().union(*(p.pending for p in parts)))


def _covers(innocent: _Found, hit: _Found) -> bool:
    a, b = innocent.match, hit.match
    return innocent.signal is hit.signal and a.start <= b.start and b.end <= a.end


_SAID = {
    ("prompt", "text"): "the request says",
    ("prompt", "lettering"): "lettering that is asked for says",
    ("picture", "lettering"): "the picture reads",
}


def _reason(found: _Found, check: WordCheck, rule: str) -> Reason:
    match, signal = found
    disguise = "" if match.plain else f" (in disguise, by the view `{match.view}`)"
    source: Source = signal.span.source if signal.span else "picture"
    of = next(name for name in match.lists if name in check.lists)
    return Reason(
        rule,
        "prompt" if check.name == "text" else check.name,
        f"{_SAID[check.stage, check.name]} `{match.word}`{disguise}",
        word=match.word,
        list=of.partition("/")[2] or of,
        view=match.view,
        span=Span(source, match.start, match.end),
        box=signal.box,
        score=signal.score,
    )
