"""Compiled `verify` actions: whether a finished picture fails one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from policies.evidence import Evidence
from policies.format.model import VerifyModel
from policies.judgement import Judgement, Reason
from policies.matcher import Near
from policies.predicates.predicate import RuleScope
from policies.predicates.scores import ScoreCheck
from policies.predicates.words import WordCheck, WordsModel

__all__ = ["VerifyRule"]


@dataclass(frozen=True, slots=True)
class VerifyRule:
    """A `verify` action with its lists resolved; `near` holds the entries that count within one edit."""

    model: VerifyModel
    check: WordCheck | ScoreCheck
    near: Near | None = None

    @classmethod
    def of(cls, model: VerifyModel, scope: RuleScope) -> VerifyRule:
        """The compiled action of the rule of `scope`."""
        if model.below is not None:
            return cls(model, ScoreCheck("picture", model.read, model.below))
        assert model.none_of is not None  # INVARIANT: the model holds `below` or `none_of`
        words = WordsModel(any_of=model.none_of, unless=model.unless)
        check = WordCheck.of(words, "picture", "lettering", scope)
        near = Near(w for name in sorted(check.lists) for w in scope.lists[name]) if model.near else None
        return cls(model, check, near)

    def fails(self, evidence: Evidence, rule: str) -> Judgement:
        """Whether the picture fails: by the check, or by a word within one edit of an entry."""
        judgement = self.check.judge(evidence, rule)
        if judgement.truth is False and self.near is not None:
            reasons = tuple(self._near_misses(self.near, evidence, rule))
            return Judgement(True, reasons) if reasons else judgement
        return judgement

    def _near_misses(self, near: Near, evidence: Evidence, rule: str) -> Iterable[Reason]:
        assert isinstance(self.check, WordCheck)  # INVARIANT: `near` comes with `none_of` only
        innocent = evidence.found("picture", "lettering")
        spared = {f.match.word for name in self.check.unless for f in innocent.get(name, ())}
        for signal in evidence.signals.of("picture", "lettering"):
            tokens = dict.fromkeys(t for v in signal.views for t in (v.text.replace(" ", ""), *v.text.split()))
            for token in tokens:
                word = near.find(token)
                if word is not None and token not in spared:
                    text = f"the picture reads `{signal.text}`, one letter away from `{word}`"
                    yield Reason(rule, "near", text, word=word, box=signal.box, score=signal.score)
                    break
