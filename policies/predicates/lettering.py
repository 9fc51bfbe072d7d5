"""The predicate `lettering`: lettering that the prompt asks for."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from policies.fields import FormatModel, UnitFloat, Words, exactly_one, just_one
from policies.predicates.predicate import Predicate, RuleScope
from policies.predicates.scores import ScoreCheck
from policies.predicates.words import NearWordsModel, WordCheck, needs_near

__all__ = ["PREDICATE", "LetteringModel"]


class LetteringModel(FormatModel):
    """Lettering that is asked for: its words, how toxic it is, or that any is asked for at all."""

    model_config = exactly_one("any_of", "toxicity_at_least", "asked")

    any_of: Words | None = None
    toxicity_at_least: UnitFloat | None = None
    asked: Literal[True] | None = None
    unless: Words | None = None
    views: Literal["all", "plain"] = "all"
    near: Literal[0, 1] = 0
    near_unless: Words | None = None

    @model_validator(mode="after")
    def _check(self) -> LetteringModel:
        just_one(self, ("any_of", "toxicity_at_least", "asked"), "`lettering`")
        if self.any_of is None and self.model_fields_set & {"unless", "views", "near", "near_unless"}:
            said = "`unless`, `views`, `near` and `near_unless` belong to `any_of`; leave them out here"
            raise PydanticCustomError("words", said)
        needs_near(self.near, self.near_unless)
        return self


def _compile(lettering: LetteringModel, scope: RuleScope) -> WordCheck | ScoreCheck:
    if lettering.any_of is not None:
        words = NearWordsModel(**lettering.model_dump(exclude={"toxicity_at_least", "asked"}))
        return WordCheck.of(words, "prompt", "lettering", scope)
    if lettering.toxicity_at_least is not None:
        return ScoreCheck("prompt", "toxicity", lettering.toxicity_at_least, lettering=True)
    return ScoreCheck("prompt", "lettering", 0.0)


PREDICATE = Predicate("lettering", LetteringModel, _compile)
