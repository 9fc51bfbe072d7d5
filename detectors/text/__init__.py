"""Text detectors: what a prompt says, asks to be written, and how abusive that is; torch-free."""

from detectors.text.lettering import Lettering, find_lettering, without_lettering
from detectors.text.sense import TextDetectors, default_detectors, read_text, sense
from detectors.text.toxicity import SmallClassifier, TextScorer
from detectors.text.views import make_views

__all__ = [
    "Lettering",
    "SmallClassifier",
    "TextDetectors",
    "TextScorer",
    "default_detectors",
    "find_lettering",
    "make_views",
    "read_text",
    "sense",
    "without_lettering",
]
