"""Compiled `verify` actions: whether a finished picture fails one."""

from __future__ import annotations

from dataclasses import dataclass

from policies.evidence import Evidence
from policies.format.model import VerifyModel
from policies.judgement import Judgement
from policies.predicates.predicate import RuleScope
from policies.predicates.scores import ScoreCheck
from policies.predicates.words import NearWordsModel, WordCheck

__all__ = ["VerifyRule"]


@dataclass(frozen=True, slots=True)
class VerifyRule:
    """A `verify` action with its lists resolved."""

    model: VerifyModel
    check: WordCheck | ScoreCheck

    @classmethod
    def of(cls, model: VerifyModel, scope: RuleScope) -> VerifyRule:
        """The compiled action of the rule of `scope`."""
        if model.below is not None:
            return cls(model, ScoreCheck("picture", model.read, model.below))
        assert model.none_of is not None  # INVARIANT: the model holds `below` or `none_of`
        words = NearWordsModel(
            any_of=model.none_of, unless=model.unless, near=model.near, near_unless=model.near_unless
        )
        return cls(model, WordCheck.of(words, "picture", "lettering", scope))

    def fails(self, evidence: Evidence, rule: str) -> Judgement:
        """Whether the picture fails."""
        return self.check.judge(evidence, rule)
