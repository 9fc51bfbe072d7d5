"""Which detectors a worker has: the one place that names them.

The embedded ones need nothing: our text detectors, RapidOCR, and the reference judge. EasyOCR, Detoxify, concepts by
meaning and another classifier of pictures join when the settings name a folder of their weights. Each loads when it
first looks, and each stands behind a watch of its own: what hangs or fails again and again is left alone for a while,
and what it covers is an error until it comes back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from service.model_names import resolve_model
from service.reading.types import Look, Sense, WithoutLettering
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from detectors.images import PictureDetector, Watched
    from detectors.running import Health, Watch
    from reference.town.judge import Judge

__all__ = ["Detection", "build_detection"]

log = logging.getLogger("bentoml.palimpsest.detection")

_LOADING = 120.0  # seconds that a detector may take to load its weights
_JUDGE = Path(__file__).resolve().parents[2] / "reference" / "judges" / "first"


@dataclass(frozen=True, slots=True)
class Detection:
    """How prompts and pictures are read, what pictures can be read for, and prompts without their lettering.

    `watches` are those of the detectors that can fail; `health` is how they do.
    """

    sense: Sense
    look: Look
    reads: frozenset[str]
    without_lettering: WithoutLettering
    watches: tuple[Watch, ...] = ()

    @property
    def health(self) -> tuple[Health, ...]:
        """The state of each watched detector's circuit, in the order in which they are asked."""
        return tuple(watch.health for watch in self.watches)

    def warm(self, reads: frozenset[str]) -> None:
        """Reads a prompt and looks at an empty picture, so that all is loaded before the first request comes."""
        from PIL import Image

        from policies import Request

        self.sense(Request("a picture"))
        if reads:
            self.look(Image.new("RGB", (64, 64)), reads)


def build_detection(settings: Settings) -> Detection:
    """The detectors that the settings name, none of them loaded yet. Raises `SettingsError` for a missing folder."""
    from detectors import text
    from detectors.images import look

    readers = tuple(_watched(reader) for reader in _readers(settings))
    sense, watches = _text_detectors(settings)
    return Detection(
        sense=sense,
        look=lambda image, reads: look(image, readers, reads=reads),
        reads=frozenset().union(*(reader.covers for reader in readers)),
        without_lettering=text.without_lettering,
        watches=(*watches, *(reader.watch for reader in readers)),
    )


def _watched(reader: PictureDetector) -> Watched:
    from detectors.images import Watched

    return Watched(reader, _watch(reader.name, reader.budget))


def _watch(name: str, budget: float) -> Watch:
    from detectors.running import Watch

    return Watch(name, budget, first=max(_LOADING, budget), changed=_report)


def _report(health: Health) -> None:
    level = logging.INFO if health.ok else logging.ERROR
    log.log(level, "detector %s: circuit %s, last %s", health.name, health.state, health.last_error or "nothing")


def _text_detectors(settings: Settings) -> tuple[Sense, tuple[Watch, ...]]:
    """The readers of prompts, and the watches of those that can fail."""
    from detectors.running import WatchedFinder, WatchedScorer
    from detectors.text import default_detectors

    detectors = default_detectors()
    watches: list[Watch] = []
    try:
        if settings.detoxify is not None:
            from detectors.detox import DetoxifyScorer

            scorer = DetoxifyScorer(_folder("detoxify", settings.detoxify))
            watches.append(_watch(scorer.name, settings.detector_seconds))
            detectors = replace(detectors, scorers=(*detectors.scorers, WatchedScorer(scorer, watches[-1])))
        if settings.semantic is not None:
            from detectors.semantic import FolderEncoder, SemanticConcepts, load_anchors

            folder = _folder("semantic", settings.semantic)
            finder = SemanticConcepts(FolderEncoder(folder), load_anchors(folder / "anchors.json"))
            watches.append(_watch(finder.name, settings.detector_seconds))
            detectors = replace(detectors, finders=(WatchedFinder(finder, watches[-1]),))
    except (FileNotFoundError, ValueError) as error:
        raise SettingsError(str(error)) from None
    return detectors, tuple(watches)


def _readers(settings: Settings) -> Iterator[PictureDetector]:
    from detectors.images import ConceptLooker, EasyOcr, FolderClassifier, LetteringLooker, RapidOcr

    rapid = RapidOcr()
    yield LetteringLooker(rapid, budget=settings.detector_seconds)
    if settings.easyocr is not None:
        try:
            engine = EasyOcr.of_folder(_folder("easyocr", settings.easyocr), finder=rapid)
        except FileNotFoundError as error:
            raise SettingsError(f"`easyocr`: {error}") from None
        yield LetteringLooker(engine, budget=settings.detector_seconds)
    folder = _folder("judge", settings.judge) if settings.judge else _own_judge(settings.model)
    if folder is None:
        return
    if (folder / "config.json").is_file():
        try:
            classifier = FolderClassifier(folder)
        except (FileNotFoundError, ValueError) as error:
            raise SettingsError(f"`judge`: {error}") from None
        yield ConceptLooker(classifier, classifier.concepts, classifier.name, "1", budget=settings.detector_seconds)
    elif (folder / "judge.json").is_file():
        try:
            judge = _LateJudge(folder)
        except ValueError as error:
            raise SettingsError(f"`judge`: `{folder / 'judge.json'}` is no JSON object: {error}") from None
        yield ConceptLooker(judge, judge.concepts, "reference-judge", "1", budget=settings.detector_seconds)


def _own_judge(model: str) -> Path | None:
    """The reference judge where the model draws what it was taught; of another's pictures it would say anything."""
    from reference.folders import draws_town

    try:
        return _JUDGE if draws_town(resolve_model(model)[0]) else None
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"`model`: {error}") from None


class _LateJudge:
    """The reference judge, loaded when it first looks: it needs torch, and the command line often does not."""

    def __init__(self, folder: Path) -> None:
        json.loads((folder / "judge.json").read_text("utf-8"))  # said at the start, not at the first picture
        self._folder = folder

    @property
    def concepts(self) -> frozenset[str]:
        """What it is asked for; lettering is read, not judged."""
        from reference.town.scenes import CATEGORIES

        return frozenset(f"{category}/{name}" for category, names in CATEGORIES.items() for name in names)

    @cached_property
    def _judge(self) -> Judge:
        from reference.town.judge import Judge

        return Judge.load(self._folder)

    def scores(self, images: Sequence[Image], /) -> Sequence[dict[str, float]]:
        """Concept to probability, one mapping a picture."""
        return self._judge.scores(images)


def _folder(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise SettingsError(f"`{name}` must be a folder, got `{folder}`, which is none")
    return folder
