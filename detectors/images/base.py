"""The interfaces of picture detectors (readers of lettering, judges of concepts) and the signals they return.

Nothing heavy is imported here. An engine loads its weights on first use, so a service that needs none loads none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol, runtime_checkable

from PIL import Image

from detectors.running import Detector, Watch, probability, run
from detectors.text import read_text
from policies.pieces import reading_orders
from policies.types import Box, Signal, Signals

__all__ = [
    "ConceptDetector",
    "ConceptLooker",
    "LetteringLooker",
    "OcrEngine",
    "PictureDetector",
    "Reading",
    "Watched",
    "look",
]


@dataclass(frozen=True, slots=True)
class Reading:
    """One piece of text that an engine read: `score` is its confidence in [0, 1].

    `turned`: so it reads upside down or mirrored; the piece as it stands has a reading of its own.
    """

    text: str
    box: Box
    score: float
    turned: bool = False


class OcrEngine(Protocol):
    """Reads lettering; `read` may be called from several threads."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    def read(self, image: Image.Image) -> list[Reading]: ...


class ConceptDetector(Protocol):
    """Scores pictures for concepts: one mapping of concept name to probability for each picture."""

    def scores(self, images: Sequence[Image.Image], /) -> Sequence[dict[str, float]]: ...


@runtime_checkable
class PictureDetector(Detector, Protocol):
    """A detector that looks at one picture."""

    def look(self, image: Image.Image) -> Iterable[Signal]: ...


@dataclass(frozen=True, slots=True)
class LetteringLooker:
    """An OCR engine as a detector: one signal for each piece that it reads, and one for all of them, line by line; of
    those that read better turned, another.

    The last finds words that are split between pieces; where columns give another order, there is one for that too.
    Pieces below `floor` are kept out: noise read as letters.
    """

    engine: OcrEngine
    budget: float = 10.0
    floor: float = 0.3

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def version(self) -> str:
        return self.engine.version

    @property
    def covers(self) -> frozenset[str]:
        return frozenset({"lettering"})

    def look(self, image: Image.Image) -> Iterable[Signal]:
        read = [replace(r, score=probability(r.score, self.name)) for r in self.engine.read(image)]
        readings = [r for r in read if r.score >= self.floor and r.text.strip()]
        for turned in (False, True):
            pieces = [r for r in readings if r.turned is turned]
            orders = reading_orders([r.box for r in pieces])
            yield from (self._signal(pieces[i]) for i in orders[0])
            if len(pieces) > 1:
                box, score = reduce(_union, (r.box for r in pieces)), min(r.score for r in pieces)
                yield from (self._signal(Reading(" ".join(pieces[i].text for i in o), box, score)) for o in orders)

    def _signal(self, reading: Reading) -> Signal:
        text, views = reading.text, read_text(reading.text)
        return Signal(
            "lettering", self.name, self.version, "picture", reading.score, text=text, box=reading.box, views=views
        )


@dataclass(frozen=True, slots=True)
class ConceptLooker:
    """A concept detector, such as the reference judge, as a detector of the names in `concepts`."""

    detector: ConceptDetector
    concepts: frozenset[str]
    name: str
    version: str
    budget: float = 5.0

    @property
    def covers(self) -> frozenset[str]:
        return self.concepts

    def look(self, image: Image.Image) -> Iterable[Signal]:
        (scores,) = self.detector.scores([image])
        missing = self.concepts - set(scores)
        if missing:
            raise ValueError(f"`{self.name}` must score {sorted(self.concepts)}, but left out {sorted(missing)}")
        for concept in sorted(self.concepts):
            score = probability(scores[concept], self.name)
            yield Signal(concept, self.name, self.version, "picture", score)


@dataclass(frozen=True, slots=True)
class Watched:
    """A picture detector behind a watch: what a service uses."""

    detector: PictureDetector
    watch: Watch

    @property
    def name(self) -> str:
        return self.detector.name

    @property
    def version(self) -> str:
        return self.detector.version

    @property
    def budget(self) -> float:
        return self.detector.budget

    @property
    def covers(self) -> frozenset[str]:
        return self.detector.covers

    def look(self, image: Image.Image) -> Iterable[Signal]:
        return self.detector.look(image)


def look(image: Image.Image, detectors: Iterable[PictureDetector], *, reads: frozenset[str]) -> Signals:
    """The signals of one picture, by those `detectors` that cover a name in `reads`.

    A detector that raises or takes longer than its budget gives error signals. A name that nobody covers stays
    uncovered, which the policies count as an error too.
    """
    signals = Signals()
    for detector in detectors:
        if detector.covers & reads:
            watch = detector.watch if isinstance(detector, Watched) else None
            signals = signals + run(detector, lambda d=detector: d.look(image), stage="picture", watch=watch)  # type: ignore[misc]
    return signals


def _union(a: Box, b: Box) -> Box:
    return Box(min(a.left, b.left), min(a.top, b.top), max(a.right, b.right), max(a.bottom, b.bottom))
