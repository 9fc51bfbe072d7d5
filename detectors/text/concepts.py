# ruff: noqa: E501  the patterns of a table are read and compared as whole lines
"""Finds concepts in prompts by their names, in all views, unless the name means something else there.

A name means something else inside a phrase (`unless`: `jump the gun`), behind or before another word (`unless_after`:
`a squirt gun`; `unless_before`: `a gun dog`), and as part of a proper name (`Gun Lake`, `Marlo Thomas`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from policies.matcher import Match, Matcher
from policies.types import Signal, Span, TextSource, View

__all__ = ["ConceptFinder", "ConceptWords", "load_concept_words"]

_FIELDS = {"any_of", "unless", "unless_after", "unless_before"}
_DISGUISED = 0.9  # the score of a name that only a disguise-undoing view shows
_SHORT = 3  # letters of a name that the views are too careful to find in disguise: it has a pattern of its own
_GLUED = ("unglued", "cut")  # views of words taken apart, in which a name of fewer letters than this is chance
_GLUED_LEAST = 5
_SPELLED = ("folded", "skeleton")  # views in which the pattern of a short name is looked for

# what stands for a letter in a short name: `p1p`, `c@t`, `gvn`; and, inside of it, for any letter: `g*n`
_SAME = {
    "a": "4@",
    "b": "8",
    "e": "3€",
    "g": "69",
    "i": "1!|",
    "l": "1|",
    "o": "0",
    "s": "5$",
    "t": "7+",
    "u": "vµ",
    "z": "2",
}
_MASKS = r"*#%?_•·✱×"
_STRICT = ("harm",)  # kinds of concepts whose names a mere capital behind them does not excuse
_PLACE = re.compile(
    r"\s+(?:[A-Z][a-z]+ )?(?:Lake|Island|Islands|Hill|Hills|Road|Street|Avenue|Lane|Boulevard|Creek|River|Falls|Bay"
    r"|Haven|Park|State Park|Valley|Town|City|County|Mountain|Point|Harbou?r|Bridge|Square|Station|Springs|Pass)\b"
    r"|,\s+(?:County\b|Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa"
    r"|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New [A-Z]|North [A-Z]"
    r"|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode|South [A-Z]|Tennessee|Texas|Utah|Vermont|Virginia|Washington|Wisconsin|Wyoming|England|Scotland|Wales"
    r"|Ireland|Canada|Australia|Bahamas|Jamaica|France|Germany|Spain|Italy|India|Japan|Argentina|Brazil)"
)
_SURNAME = re.compile(r"\s+[A-Z][a-z]")
_CAPITALISED = re.compile(r"\b[A-Z][a-z]")
_WORDS = re.compile(r"\b[^\W\d_]{2,}")


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
class _Surroundings:
    """The words around a name of a concept that give it another meaning."""

    before: re.Pattern[str]
    after: re.Pattern[str]

    @staticmethod
    def of(unless_after: Iterable[str], unless_before: Iterable[str]) -> _Surroundings:
        before, after = (_either(words) for words in (unless_after, unless_before))
        # hyphens and brackets do not part the words: `glue-gun`, `a seed (pip)`
        return _Surroundings(
            re.compile(rf"(?<![^\W_])(?:{before})[\s(-]*$", re.IGNORECASE),
            re.compile(rf"[\s)-]*(?:{after})(?![^\W_])", re.IGNORECASE),
        )


@dataclass(frozen=True, slots=True)
class ConceptWords:
    """The names of concepts, and the phrases in which they are none, as one automaton.

    `surroundings` has the words beside which a concept's names mean something else, `short` a pattern for disguises of
    names that are too short for the views.
    """

    concepts: frozenset[str]
    matcher: Matcher
    surroundings: Mapping[str, _Surroundings] = field(default_factory=dict)
    short: tuple[tuple[str, str, re.Pattern[str]], ...] = ()
    name: str = "concept-words"
    version: str = "2"

    def find(self, views: Sequence[View], source: TextSource, text: str) -> list[Signal]:
        """One signal for each place where a concept of the table is named in `views` of `text`."""
        matches = [m for view in views for m in (*self.matcher.find(view), *self._disguised(view))]
        spared = [m for m in matches if any(name.startswith("!") for name in m.lists)]
        found: dict[tuple[str, int, int], Match] = {}
        for match in matches:
            for concept in match.lists:
                innocent = any(
                    f"!{concept}" in s.lists and s.start <= match.start and match.end <= s.end for s in spared
                )
                if concept.startswith("!") or innocent or _by_chance(match):
                    continue
                if not self._means_something_else(concept, text, match):
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

    def _disguised(self, view: View) -> Iterator[Match]:
        """Short names that are disguised in `view`."""
        if not view.name.endswith(_SPELLED):
            return
        for concept, word, pattern in self.short:
            for found in pattern.finditer(view.text):
                if found.group() != word:
                    yield Match(word, (concept,), f"{view.name}-short", *view.origin(*found.span()))

    def _means_something_else(self, concept: str, text: str, match: Match) -> bool:
        around = self.surroundings.get(concept)
        before, after = text[: match.start], text[match.end :]
        if around and (around.before.search(before) or around.after.match(after)):
            return True
        name = text[match.start : match.end]
        if not (name[:1].isupper() and name[1:].islower()):
            return False
        if _PLACE.match(after):
            return True
        lenient = concept.partition("/")[0] not in _STRICT and not _in_title_case(text)
        return lenient and _SURNAME.match(after) is not None


def _by_chance(match: Match) -> bool:
    return len(match.word) < _GLUED_LEAST and match.view.endswith(_GLUED)


def _in_title_case(text: str) -> bool:
    """Whether capitals say nothing about `text`, because most of its words have one."""
    words = len(_WORDS.findall(text))
    return words > 4 and 2 * len(_CAPITALISED.findall(text)) > words


def _either(words: Iterable[str]) -> str:
    """A pattern for one of `words`; one that matches nothing when there are none."""
    each = sorted(words, key=len, reverse=True)
    return "|".join(re.escape(w).replace(r"\ ", r"\s+") for w in each) or r"(?!)"


def _short_pattern(name: str) -> re.Pattern[str]:
    """Disguises of a short name: signs and digits for its letters, and a mask for any but the first and the last."""
    each = [f"[{re.escape(c + _SAME.get(c, ''))}{_MASKS if 0 < i < len(name) - 1 else ''}]" for i, c in enumerate(name)]
    return re.compile(rf"(?<![^\W_])(?<![@$!|*]){''.join(each)}(?![^\W_])(?![@$!|*])")


def load_concept_words(path: str | Path) -> ConceptWords:
    """The table of `path`: JSON of `{concept: {"any_of": [...], "unless": [...], "unless_after": [...],
    "unless_before": [...]}}`, of which only `any_of` must be there.

    Raises ValueError on anything else.
    """
    table = json.loads(Path(path).read_text("utf-8"))
    lists: dict[str, list[str]] = {}
    if not isinstance(table, Mapping):
        raise ValueError(f"`{path}` must hold a mapping of concepts, got {type(table).__name__}")
    for concept, entry in table.items():
        if not isinstance(entry, Mapping) or not set(entry) <= _FIELDS or not entry.get("any_of"):
            may = ", ".join(f"`{name}`" for name in sorted(_FIELDS - {"any_of"}))
            raise ValueError(f"`{path}`: concept `{concept}` must have `any_of` and may have {may}, got {entry!r}")
        lists[concept] = list(entry["any_of"])
        lists[f"!{concept}"] = list(entry.get("unless", ()))
    around = {
        concept: _Surroundings.of(entry.get("unless_after", ()), entry.get("unless_before", ()))
        for concept, entry in table.items()
    }
    short = tuple(
        (concept, word, _short_pattern(word))
        for concept, entry in table.items()
        for word in entry["any_of"]
        if len(word) == _SHORT and word.isalpha()
    )
    return ConceptWords(frozenset(table), Matcher(lists), around, short)
