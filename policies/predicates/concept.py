"""The predicate `concept`: whether the prompt asks for a concept."""

from __future__ import annotations

from collections.abc import Iterable

from policies.fields import ConceptName, FormatModel, UnitFloat
from policies.predicates.predicate import Need, Predicate, RuleScope
from policies.predicates.scores import ScoreCheck

__all__ = ["PREDICATE", "ConceptModel"]


class ConceptModel(FormatModel):
    """A concept and the score from which on it counts as present."""

    name: ConceptName
    at_least: UnitFloat = 0.5


def _compile(concept: ConceptModel, scope: RuleScope) -> ScoreCheck:
    return ScoreCheck("prompt", concept.name, concept.at_least)


def _needs(concept: ConceptModel) -> Iterable[Need]:
    yield Need("prompt", concept.name, ("concept", "name"))


PREDICATE = Predicate("concept", ConceptModel, _compile, _needs)
