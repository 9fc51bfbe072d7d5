"""The predicate `toxicity_at_least`: how toxic the prompt is."""

from __future__ import annotations

from policies.fields import UnitFloat
from policies.predicates.predicate import Predicate, RuleScope
from policies.predicates.scores import ScoreCheck

__all__ = ["PREDICATE"]


def _compile(at_least: float, scope: RuleScope) -> ScoreCheck:
    return ScoreCheck("prompt", "toxicity", at_least)


PREDICATE = Predicate("toxicity_at_least", UnitFloat, _compile)
