"""Words: `prompt`, and the search for list entries that `lettering`, `picture` and `verify` share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from policies.evidence import Evidence, FoundMatch, NearMatch, Trigger, near_trigger
from policies.fields import FormatModel, Words
from policies.judgement import FALSE, Judgement, Reason
from policies.matcher import Match
from policies.predicates.condition import Lists, SingleCondition
from policies.predicates.predicate import Predicate, RuleScope
from policies.types import Signal, Span, Stage, TextSource

__all__ = ["PREDICATE", "NearWordsModel", "WordCheck", "WordsModel", "needs_near"]

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


class NearWordsModel(WordsModel):
    """Words and `$lists` looked for in lettering; with `near: 1` also words one edit away, except `near_unless`."""

    near: Literal[0, 1] = 0
    near_unless: Words | None = None

    @model_validator(mode="after")
    def _check(self) -> NearWordsModel:
        needs_near(self.near, self.near_unless)
        return self


def needs_near(near: int, near_unless: object) -> None:
    """Raises `PydanticCustomError` for a `near_unless` that nothing is near to."""
    if near_unless is not None and not near:
        raise PydanticCustomError("near", "`near_unless` needs `near: 1`; words and phrases go into `unless`")


@dataclass(frozen=True, slots=True)
class WordCheck(SingleCondition):
    """Whether a text called `name` holds a word of `lists`. A match inside one of `unless` does not count.

    With `near`, a word one edit away from an entry, or one that looks like it, counts too. `near_unless` spares near
    words only, never a match: `sh*t` may be read as `shot`, which is an innocent word.
    """

    stage: Stage
    name: Literal["text", "lettering"]
    lists: frozenset[str]
    unless: frozenset[str] = frozenset()
    plain: bool = False
    near: bool = False
    near_unless: frozenset[str] = frozenset()

    @staticmethod
    def of(words: WordsModel, stage: Stage, name: Literal["text", "lettering"], scope: RuleScope) -> WordCheck:
        """The check for `words` with their lists resolved."""
        lists, unless, plain = scope.resolve(words.any_of), scope.resolve(words.unless or ()), words.views == "plain"
        if not isinstance(words, NearWordsModel) or not words.near:
            return WordCheck(stage, name, lists, unless, plain)
        innocent = scope.resolve(words.near_unless or ())
        scope.near.update(lists)
        scope.innocent.update(innocent)
        return WordCheck(stage, name, lists, unless, plain, near=True, near_unless=innocent)

    def judge(self, evidence: Evidence, rule: str) -> Judgement:
        unknown = evidence.unknown(self.stage, self.name)
        if unknown is not None:
            return unknown
        hits = self._hits(evidence)
        reasons = tuple(self._reason(hit, rule) for hit in hits)
        if self.near:
            reasons += tuple(self._near_reason(near, rule) for near in self._near_hits(evidence, hits))
        return Judgement(True, reasons) if reasons else FALSE

    def triggers(self) -> frozenset[Trigger]:
        near = {near_trigger(self.stage, self.name, name) for name in self.lists if self.near}
        return frozenset({(self.stage, self.name, name) for name in self.lists} | {(self.stage, self.name, "?")} | near)

    def looks_at(self) -> frozenset[tuple[Stage, str]]:
        return frozenset({(self.stage, self.name)})

    def implies(self, other: SingleCondition, lists: Lists, others: Lists) -> bool:
        if not isinstance(other, WordCheck):
            return False
        same = (self.stage, self.name) == (other.stage, other.name) and (self.plain or not other.plain)
        found = _entries(self.lists, lists) <= _entries(other.lists, others)
        spared = _entries(other.unless, others) <= _entries(self.unless, lists)
        if self.near:
            spared &= other.near and _entries(other.near_unless, others) <= _entries(self.near_unless, lists)
        return same and found and spared

    def findable(self, lists: Lists) -> frozenset[str]:
        """The entries that can be found in some text: those that are not themselves in `unless`."""
        return _entries(self.lists, lists) - _entries(self.unless, lists) - {""}

    def _hits(self, evidence: Evidence) -> list[FoundMatch]:
        """The matches that count, by place, each place and word once."""
        found = evidence.found(self.stage, self.name)
        hits = [f for of in found if of in self.lists for f in found[of] if f.match.plain or not self.plain]
        if hits and self.unless:
            innocent = [f for name in self.unless for f in found.get(name, ())]
            hits = [h for h in hits if not any(_covers(i, h.signal, h.match) for i in innocent)]
        if len(hits) < 2:
            return hits
        kept: dict[tuple[int, int, int, str], FoundMatch] = {}
        for hit in hits:  # the mildest view comes first and gives the reason
            kept.setdefault((id(hit.signal), hit.match.start, hit.match.end, hit.match.word), hit)
        return sorted(kept.values(), key=lambda f: (f.match.start, f.match.end, f.match.word))[:_MOST]

    def _near_hits(self, evidence: Evidence, hits: Iterable[FoundMatch]) -> list[NearMatch]:
        """The near words that count, by place, each place once: none where a match counts already."""
        near = [n for n in evidence.near(self.stage, self.name) if self._counts(n)]
        if not near:
            return []
        found = evidence.found(self.stage, self.name)
        unless = [f for name in self.unless for f in found.get(name, ())]
        innocent = [f for name in self.near_unless for f in found.get(name, ())]
        kept: dict[tuple[int, int, int], NearMatch] = {}
        for hit in near:
            spared = (*unless, *(f for f in innocent if f.match.view == hit.view))
            if not any(_overlaps(f, hit) for f in hits) and not any(_covers(f, hit.signal, hit) for f in spared):
                kept.setdefault((id(hit.signal), hit.start, hit.end), hit)
        return sorted(kept.values(), key=lambda n: (n.start, n.end))[:_MOST]

    def _counts(self, near: NearMatch) -> bool:
        if self.plain and near.view != "folded":
            return False
        return not near.innocent & self.near_unless and not self.lists.isdisjoint(near.near)

    def _near_reason(self, found: NearMatch, rule: str) -> Reason:
        near, of = min((near, of) for of, near in found.near.items() if of in self.lists)
        return Reason(
            rule,
            "near",
            f"{_SAID[self.stage, self.name]} `{found.said}`, {near}",
            word=near.word,
            list=_short(of),
            view=found.view,
            span=Span(_source(found.signal), found.start, found.end),
            box=found.signal.box,
            score=found.signal.score,
        )

    def _reason(self, found: FoundMatch, rule: str) -> Reason:
        match, signal = found
        disguise = "" if match.plain else f" (in disguise, by the view `{match.view}`)"
        of = next(name for name in match.lists if name in self.lists)
        return Reason(
            rule,
            "prompt" if self.name == "text" else self.name,
            f"{_SAID[self.stage, self.name]} `{match.word}`{disguise}",
            word=match.word,
            list=_short(of),
            view=match.view,
            span=Span(_source(signal), match.start, match.end),
            box=signal.box,
            score=signal.score,
        )


def _entries(names: Iterable[str], lists: Lists) -> frozenset[str]:
    return frozenset(word for name in names for word in lists.get(name, ()))


def _short(of: str) -> str:
    """The name of the list `of` in its policy."""
    return of.partition("/")[2] or of


def _source(signal: Signal) -> TextSource:
    return signal.span.source if signal.span else "picture"


def _overlaps(found: FoundMatch, near: NearMatch) -> bool:
    return found.signal is near.signal and found.match.start < near.end and near.start < found.match.end


def _covers(innocent: FoundMatch, signal: Signal, hit: Match | NearMatch) -> bool:
    match = innocent.match
    return _same_text(innocent.signal, signal) and match.start <= hit.start and hit.end <= match.end


def _same_text(one: Signal, other: Signal) -> bool:
    """Whether both signals are about one text of the request, so that places in it can be compared."""
    if one is other:
        return True
    return one.span is not None and other.span is not None and one.span.source == other.span.source != "picture"


def _in_prompt(words: WordsModel, scope: RuleScope) -> WordCheck:
    return WordCheck.of(words, "prompt", "text", scope)


PREDICATE = Predicate("prompt", WordsModel, _in_prompt)
