"""Reads the texts of a request: views, lettering, concepts and toxicity as one collection of signals. No torch here.

`TextDetectors` holds what is loaded once; `sense` is the same with the data that come with the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from detectors.text.chars import clean, from_text, resolve_bidi
from detectors.text.concepts import ConceptWords, load_concept_words
from detectors.text.lettering import find_lettering
from detectors.text.toxicity import SmallClassifier, TextScorer, lexicon_matcher, lexicon_score
from detectors.text.views import make_views, views_of
from policies import SHIPPED
from policies.matcher import Matcher
from policies.types import Request, Signal, Signals, Source, Span, View

__all__ = ["TextDetectors", "read_text", "sense"]

VERSION = "1"
_DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True, slots=True)
class TextDetectors:
    """All detectors of text: called with a request, it gives its signals.

    `scorers` judge toxicity beside the lexicon; the highest of all counts. One that fails makes `toxicity` an error,
    which is strict: the rules that need it apply their `on_error`.
    """

    concepts: ConceptWords
    lexicon: Matcher
    scorers: tuple[TextScorer, ...] = ()

    def __call__(self, request: Request) -> Signals:
        items: list[Signal] = []
        for source, text in _texts(request):
            items.extend(self._read(source, text))
        errors = [s for s in items if s.error is not None]
        names = {"text", "lettering", "toxicity", *self.concepts.concepts} - {s.name for s in errors}
        return Signals(tuple(items), frozenset(("prompt", name) for name in names))

    def _read(self, source: Source, text: str) -> Iterator[Signal]:
        whole = Span(source, 0, len(text))
        views = make_views(text)
        yield Signal("text", "views", VERSION, text=text, span=whole, views=views)
        yield from self.concepts.find(views, source, text)
        pieces = [(text, whole, views)]
        chars = from_text(text)
        for lettering in find_lettering(clean(resolve_bidi(chars) or chars)):
            said = lettering.chars
            span = Span(source, min(said.starts), max(said.ends)) if said.text else None
            piece = views_of(said, piece=True) if said.text else ()
            yield Signal(
                "lettering", "lettering", VERSION, score=lettering.score, text=said.text, span=span, views=piece
            )
            if span is not None:
                pieces.append((said.text, span, piece))
        yield from self._toxicity(pieces)

    def _toxicity(self, pieces: list[tuple[str, Span, tuple[View, ...]]]) -> Iterator[Signal]:
        """One signal for each text and category, with the highest score of lexicon and scorers over its views."""
        for text, span, views in pieces:
            best = {"toxicity": (lexicon_score(self.lexicon, views), "lexicon", VERSION)}
            # aggressive views make words of random strings; there lists know better than n-grams
            said = [v.text for v in views if v.form == "plain" and not v.whole]
            for scorer in self.scorers:
                try:
                    found = [(c, s) for scores in scorer.scores(said) for c, s in scores.items()]
                except Exception as error:
                    yield Signal("toxicity", scorer.name, scorer.version, error=f"error: {type(error).__name__}")
                    continue
                for category, score in found:
                    if score > best.get(category, (0.0, "", ""))[0]:
                        best[category] = (score, scorer.name, scorer.version)
            for category, (score, detector, version) in best.items():
                if score > 0.0:
                    yield Signal(
                        "toxicity", detector, version, score=min(1.0, score), text=text, label=category, span=span
                    )


def sense(request: Request) -> Signals:
    """The signals of every text of `request` that reaches an encoder, by the detectors that come with the package."""
    return default_detectors()(request)


def read_text(text: str) -> tuple[View, ...]:
    """The views of a text that was read in a picture."""
    return make_views(text, piece=True)


@cache
def default_detectors() -> TextDetectors:
    """The embedded detectors, loaded once: they are immutable."""
    return TextDetectors(
        load_concept_words(_DATA / "concepts.json"),
        lexicon_matcher(SHIPPED / "lists" / "toxic.en.txt"),
        (SmallClassifier.load(_DATA / "toxicity.json"),),
    )


def _texts(request: Request) -> Iterator[tuple[Source, str]]:
    yield "prompt", request.prompt
    if request.negative_prompt:
        yield "negative_prompt", request.negative_prompt
