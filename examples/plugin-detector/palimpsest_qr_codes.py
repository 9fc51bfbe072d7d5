"""Finds QR codes in pictures. A code on a sign can carry a link that no reader of letters sees.

The whole plug-in is this file and one line of `pyproject.toml`. `make_detector` is the entry point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from policies import Box, Signal

if TYPE_CHECKING:
    from PIL.Image import Image

    from service.settings import Settings

__all__ = ["QrCodes", "make_detector"]

CONCEPT = "code/qr"


@dataclass(frozen=True, slots=True)
class QrCodes:
    """A picture detector of the concept `code/qr`: score 1 with a box for each code, score 0 where there is none."""

    budget: float  # seconds a picture
    name: str = "qr-codes"
    version: str = "1"

    @property
    def covers(self) -> frozenset[str]:
        return frozenset({CONCEPT})

    def look(self, image: Image) -> Iterator[Signal]:
        pixels = np.asarray(image.convert("L"))
        found, corners = cv2.QRCodeDetectorAruco().detectMulti(pixels)
        for code in corners if found else ():
            left, top = code.min(axis=0)
            right, bottom = code.max(axis=0)
            box = Box(int(left), int(top), int(right), int(bottom))
            yield Signal(CONCEPT, self.name, self.version, "picture", 1.0, box=box)
        if not found:
            yield Signal(CONCEPT, self.name, self.version, "picture", 0.0)


def make_detector(settings: Settings) -> QrCodes:
    """The detector under these settings; called once a worker."""
    return QrCodes(budget=settings.detector_seconds)
