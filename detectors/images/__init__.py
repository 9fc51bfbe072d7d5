"""Picture detectors: the lettering and the concepts in a picture, as signals. Engines load on first use."""

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
