"""Words: `prompt`, and the search for list entries that `lettering`, `picture` and `verify` share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from policies.evidence import Evidence, FoundMatch, Trigger
from policies.fields import FormatModel, Words
from policies.judgement import FALSE, Judgement, Reason
from policies.predicates.condition import Lists, SingleCondition
from policies.predicates.predicate import Predicate, RuleScope
from policies.types import Span, Stage, TextSource

__all__ = ["PREDICATE", "WordCheck", "WordsModel"]

_MOST = 64  # reasons of one predicate; a request that repeats a word a thousand times needs no more

_SAID = {
    ("prompt", "text"): "the request says",
    ("prompt", "lettering"): "lettering that is asked for says",
    ("picture", "lettering"): "the picture reads",
}


class WordsModel(FormatModel):
    """Words and `$lists` looked for in whole texts; a word inside a word of `unless` does not count."""

    any_of: Words
    unless: Words | None = None
    views: Literal["all", "plain"] = "all"


@dataclass(frozen=True, slots=True)
class WordCheck(SingleCondition):
    """Whether a text called `name` holds a word of `lists`. A match inside one of `unless` does not count."""

    stage: Stage
    name: Literal["text", "lettering"]
    lists: frozenset[str]
    unless: frozenset[str] = frozenset()
    plain: bool = False

    @staticmethod
    def of(words: WordsModel, stage: Stage, name: Literal["text", "lettering"], scope: RuleScope) -> WordCheck:
        """The check for `words` with their lists resolved."""
        lists = scope.resolve(words.any_of)
        return WordCheck(stage, name, lists, scope.resolve(words.unless or ()), words.views == "plain")

    def judge(self, evidence: Evidence, rule: str) -> Judgement:
        unknown = evidence.unknown(self.stage, self.name)
        if unknown is not None:
            return unknown
        reasons = tuple(self._reason(hit, rule) for hit in self._hits(evidence))
        return Judgement(True, reasons) if reasons else FALSE

    def triggers(self) -> frozenset[Trigger]:
        return frozenset({(self.stage, self.name, name) for name in self.lists} | {(self.stage, self.name, "?")})

    def looks_at(self) -> frozenset[tuple[Stage, str]]:
        return frozenset({(self.stage, self.name)})

    def implies(self, other: SingleCondition, lists: Lists, others: Lists) -> bool:
        if not isinstance(other, WordCheck):
            return False
        same = (self.stage, self.name) == (other.stage, other.name) and (self.plain or not other.plain)
        found = _entries(self.lists, lists) <= _entries(other.lists, others)
        return same and found and _entries(other.unless, others) <= _entries(self.unless, lists)

    def findable(self, lists: Lists) -> frozenset[str]:
        """The entries that can be found in some text: those that are not themselves in `unless`."""
        return _entries(self.lists, lists) - _entries(self.unless, lists) - {""}

    def _hits(self, evidence: Evidence) -> list[FoundMatch]:
        """The matches that count, by place, each place and word once."""
        found = evidence.found(self.stage, self.name)
        hits = [f for of in found if of in self.lists for f in found[of] if f.match.plain or not self.plain]
        if hits and self.unless:
            innocent = [f for name in self.unless for f in found.get(name, ())]
            hits = [h for h in hits if not any(_covers(i, h) for i in innocent)]
        if len(hits) < 2:
            return hits
        kept: dict[tuple[int, int, int, str], FoundMatch] = {}
        for hit in hits:  # the mildest view comes first and gives the reason
            kept.setdefault((id(hit.signal), hit.match.start, hit.match.end, hit.match.word), hit)
        return sorted(kept.values(), key=lambda f: (f.match.start, f.match.end, f.match.word))[:_MOST]

    def _reason(self, found: FoundMatch, rule: str) -> Reason:
        match, signal = found
        disguise = "" if match.plain else f" (in disguise, by the view `{match.view}`)"
        source: TextSource = signal.span.source if signal.span else "picture"
        of = next(name for name in match.lists if name in self.lists)
        return Reason(
            rule,
            "prompt" if self.name == "text" else self.name,
            f"{_SAID[self.stage, self.name]} `{match.word}`{disguise}",
            word=match.word,
            list=of.partition("/")[2] or of,
            view=match.view,
            span=Span(source, match.start, match.end),
            box=signal.box,
            score=signal.score,
        )


def _entries(names: Iterable[str], lists: Lists) -> frozenset[str]:
    return frozenset(word for name in names for word in lists.get(name, ()))


def _covers(innocent: FoundMatch, hit: FoundMatch) -> bool:
    a, b = innocent.match, hit.match
    return innocent.signal is hit.signal and a.start <= b.start and b.end <= a.end


def _in_prompt(words: WordsModel, scope: RuleScope) -> WordCheck:
    return WordCheck.of(words, "prompt", "text", scope)


PREDICATE = Predicate("prompt", WordsModel, _in_prompt)
