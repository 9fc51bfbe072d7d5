"""The signals of one request, prepared for the conditions of rules.

Conditions ask `Evidence` for matches and for missing signals. It looks up each answer once and keeps it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from policies.judgement import Judgement
from policies.matcher import Match, Matcher
from policies.near import NearWord
from policies.types import Request, Signal, Signals, Stage, View, concept_of

__all__ = ["Evidence", "FoundMatch", "NearMatch", "Trigger", "near_trigger"]

# What can make a rule true: (stage, name, what) with `what` a list's name, "~" and a list's name for a near word, "*"
# for any signal, or "?" for unknown
Trigger = tuple[Stage, str, str]

_NEAR_IN = "lettering"  # the signals in whose texts near words are looked for: a scene has too many innocent ones
_WORD = re.compile(r"\S+")


def near_trigger(stage: Stage, name: str, of: str) -> Trigger:
    """A word near to an entry of the list `of`."""
    return (stage, name, "~" + of)


class FoundMatch(NamedTuple):
    """A match and the signal whose text holds it."""

    match: Match
    signal: Signal


@dataclass(frozen=True, slots=True)
class NearMatch:
    """A word of a signal's text, `start` to `end` of the original, that is near to an entry.

    `near` has the nearest entry of each list, `innocent` the lists that spare the word.
    """

    signal: Signal
    said: str
    view: str
    start: int
    end: int
    near: Mapping[str, NearWord]
    innocent: frozenset[str]


@dataclass(slots=True)
class Evidence:
    """The signals of one request and the matches in their texts.

    At stage `prompt` everything about the picture is pending. One `Evidence` serves one decision.
    """

    request: Request
    signals: Signals
    matcher: Matcher
    stage: Stage
    _matches: dict[tuple[Stage, str], dict[str, list[FoundMatch]]] = field(default_factory=dict)
    _near: dict[tuple[Stage, str], tuple[NearMatch, ...]] = field(default_factory=dict)
    _unknowns: dict[tuple[Stage, str], Judgement | None] = field(default_factory=dict)

    def unknown(self, stage: Stage, name: str) -> Judgement | None:
        """The judgement of every condition on `name` at `stage` while its signals are missing; None when they are
        there."""
        key = (stage, name)
        if key not in self._unknowns:
            self._unknowns[key] = self._missing(stage, name)
        return self._unknowns[key]

    def found(self, stage: Stage, name: str) -> dict[str, list[FoundMatch]]:
        """The matches in all views of all signals called `name`, by list."""
        key = (stage, name)
        if key not in self._matches:
            by_list: defaultdict[str, list[FoundMatch]] = defaultdict(list)
            for signal in self.signals.of(stage, name):
                for view in signal.views:
                    for match in self.matcher.find(view):
                        for of in match.lists:
                            by_list[of].append(FoundMatch(match, signal))
            self._matches[key] = dict(by_list)
        return self._matches[key]

    def near(self, stage: Stage, name: str) -> tuple[NearMatch, ...]:
        """The near words in the views of all signals called `name`, each place once."""
        key = (stage, name)
        if key not in self._near:
            able = bool(self.matcher.near) and name == _NEAR_IN
            signals = self.signals.of(stage, name) if able else ()
            self._near[key] = tuple(match for signal in signals for match in self._near_in(signal))
        return self._near[key]

    def _near_in(self, signal: Signal) -> Iterator[NearMatch]:
        seen: set[tuple[str, int, int]] = set()
        for view in signal.views:
            for bounds in _words(view):
                said, place = view.text[slice(*bounds)], view.origin(*bounds)
                if (said, *place) not in seen:
                    seen.add((said, *place))
                    if near := self.matcher.near.find(said):
                        innocent = self.matcher.near.innocent(said)
                        yield NearMatch(signal, said, view.name, *place, near, innocent)

    def present(self, names: Iterable[tuple[Stage, str]]) -> Iterable[Trigger]:
        """The triggers that hold for this request, of those on the (stage, name) pairs `names`."""
        for stage, name in names:
            if self.unknown(stage, name) is not None:
                yield (stage, name, "?")
                continue
            if self.signals.of(stage, name):
                yield (stage, name, "*")
            for found in self.found(stage, name):
                yield (stage, name, found)
            for match in self.near(stage, name):
                yield from (near_trigger(stage, name, of) for of in match.near)

    def _missing(self, stage: Stage, name: str) -> Judgement | None:
        if self.stage == "prompt" and (stage == "picture" or self._not_yet(stage, name)):
            return Judgement(None, pending=frozenset({name}))
        error = self.signals.error(stage, name)
        return None if error is None else Judgement(None, error=error)

    def _not_yet(self, stage: Stage, name: str) -> bool:
        """Whether the name is a sentinel's: it answers once the model has encoded the prompt."""
        return concept_of(name) is not None and (stage, name) not in self.signals.covered


def _words(view: View) -> Iterable[tuple[int, int]]:
    """The bounds of the words of `view` that may be near to an entry."""
    if view.odd is not None:
        return view.odd
    if view.form != "plain" or view.whole:
        return ()
    return (found.span() for found in _WORD.finditer(view.text))
