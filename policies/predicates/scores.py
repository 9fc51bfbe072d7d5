"""A detector's score: the check that `toxicity_at_least`, `concept`, `lettering`, `picture` and `verify` share."""

from __future__ import annotations

from dataclasses import dataclass

from policies.evidence import Evidence, Trigger
from policies.judgement import FALSE, Judgement, Reason
from policies.predicates.condition import Lists, SingleCondition
from policies.types import Stage, concept_of

__all__ = ["ScoreCheck"]

_MOST = 64  # reasons of one predicate


@dataclass(frozen=True, slots=True)
class ScoreCheck(SingleCondition):
    """Whether a signal called `name` reaches the score `at_least`.

    With `lettering`, only signals about the text of lettering that the prompt asks for count.
    """

    stage: Stage
    name: str
    at_least: float
    lettering: bool = False

    def judge(self, evidence: Evidence, rule: str) -> Judgement:
        unknown = evidence.unknown(self.stage, self.name)
        if unknown is not None:
            return unknown
        signals = evidence.signals.of(self.stage, self.name)
        if self.lettering:
            asked = [s.span for s in evidence.signals.of("prompt", "lettering") if s.span]
            signals = tuple(s for s in signals if s.span and any(s.span.within(a) for a in asked))
        hits = [s for s in signals if s.score >= self.at_least]
        if not hits:
            return FALSE
        return Judgement(
            True,
            tuple(
                Reason(
                    rule,
                    self.name,
                    f"{self._said(s.label or self.name)} with a score of {s.score:.2f}",
                    span=s.span,
                    box=s.box,
                    score=s.score,
                )
                for s in hits[:_MOST]
            ),
        )

    def _said(self, what: str) -> str:
        concept = concept_of(self.name)
        if concept is not None:
            seen = "the encoded prompt" if self.stage == "prompt" else "what the sites wrote"
            return f"{seen} tells `{concept}`"
        return f"the prompt asks for `{what}`" if self.stage == "prompt" else f"the picture shows `{what}`"

    def triggers(self) -> frozenset[Trigger]:
        return frozenset({(self.stage, self.name, "*"), (self.stage, self.name, "?")})

    def looks_at(self) -> frozenset[tuple[Stage, str]]:
        return frozenset({(self.stage, self.name)})

    def implies(self, other: SingleCondition, lists: Lists, others: Lists) -> bool:
        if not isinstance(other, ScoreCheck):
            return False
        same = (self.stage, self.name, self.lettering) == (other.stage, other.name, other.lettering)
        return same and other.at_least <= self.at_least
