"""Detectors of other packages: the entry points `palimpsest.detectors` that the setting `plugins` allows.

An entry point names a function that takes the settings and returns one detector or several. The type decides how it is
used: a `PictureDetector` reads pictures, a `ConceptFinder` finds concepts in prompts, and a `TextScorer` scores how
abusive a text is (`docs/extending.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palimpsest_base.plugins import BadPlugin, load_plugins
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from detectors.images import PictureDetector
    from detectors.text.concepts import ConceptFinder
    from detectors.text.toxicity import TextScorer

    Detectors = PictureDetector | ConceptFinder | TextScorer
    Factory = Callable[[Settings], Detectors | Iterable[Detectors]]

__all__ = ["Plugged", "plugged_detectors"]


@dataclass(frozen=True, slots=True)
class Plugged:
    """The detectors of all allowed plug-ins, by type."""

    pictures: tuple[PictureDetector, ...] = ()
    finders: tuple[ConceptFinder, ...] = ()
    scorers: tuple[TextScorer, ...] = ()


def plugged_detectors(settings: Settings) -> Plugged:
    """The detectors of the allowed plug-ins for these settings. Raises: SettingsError."""
    from detectors.images import PictureDetector
    from detectors.text.concepts import ConceptFinder
    from detectors.text.toxicity import TextScorer

    made: list[Detectors] = []
    try:
        for name, factory in load_plugins("palimpsest.detectors", settings.plugins).items():
            made += _made(name, factory, settings)
    except BadPlugin as error:
        raise SettingsError(f"`plugins`: {error}") from None
    pictures = tuple(d for d in made if isinstance(d, PictureDetector))
    finders = tuple(d for d in made if isinstance(d, ConceptFinder))
    scorers = tuple(d for d in made if isinstance(d, TextScorer))
    return Plugged(pictures, finders, scorers)


def _made(name: str, factory: Factory, settings: Settings) -> list[Detectors]:
    """The detectors of one plug-in. Raises: BadPlugin."""
    from detectors.images import PictureDetector
    from detectors.text.concepts import ConceptFinder
    from detectors.text.toxicity import TextScorer

    kinds = (PictureDetector, ConceptFinder, TextScorer)
    try:
        given = factory(settings)
        made = list(given) if isinstance(given, Iterable) and not isinstance(given, kinds) else [given]
    except Exception as error:
        raise BadPlugin(f"the plug-in `{name}` cannot be set up: {error}") from error
    for each in made:
        if not isinstance(each, kinds):
            raise BadPlugin(
                f"the plug-in `{name}` must return `PictureDetector`, `ConceptFinder` or `TextScorer`,"
                f" got `{type(each).__name__}`"
            )
        if isinstance(each, PictureDetector) and not each.budget > 0:
            raise BadPlugin(f"`budget` of the plug-in `{name}` must be seconds above 0, got {each.budget}")
    return made
