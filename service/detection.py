"""Which detectors a worker has: the one place that names them.

Each worker owns its own; the heavy ones load when a rule first needs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.planner import WithoutLettering
from service.senses import Look, Sense
from service.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from policies import Signals

__all__ = ["Detection", "build_detection"]


@dataclass(frozen=True, slots=True)
class Detection:
    """How prompts and pictures are read, what pictures can be read for, and prompts without their lettering."""

    sense: Sense
    look: Look
    reads: frozenset[str]
    without_lettering: WithoutLettering


def build_detection(settings: Settings) -> Detection:
    """The detectors that the settings name; none is loaded yet."""
    from detectors import text

    def look(image: Image, reads: frozenset[str]) -> Signals:
        from detectors import images

        return images.look(image, images.readers(), reads=reads)

    return Detection(text.sense, look, frozenset({"lettering"}), text.without_lettering)
