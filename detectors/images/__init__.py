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
from detectors.images.films import JudgedFilm, judge_film, key_frames
from detectors.images.rapid import RapidOcr

__all__ = [
    "ConceptDetector",
    "ConceptLooker",
    "EasyOcr",
    "FolderClassifier",
    "JudgedFilm",
    "LetteringLooker",
    "OcrEngine",
    "PictureDetector",
    "RapidOcr",
    "Reading",
    "Watched",
    "judge_film",
    "key_frames",
    "look",
]
