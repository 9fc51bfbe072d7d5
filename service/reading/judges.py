"""Picture classifiers from local folders: the judge of the embedded models, and those that the settings name.

A folder contains either an image classifier in transformers' format (`config.json`) or a judge of the town
(`judge.json`). Weights load on first use.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from reference.folders import JUDGES, draws_town
from service.loading.source import source_of
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

    from detectors.images import ConceptLooker
    from reference.town.judge import Judge

__all__ = ["judge_folders", "open_judge"]

_EMBEDDED = (JUDGES / "first").resolve()


def judge_folders(settings: Settings) -> tuple[Path, ...]:
    """The folders of a model's judges: the embedded one if the model draws the town, and those in the setting `judge`.

    Two judges may cover the same concept. A rule is then violated if either of them finds it. Raises: SettingsError.
    """
    folders = [*([_EMBEDDED] if _draws_town(settings) else []), *settings.judge]
    found = tuple(dict.fromkeys(each.resolve() for each in folders))
    for folder in found:
        if not folder.is_dir():
            raise SettingsError(f"`judge` must name folders, got `{folder}`, which does not exist or is a file")
    return found


def _draws_town(settings: Settings) -> bool:
    """Whether the embedded judge was trained on pictures like those of the model. Its scores for other pictures mean
    nothing.
    """
    source = source_of(settings)
    try:
        return source.kind != "file" and source.folder is not None and draws_town(source.folder)
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"`model`: {error}") from None


def open_judge(folder: Path, seconds: float) -> ConceptLooker:
    """The judge in a folder, whose readings may take `seconds`. Raises: SettingsError."""
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
            raise SettingsError(f"`judge`: `{folder / 'judge.json'}` is not a JSON object: {error}") from None
        name = "reference-judge" if folder == _EMBEDDED else folder.name
        return ConceptLooker(judge, judge.concepts, name, "1", budget=seconds)
    raise SettingsError(
        f"`judge`: `{folder}` must contain `config.json` of an image classifier or `judge.json`, and has neither"
    )


class _TownJudge:
    """A judge of the town that loads on first use, because it needs torch and many commands do not."""

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
        """One mapping of concept to probability per picture."""
        return self._judge.scores(images)
