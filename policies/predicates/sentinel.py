"""The predicate `sentinel`: whether the sites of a concept's pack tell that the concept is about to be drawn.

Its signals come from the model itself (`steering.Sentinel`): at stage `prompt` what the encoded text could write, known
before the first step, and at stage `picture` what the sites wrote in the first part of the trajectory. Either of the
two is enough.
"""

from __future__ import annotations

from collections.abc import Iterable

from policies.predicates.compound import Compound
from policies.predicates.concept import ConceptModel
from policies.predicates.predicate import Need, Predicate, RuleScope
from policies.predicates.scores import ScoreCheck
from policies.types import sentinel_of

__all__ = ["PREDICATE"]


def _compile(concept: ConceptModel, scope: RuleScope) -> Compound:
    name, least = sentinel_of(concept.name), concept.at_least
    return Compound("any", (ScoreCheck("prompt", name, least), ScoreCheck("picture", name, least)))


def _needs(concept: ConceptModel) -> Iterable[Need]:
    yield Need("picture", sentinel_of(concept.name), ("sentinel", "name"))


PREDICATE = Predicate("sentinel", ConceptModel, _compile, _needs)
