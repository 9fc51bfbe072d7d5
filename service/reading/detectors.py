"""Builds the detectors of a worker from the settings.

The embedded detectors need no setting: our text detectors, RapidOCR, and the judge of the embedded models. EasyOCR,
Detoxify, semantic concept detection and more picture classifiers are added if the settings name a folder of their
weights. Detectors of other packages are added if the setting `plugins` names them. Each detector loads its weights on
first use.

Each detector runs behind its own circuit breaker. If it hangs or fails repeatedly, it is skipped for a while. Until it
answers again, every name that it covers is an error, which makes the decisions stricter.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.reading.judges import judge_folders, open_judge
from service.reading.plugins import Plugged, plugged_detectors
from service.reading.types import Look, Sense, WithoutLettering
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from detectors.images import PictureDetector, Watched
    from detectors.running import Health, Watch
    from detectors.text.concepts import ConceptFinder
    from detectors.text.sense import TextDetectors
    from detectors.text.toxicity import TextScorer

__all__ = ["Detection", "Detectors", "build_detection"]

log = logging.getLogger("bentoml.palimpsest.detection")

_SHARE = 0.8  # of a reader's time; then it ends by itself, before it counts as one that hangs
_LOADING = 120.0  # seconds that a detector may take to load its weights


@dataclass(frozen=True, slots=True)
class Detection:
    """The readers of prompts and pictures, the names that pictures can be read for, and the removal of lettering from
    prompts.

    `watches` are the detectors that can fail. `health` is their state.
    """

    sense: Sense
    look: Look
    reads: frozenset[str]
    without_lettering: WithoutLettering
    watches: tuple[Watch, ...] = ()

    @property
    def health(self) -> tuple[Health, ...]:
        """The circuit breaker state of each watched detector, in the order in which they are called."""
        return tuple(watch.health for watch in self.watches)

    def warm(self, reads: frozenset[str]) -> None:
        """Reads a prompt and an empty picture, so that all weights are loaded before the first request."""
        from PIL import Image

        from policies import Request

        self.sense(Request("a picture"))
        if reads:
            self.look(Image.new("RGB", (64, 64)), reads)


class Detectors:
    """The detectors of a worker, each once: judges of pictures differ among its models, all others do not.

    Raises `SettingsError` for a missing folder.
    """

    def __init__(self, settings: Settings) -> None:
        plugged = plugged_detectors(settings)
        self._reading = tuple(_watched(reader) for reader in _readers(settings))
        self._plugged = tuple(_watched(reader) for reader in plugged.pictures)
        self._sense, self._watches = _text_detectors(settings, plugged)
        self._judges: dict[Path, Watched] = {}

    def of(self, settings: Settings) -> Detection:
        """The detectors of a model, by its settings, not loaded yet. Raises `SettingsError`."""
        from detectors import text
        from detectors.images import look

        folders = judge_folders(settings)
        for folder in folders:
            if folder not in self._judges:
                self._judges[folder] = _watched(open_judge(folder, settings.detector_seconds))
        readers = (*self._reading, *(self._judges[folder] for folder in folders), *self._plugged)
        every = (*self._reading, *self._judges.values(), *self._plugged)
        _check_names((*self._watches, *(reader.watch for reader in every)))
        return Detection(
            sense=self._sense,
            look=lambda image, reads: look(image, readers, reads=reads),
            reads=frozenset().union(*(reader.covers for reader in readers)),
            without_lettering=text.without_lettering,
            watches=(*self._watches, *(reader.watch for reader in readers)),
        )


def build_detection(settings: Settings) -> Detection:
    """The detectors that the settings name, not loaded yet. Raises `SettingsError` for a missing folder."""
    return Detectors(settings).of(settings)


def _watched(reader: PictureDetector) -> Watched:
    from detectors.images import Watched

    return Watched(reader, _watch(reader.name, reader.budget))


def _watch(name: str, budget: float) -> Watch:
    from detectors.running import Watch

    return Watch(name, budget, first=max(_LOADING, budget), changed=_report)


def _report(health: Health) -> None:
    level = logging.INFO if health.ok else logging.ERROR
    log.log(level, "detector %s: circuit %s, last %s", health.name, health.state, health.last_error or "nothing")


def _text_detectors(settings: Settings, plugged: Plugged) -> tuple[TextDetectors, tuple[Watch, ...]]:
    """The text detectors, and the watches of those that can fail."""
    from detectors.running import WatchedFinder, WatchedScorer
    from detectors.text.sense import default_detectors

    try:
        scorers = [*_detoxify(settings), *plugged.scorers]
        meanings = [*_semantic(settings), *plugged.finders]
    except (FileNotFoundError, ValueError) as error:
        raise SettingsError(str(error)) from None
    watched_scorers = [WatchedScorer(each, _watch(each.name, settings.detector_seconds)) for each in scorers]
    watched_finders = [WatchedFinder(each, _watch(each.name, settings.detector_seconds)) for each in meanings]
    embedded = default_detectors()
    detectors = replace(
        embedded,
        scorers=(*embedded.scorers, *watched_scorers),
        finders=(*embedded.finders, *watched_finders),
    )
    watches = [each.watch for each in watched_scorers] + [each.watch for each in watched_finders]
    return detectors, tuple(watches)


def _detoxify(settings: Settings) -> Iterator[TextScorer]:
    if settings.detoxify is not None:
        from detectors.detox import DetoxifyScorer

        yield DetoxifyScorer(_folder("detoxify", settings.detoxify))


def _semantic(settings: Settings) -> Iterator[ConceptFinder]:
    if settings.semantic is not None:
        from detectors.semantic import FolderEncoder, SemanticConcepts, load_anchors

        folder = _folder("semantic", settings.semantic)
        yield SemanticConcepts(FolderEncoder(folder), load_anchors(folder / "anchors.json"))


def _readers(settings: Settings) -> Iterator[PictureDetector]:
    from detectors.images import EasyOcr, LetteringLooker, RapidOcr

    seconds = _SHARE * settings.detector_seconds
    rapid = RapidOcr(seconds=seconds)
    yield LetteringLooker(rapid, budget=settings.detector_seconds)
    if settings.easyocr is not None:
        try:
            engine = EasyOcr.of_folder(_folder("easyocr", settings.easyocr), finder=rapid, seconds=seconds)
        except FileNotFoundError as error:
            raise SettingsError(f"`easyocr`: {error}") from None
        yield LetteringLooker(engine, budget=settings.detector_seconds)


def _check_names(watches: Iterable[Watch]) -> None:
    """Checks that detector names are unique, because metrics, status and the audit log identify detectors by name."""
    names = [watch.health.name for watch in watches]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(f"two detectors are called `{twice[0]}`; rename one; a judge has the name of its folder")


def _folder(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise SettingsError(f"`{name}` must be a folder, but `{folder}` is not a folder")
    return folder
