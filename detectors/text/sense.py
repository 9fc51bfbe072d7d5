"""Reads the texts of a request: views, lettering, concepts and toxicity as one collection of signals, without torch.

`TextDetectors` holds what is loaded once. `sense` reads a request with the detectors that the package ships.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from detectors.running import DetectorFailed, probability
from detectors.text.chars import Chars, clean, from_text, resolve_bidi, skeleton
from detectors.text.concepts import ConceptFinder, ConceptWords, load_concept_words
from detectors.text.confusables import load_confusables
from detectors.text.lettering import WHOLE_SCORE, Lettering, find_lettering, guess_lettering
from detectors.text.toxicity import SmallClassifier, TextScorer, lexicon_matcher, lexicon_score
from detectors.text.views import make_views, views_of
from policies import SHIPPED
from policies.matcher import Matcher
from policies.types import Request, Signal, Signals, Span, TextSource, View

__all__ = ["TextDetectors", "read_text", "sense", "text_version"]

_AGGRESSIVE = 4  # a view that is matched with words of so many letters only reads more into a text than stands there
_SOUNDED = 5  # letters of a word that may be found by its sound in what was read in a picture
_DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True, slots=True)
class TextDetectors:
    """All detectors of text: called with a request, it gives its signals.

    `scorers` judge toxicity beside the lexicon; the highest of all counts. One that fails makes `toxicity` an error,
    which is strict: the rules that need it apply their `on_error`. The same holds for `finders`, which look for
    concepts beside the table of their names.
    """

    concepts: ConceptWords
    lexicon: Matcher
    scorers: tuple[TextScorer, ...] = ()
    finders: tuple[ConceptFinder, ...] = ()

    def __call__(self, request: Request) -> Signals:
        items: list[Signal] = []
        for source, text in _texts(request):
            items.extend(self._read(source, text))
        errors = [s for s in items if s.error is not None]
        names = {"text", "lettering", "toxicity"}.union(*(f.concepts for f in (self.concepts, *self.finders)))
        names -= {s.name for s in errors}
        return Signals(tuple(items), frozenset(("prompt", name) for name in names))

    def _read(self, source: TextSource, text: str) -> Iterator[Signal]:
        whole, version = Span(source, 0, len(text)), text_version()
        views = make_views(text)
        yield Signal("text", "views", version, text=text, span=whole, views=views)
        if source == "negative_prompt":  # names what is not wanted: it asks for nothing
            return
        yield from self.concepts.find(views, source, text)
        for finder in self.finders:
            try:
                yield from finder.find(views, source, text)
            except Exception as error:
                yield from (Signal(c, finder.name, finder.version, error=_why(error)) for c in sorted(finder.concepts))
        pieces = [(text, whole, views)]
        chars = from_text(text)
        turned = [t for words in (False, True) if (t := resolve_bidi(chars, words=words)) is not None]
        shown = dict.fromkeys(clean(t) for t in turned or (chars,))
        for lettering in (piece for text_shown in shown for piece in _lettering(text_shown)):
            said = lettering.chars
            span = Span(source, min(said.starts), max(said.ends)) if said.text else None
            piece = views_of(said, piece=True) if said.text else ()
            yield Signal(
                "lettering", "lettering", version, score=lettering.score, text=said.text, span=span, views=piece
            )
            if span is not None and lettering.score > WHOLE_SCORE:  # a whole scene is no lettering to be judged
                pieces.append((said.text, span, piece))
        yield from self._toxicity(pieces)

    def _toxicity(self, pieces: list[tuple[str, Span, tuple[View, ...]]]) -> Iterator[Signal]:
        """One signal for each text and category, with the highest score of lexicon and scorers over its views."""
        for text, span, views in pieces:
            best = {"toxicity": (lexicon_score(self.lexicon, views), "lexicon", text_version())}
            # aggressive views make words of random strings; there lists know better than n-grams
            said = [v.text for v in views if v.form == "plain" and v.least < _AGGRESSIVE and not v.whole]
            for scorer in self.scorers:
                try:
                    answers = scorer.scores(said)
                    found = [(c, probability(s, scorer.name)) for scores in answers for c, s in scores.items()]
                except Exception as error:
                    yield Signal("toxicity", scorer.name, scorer.version, error=_why(error))
                    continue
                for category, score in found:
                    if score > best.get(category, (0.0, "", ""))[0]:
                        best[category] = (score, scorer.name, scorer.version)
            for category, (score, detector, version) in best.items():
                if score > 0.0:
                    yield Signal("toxicity", detector, version, score=score, text=text, label=category, span=span)


def sense(request: Request) -> Signals:
    """The signals of every text of `request` that reaches an encoder, by the detectors that come with the package."""
    return default_detectors()(request)


def read_text(text: str) -> tuple[View, ...]:
    """The views of a text that was read in a picture.

    A reader makes mistakes of its own, and a misread `spice` sounds like a word of four letters: sounds need five here.
    """
    views = make_views(text, piece=True)
    return tuple(replace(v, least=max(v.least, _SOUNDED)) if v.name.endswith("sounded") else v for v in views)


@cache
def text_version() -> str:
    """The version of how texts are read, with that of Unicode's table of confusable characters."""
    return f"2+uts39-{load_confusables()[0]}"


@cache
def default_detectors() -> TextDetectors:
    """The embedded detectors, loaded once: they are immutable."""
    return TextDetectors(
        load_concept_words(_DATA / "concepts.json"),
        lexicon_matcher(SHIPPED / "lists" / "toxic.en.txt"),
        (SmallClassifier.load(_DATA / "toxicity.json"),),
    )


def _why(error: Exception) -> str:
    """What an audit record may say of `error`; its message may quote the prompt."""
    return str(error) if isinstance(error, DetectorFailed) else f"error: {type(error).__name__}"


def _lettering(shown: Chars) -> Iterator[Lettering]:
    """The lettering of a cleaned text, as it stands and with disguised letters made Latin: a cue may be disguised."""
    found = find_lettering(shown)
    yield from found
    plain = skeleton(shown)
    if plain.text != shown.text:
        seen = {(p.chars.starts, p.chars.ends) for p in found}
        yield from (p for p in find_lettering(plain) if p.chars.text and (p.chars.starts, p.chars.ends) not in seen)
    yield from guess_lettering(shown, found)


def _texts(request: Request) -> Iterator[tuple[TextSource, str]]:
    yield "prompt", request.prompt
    if request.negative_prompt:
        yield "negative_prompt", request.negative_prompt
