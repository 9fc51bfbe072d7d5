"""Reads lettering with RapidOCR, whose weights come in its wheel: the embedded default."""

from __future__ import annotations

import importlib.metadata
import threading
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from detectors.images.base import Reading
from policies.types import Box

__all__ = ["RapidOcr"]


class RapidOcr:
    """RapidOCR for small pictures; the models load when the first picture is read.

    `side` is the length to which a picture's shorter side is brought for finding text: 192 reads 64 px signs exactly
    at a quarter of the default's cost. No angle classifier: signs stand upright. `threads` is what one reading may
    use.
    """

    name = "rapidocr"

    def __init__(self, *, side: int = 192, threads: int = 1) -> None:
        if side < 64 or threads < 1:
            raise ValueError(f"`side` must be at least 64 and `threads` at least 1, got {side} and {threads}")
        self._side = side
        self._threads = threads
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        return f"{importlib.metadata.version('rapidocr')}/{self._side}"

    def read(self, image: Image.Image) -> list[Reading]:
        """What `image` says, piece by piece, in pixels of `image`; empty when there is no text."""
        with self._lock:  # one call at a time: the engine keeps its parameters on itself
            # RapidOCR takes arrays in the order of OpenCV: blue first
            pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
            found = self._engine(pixels, use_det=True, use_cls=False, use_rec=True)  # `find` left it without reading
        if found.boxes is None or found.txts is None:
            return []
        return [
            Reading(text, _box(corners), float(score))
            for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        ]

    def find(self, image: Image.Image) -> list[Box]:
        """Where text stands in `image`, without reading it: for engines that cannot find text."""
        with self._lock:
            pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
            found = self._engine(pixels, use_det=True, use_cls=False, use_rec=False)
        return [] if found.boxes is None else [_box(corners) for corners in found.boxes]

    @cached_property
    def _engine(self) -> Any:
        from rapidocr import RapidOCR

        return RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Global.text_score": 0.3,
                "Det.limit_side_len": self._side,
                "Det.limit_type": "min",
                "EngineConfig.onnxruntime.intra_op_num_threads": self._threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )


def _box(corners: Any) -> Box:
    """The upright box around four corners."""
    xs, ys = np.asarray(corners, dtype=float).T
    return Box(float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max()))
