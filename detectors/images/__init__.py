"""Picture detectors: what a picture reads and shows, as signals; engines load when they first look."""

from detectors.images.base import (
    ConceptDetector,
    ConceptLooker,
    LetteringLooker,
    OcrEngine,
    PictureDetector,
    Reading,
    look,
)
from detectors.images.easy import EasyOcr
from detectors.images.rapid import RapidOcr

__all__ = [
    "ConceptDetector",
    "ConceptLooker",
    "EasyOcr",
    "LetteringLooker",
    "OcrEngine",
    "PictureDetector",
    "RapidOcr",
    "Reading",
    "look",
]
