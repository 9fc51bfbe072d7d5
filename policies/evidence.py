"""The signals of one request, prepared for the conditions of rules.

Conditions ask `Evidence` for matches and for missing signals. It looks up each answer once and keeps it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from policies.judgement import Judgement
from policies.matcher import Match, Matcher
from policies.types import Request, Signal, Signals, Stage, concept_of

__all__ = ["Evidence", "FoundMatch", "Trigger"]

# What can make a rule true: (stage, name, what) with `what` a list's name, "*" for any signal, or "?" for unknown
Trigger = tuple[Stage, str, str]


class FoundMatch(NamedTuple):
    """A match and the signal whose text holds it."""

    match: Match
    signal: Signal


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

    def _missing(self, stage: Stage, name: str) -> Judgement | None:
        if self.stage == "prompt" and (stage == "picture" or self._not_yet(stage, name)):
            return Judgement(None, pending=frozenset({name}))
        error = self.signals.error(stage, name)
        return None if error is None else Judgement(None, error=error)

    def _not_yet(self, stage: Stage, name: str) -> bool:
        """Whether the name is a sentinel's: it answers once the model has encoded the prompt."""
        return concept_of(name) is not None and (stage, name) not in self.signals.covered
