"""Which detectors a worker has: the one place that names them.

The embedded ones need nothing: our text detectors, RapidOCR, and the reference judge. EasyOCR and Detoxify join when
the settings name a folder of their weights. Each loads when it first looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.planner import WithoutLettering
from service.senses import Look, Sense
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from detectors.images import PictureDetector

__all__ = ["Detection", "build_detection"]

_JUDGE = Path(__file__).resolve().parent.parent / "reference" / "judges" / "first"


@dataclass(frozen=True, slots=True)
class Detection:
    """How prompts and pictures are read, what pictures can be read for, and prompts without their lettering."""

    sense: Sense
    look: Look
    reads: frozenset[str]
    without_lettering: WithoutLettering

    def warm(self, reads: frozenset[str]) -> None:
        """Looks at an empty picture, so that what rules need is loaded before the first request comes."""
        from PIL import Image

        if reads:
            self.look(Image.new("RGB", (64, 64)), reads)


def build_detection(settings: Settings) -> Detection:
    """The detectors that the settings name, none of them loaded yet. Raises `SettingsError` for a missing folder."""
    from detectors import text
    from detectors.images import look

    readers = tuple(_readers(settings))
    return Detection(
        sense=_text_detectors(settings),
        look=lambda image, reads: look(image, readers, reads=reads),
        reads=frozenset().union(*(reader.covers for reader in readers)),
        without_lettering=text.without_lettering,
    )


def _text_detectors(settings: Settings) -> Sense:
    from detectors.text import default_detectors

    detectors = default_detectors()
    if settings.detoxify is None:
        return detectors
    from detectors.detox import DetoxifyScorer

    scorer = DetoxifyScorer(_folder("detoxify", settings.detoxify))
    return replace(detectors, scorers=(*detectors.scorers, scorer))


def _readers(settings: Settings) -> Iterator[PictureDetector]:
    from detectors.images import ConceptLooker, EasyOcr, LetteringLooker, RapidOcr

    yield LetteringLooker(RapidOcr(), budget=settings.detector_seconds)
    if settings.easyocr is not None:
        try:
            yield LetteringLooker(EasyOcr(settings.easyocr), budget=settings.detector_seconds)
        except FileNotFoundError as error:
            raise SettingsError(f"`easyocr`: {error}") from None
    folder = _folder("judge", settings.judge) if settings.judge else _JUDGE
    if (folder / "judge.json").is_file():
        names = frozenset(_judged())
        yield ConceptLooker(_LateJudge(folder), names, "reference-judge", "1", budget=settings.detector_seconds)


def _judged() -> Iterator[str]:
    from reference.world import CHARACTERS, STYLES

    yield from (f"character/{name}" for name in CHARACTERS)
    yield from (f"style/{name}" for name in STYLES)


class _LateJudge:
    """The reference judge, loaded when it first looks: it needs torch, and the command line often does not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _judge(self) -> Any:
        from reference.judge import Judge

        return Judge.load(self._folder)

    def scores(self, images: Sequence[Image], /) -> Sequence[dict[str, float]]:
        """Concept to probability, one mapping a picture."""
        found: list[dict[str, float]] = self._judge.scores(images)
        return found


def _folder(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise SettingsError(f"`{name}` must be a folder, got `{folder}`, which is none")
    return folder
