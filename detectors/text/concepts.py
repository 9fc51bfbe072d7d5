"""Finds concepts in prompts by their names, in all views, unless the name stands in a phrase that means something
else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from policies.matcher import Match, Matcher
from policies.types import Signal, Span, TextSource, View

__all__ = ["ConceptFinder", "ConceptWords", "load_concept_words"]

_DISGUISED = 0.9  # the score of a name that only a disguise-undoing view shows


@runtime_checkable
class ConceptFinder(Protocol):
    """Finds concepts in texts: by words, or by meaning (`detectors.semantic`)."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def concepts(self) -> frozenset[str]: ...
    def find(self, views: Sequence[View], source: TextSource, text: str) -> list[Signal]: ...


@dataclass(frozen=True, slots=True)
class ConceptWords:
    """The names of concepts, and the phrases in which they are none, as one automaton."""

    concepts: frozenset[str]
    matcher: Matcher
    name: str = "concept-words"
    version: str = "1"

    def find(self, views: Sequence[View], source: TextSource, text: str) -> list[Signal]:
        """One signal for each place where a concept of the table is named in `views` of `text`."""
        matches = [m for view in views for m in self.matcher.find(view)]
        spared = [m for m in matches if any(name.startswith("!") for name in m.lists)]
        found: dict[tuple[str, int, int], Match] = {}
        for match in matches:
            for concept in match.lists:
                innocent = any(
                    f"!{concept}" in s.lists and s.start <= match.start and match.end <= s.end for s in spared
                )
                if not concept.startswith("!") and not innocent:
                    found.setdefault((concept, match.start, match.end), match)
        longest = [
            k for k in found if not any(o != k and o[0] == k[0] and o[1] <= k[1] and k[2] <= o[2] for o in found)
        ]
        return [
            Signal(
                concept,
                self.name,
                self.version,
                score=1.0 if found[concept, start, end].plain else _DISGUISED,
                text=text[start:end],
                span=Span(source, start, end),
            )
            for concept, start, end in sorted(longest, key=lambda k: (k[1], k[0]))
        ]


def load_concept_words(path: str | Path) -> ConceptWords:
    """The table of `path`: JSON of `{concept: {"any_of": [...], "unless": [...]}}`.

    Raises ValueError on anything else.
    """
    table = json.loads(Path(path).read_text("utf-8"))
    lists: dict[str, list[str]] = {}
    if not isinstance(table, Mapping):
        raise ValueError(f"`{path}` must hold a mapping of concepts, got {type(table).__name__}")
    for concept, entry in table.items():
        if not isinstance(entry, Mapping) or not set(entry) <= {"any_of", "unless"} or not entry.get("any_of"):
            raise ValueError(f"`{path}`: concept `{concept}` must have `any_of` and may have `unless`, got {entry!r}")
        lists[concept] = list(entry["any_of"])
        lists[f"!{concept}"] = list(entry.get("unless", ()))
    return ConceptWords(frozenset(table), Matcher(lists))
