"""The predicate `picture`: what the finished picture shows."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import model_validator

from policies.fields import FormatModel, exactly_one, just_one
from policies.predicates.concept import ConceptModel
from policies.predicates.predicate import Need, Predicate, RuleScope
from policies.predicates.scores import ScoreCheck
from policies.predicates.words import NearWordsModel, WordCheck

__all__ = ["PREDICATE", "PictureModel"]


class PictureModel(FormatModel):
    """What the finished picture shows: words that can be read in it, or a concept."""

    model_config = exactly_one("lettering", "concept")

    lettering: NearWordsModel | None = None
    concept: ConceptModel | None = None

    @model_validator(mode="after")
    def _check(self) -> PictureModel:
        just_one(self, ("lettering", "concept"), "`picture`")
        return self


def _compile(picture: PictureModel, scope: RuleScope) -> WordCheck | ScoreCheck:
    if picture.lettering is not None:
        return WordCheck.of(picture.lettering, "picture", "lettering", scope)
    assert picture.concept is not None  # INVARIANT: the model holds exactly one of the two
    return ScoreCheck("picture", picture.concept.name, picture.concept.at_least)


def _needs(picture: PictureModel) -> Iterable[Need]:
    yield Need("picture", picture.concept.name if picture.concept else "lettering", ("picture",))


PREDICATE = Predicate("picture", PictureModel, _compile, _needs)
