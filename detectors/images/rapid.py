"""Reads lettering with RapidOCR, whose weights come in its wheel: the embedded default."""

from __future__ import annotations

import importlib.metadata
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
from PIL import Image

from detectors.images.base import Reading
from detectors.images.ways import Crop, Line, every_way
from detectors.images.windows import Pixels, Window, distinct, windows_of
from detectors.running import Limit, NotFinite
from policies.types import Box

__all__ = ["RapidOcr"]

_AT_ONCE = 48  # lines that are recognised before the time is looked at
_FAINT = 0.3  # readings below are left out
_LONG = 8  # a longer side is at most so many times the shorter one, or is made so: the engine enlarges the shorter side


class RapidOcr:
    """RapidOCR for pictures of any size; the models load when the first picture is read, once in a process.

    `side` is the least length to which a picture's shorter side is brought for finding text: 192 reads 64 px signs
    exactly at a quarter of the default's cost. Large pictures are searched in windows, and lines that do not read well
    are read upside down and mirrored, too. `threads` is what one reading may use, and `seconds` how long it may take
    before it ends with `TooMuch`.
    """

    name = "rapidocr"

    def __init__(self, *, side: int = 192, threads: int = 1, seconds: float = math.inf) -> None:
        if side < 64 or threads < 1 or not seconds > 0:
            least = "`side` must be at least 64, `threads` at least 1 and `seconds` positive"
            raise ValueError(f"{least}, got {side}, {threads} and {seconds}")
        self._side = side
        self._threads = threads
        self._seconds = seconds

    @property
    def version(self) -> str:
        return f"{importlib.metadata.version('rapidocr')}/{self._side}"

    def read(self, image: Image.Image) -> list[Reading]:
        """What `image` says, piece by piece, in pixels of `image`; empty when there is no text.

        A line that reads better upside down or mirrored has that reading, too, at the same place.
        """
        with self._engine.lock:
            limit = Limit(self._seconds)
            recognise = partial(self._recognise, limit)
            places = self._places(image, limit)
            told = recognise([crop for _, crop in places])
            lines = [Line(text, score, box, crop) for (box, crop), (text, score) in zip(places, told, strict=True)]
            return [r for r in every_way(lines, recognise) if r.text.strip() and r.score >= _FAINT]

    def find(self, image: Image.Image) -> list[Box]:
        """Where text stands in `image`, without reading it: for engines that cannot find text."""
        with self._engine.lock:
            return [box for box, _ in self._places(image, Limit(self._seconds))]

    def _places(self, image: Image.Image, limit: Limit) -> list[tuple[Box, Crop]]:
        """Where text stands, and each line laid flat. A line that a window cuts off gives way to a whole one."""
        # RapidOCR takes arrays in the order of OpenCV: blue first
        windows = windows_of(np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1]))
        found: list[tuple[Window, Box, Crop]] = []
        for window in windows:
            limit.check()
            found += [(window, box, crop) for box, crop in self._found(window.pixels)]
        if len(windows) > 1:
            found.sort(key=lambda place: (place[0].cuts(place[1]), place[0].whole))
        boxes = [window.in_picture(box) for window, box, _ in found]
        return [(boxes[i], found[i][2]) for i in (distinct(boxes) if len(windows) > 1 else range(len(boxes)))]

    def _found(self, pixels: Pixels) -> list[tuple[Box, Crop]]:
        """The lines in one window: where each stands, and its pixels laid flat."""
        from rapidocr.main import RapidOCRError
        from rapidocr.utils.process_img import map_boxes_to_original

        flat, record = self.library.preprocess_img(np.ascontiguousarray(_widened(pixels)))
        try:
            crops, found = self.library.detect_and_crop(flat, record)
        except RapidOCRError:  # its way to say that there is no text
            return []
        corners = map_boxes_to_original(found.boxes, record, *pixels.shape[:2])
        return [(_box(four), crop) for four, crop in zip(corners, crops, strict=True)]

    def _recognise(self, limit: Limit, crops: Sequence[Crop]) -> list[tuple[str, float]]:
        read: list[tuple[str, float]] = []
        for start in range(0, len(crops), _AT_ONCE):
            limit.check()
            told = self.library.recognize_txt(list(crops[start : start + _AT_ONCE]))
            read += [(text, float(score)) for text, score in zip(told.txts, told.scores, strict=True)]
        return read

    @property
    def library(self) -> Any:
        """The library's own engine as it is set up here: called with a picture, it makes one pass as it stands."""
        return self._engine.library

    @cached_property
    def _engine(self) -> _Engine:
        return _loaded(self._side, self._threads)


@dataclass(frozen=True, slots=True)
class _Engine:
    """The library's engine, and the lock of its callers: it keeps the parameters of a call on itself."""

    library: Any
    lock: threading.Lock


@cache
def _loaded(side: int, threads: int) -> _Engine:
    """The engine with these settings, which all readers share: its networks take a second to load."""
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.use_cls": False,
            "Det.limit_side_len": side,
            "Det.limit_type": "min",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    for part in (engine._load_det_model(), engine._load_rec_model()):
        part.session = _finite(part.session)
    return _Engine(engine, threading.Lock())


def _finite(session: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The network of `session`; its outputs are checked, because RapidOCR finds no text and no letter in NaN.

    A call raises: NotFinite.
    """

    def checked(inputs: Any) -> Any:
        outputs = session(inputs)
        if not np.isfinite(outputs).all():
            raise NotFinite("the outputs of `rapidocr` must be finite numbers")
        return outputs

    return checked


def _widened(pixels: Pixels) -> Pixels:
    """A strip with plain ground below or beside it: as it is, 640 by 2 pixels would be enlarged a hundredfold."""
    import cv2

    height, width = pixels.shape[:2]
    least = -(-max(height, width) // _LONG)
    below, beside = max(0, least - height), max(0, least - width)
    if not below and not beside:
        return pixels
    ground = [float(value) for value in np.median(pixels, axis=(0, 1))]
    return np.asarray(cv2.copyMakeBorder(pixels, 0, below, 0, beside, cv2.BORDER_CONSTANT, value=ground), np.uint8)


def _box(corners: Any) -> Box:
    """The upright box around four corners."""
    xs, ys = np.asarray(corners, dtype=float).T
    return Box(float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max()))
