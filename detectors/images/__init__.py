"""Picture detectors: what a picture reads and shows, as signals; engines load when they first look."""

from detectors.images.base import (
    ConceptDetector,
    ConceptLooker,
    LetteringLooker,
    OcrEngine,
    PictureDetector,
    Reading,
    Watched,
    look,
)
from detectors.images.classifier import FolderClassifier
from detectors.images.easy import EasyOcr
from detectors.images.rapid import RapidOcr

__all__ = [
    "ConceptDetector",
    "ConceptLooker",
    "EasyOcr",
    "FolderClassifier",
    "LetteringLooker",
    "OcrEngine",
    "PictureDetector",
    "RapidOcr",
    "Reading",
    "Watched",
    "look",
]
