"""Classifiers of pictures from local folders: the embedded models' judge, and those that the settings name.

A folder holds either an image classifier in transformers' format (`config.json`) or a judge of the town
(`judge.json`). Weights load when a classifier is first asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from reference.folders import JUDGES, draws_town
from service.model_names import resolve_model
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

    from detectors.images import ConceptLooker
    from reference.town.judge import Judge

__all__ = ["judges_of"]

_EMBEDDED = JUDGES / "first"


def judges_of(settings: Settings) -> Iterator[ConceptLooker]:
    """The judges of a worker: the embedded one if the model draws the town, and each that `judge` names.

    Two judges may cover the same concept: a rule is then violated if either sees it. Raises: SettingsError.
    """
    if _draws_town(settings.model):
        yield _open(_EMBEDDED, settings.detector_seconds)
    for folder in settings.judge:
        if not folder.is_dir():
            raise SettingsError(f"`judge` must name folders, got `{folder}`, which is none")
        if folder.resolve() != _EMBEDDED.resolve():
            yield _open(folder, settings.detector_seconds)


def _draws_town(model: str) -> bool:
    """Whether the embedded judge knows the pictures of `model`. Its answers on other pictures mean nothing."""
    try:
        return draws_town(resolve_model(model)[0])
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"`model`: {error}") from None


def _open(folder: Path, seconds: float) -> ConceptLooker:
    from detectors.images import ConceptLooker, FolderClassifier

    if (folder / "config.json").is_file():
        try:
            classifier = FolderClassifier(folder)
        except (FileNotFoundError, ValueError) as error:
            raise SettingsError(f"`judge`: {error}") from None
        return ConceptLooker(classifier, classifier.concepts, classifier.name, "1", budget=seconds)
    if (folder / "judge.json").is_file():
        try:
            judge = _TownJudge(folder)
        except ValueError as error:
            raise SettingsError(f"`judge`: `{folder / 'judge.json'}` is no JSON object: {error}") from None
        name = "reference-judge" if folder.resolve() == _EMBEDDED.resolve() else folder.name
        return ConceptLooker(judge, judge.concepts, name, "1", budget=seconds)
    raise SettingsError(f"`judge`: `{folder}` holds neither `config.json` of an image classifier nor `judge.json`")


class _TownJudge:
    """A judge of the town, loaded when it is first asked: it needs torch, and the command line often does not."""

    def __init__(self, folder: Path) -> None:
        json.loads((folder / "judge.json").read_text("utf-8"))  # a broken file is an error at the start
        self._folder = folder

    @property
    def concepts(self) -> frozenset[str]:
        """The concepts that it scores. It does not read lettering."""
        from reference.town.scenes import CATEGORIES

        return frozenset(f"{category}/{name}" for category, names in CATEGORIES.items() for name in names)

    @cached_property
    def _judge(self) -> Judge:
        from reference.town.judge import Judge

        return Judge.load(self._folder)

    def scores(self, images: Sequence[Image], /) -> Sequence[dict[str, float]]:
        """One mapping of concept to probability a picture."""
        return self._judge.scores(images)
