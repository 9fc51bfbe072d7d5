"""Reads lettering with EasyOCR from weights that are at hand; nothing is ever downloaded.

EasyOCR unpickles its weights and imports a user's network as code: its folders are trusted configuration, never a
request's business.
"""

from __future__ import annotations

import importlib.metadata
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detectors.images.base import Reading
from policies.types import Box

__all__ = ["EasyOcr"]

_DETECTOR = "craft_mlt_25k.pth"


class EasyOcr:
    """EasyOCR with the recognizer `network` and, unless `whole` is set, its text detector.

    `weights` is the folder of `.pth` files, `networks` the folder of a user's own networks (`<network>.py` and
    `.yaml`). With `whole` a picture is read as one line, without looking for where the text stands: for crops, and
    for setups without the detector's weights. Raises `FileNotFoundError`, which names what is missing, when it is
    made and not when the first picture comes.
    """

    name = "easyocr"

    def __init__(
        self,
        weights: str | Path,
        *,
        network: str = "english_g2",
        networks: str | Path | None = None,
        languages: tuple[str, ...] = ("en",),
        whole: bool = False,
    ) -> None:
        self._weights = Path(weights)
        self._networks = Path(networks) if networks is not None else None
        self._network = network
        self._languages = languages
        self._whole = whole
        self._lock = threading.Lock()
        self._check()

    @property
    def version(self) -> str:
        return f"{importlib.metadata.version('easyocr')}/{self._network}"

    def read(self, image: Image.Image) -> list[Reading]:
        """What `image` says, piece by piece, in pixels of `image`."""
        pixels = np.asarray(image.convert("RGB"))[:, :, ::-1]
        with self._lock:
            if self._whole:
                found = self._reader.recognize(np.asarray(image.convert("L")), [[0, image.width, 0, image.height]], [])
            else:
                found = self._reader.readtext(np.ascontiguousarray(pixels))
        return [Reading(text, _box(corners), min(1.0, max(0.0, float(score)))) for corners, text, score in found]

    @cached_property
    def _reader(self) -> Any:
        import easyocr

        return easyocr.Reader(
            list(self._languages),
            gpu=False,
            model_storage_directory=str(self._weights),
            user_network_directory=str(self._networks) if self._networks else None,
            recog_network=self._network,
            detector=not self._whole,
            download_enabled=False,
            verbose=False,
        )

    def _check(self) -> None:
        needed = [self._weights / f"{self._network}.pth"]
        needed += [] if self._whole else [self._weights / _DETECTOR]
        if self._networks is not None:
            needed += [self._networks / f"{self._network}.py", self._networks / f"{self._network}.yaml"]
        missing = [str(path) for path in needed if not path.is_file()]
        if missing:
            names = ", ".join(f"`{m}`" for m in missing)
            raise FileNotFoundError(f"easyocr needs {names}; put them there (nothing is downloaded), or use rapidocr")


def _box(corners: Any) -> Box:
    xs, ys = np.asarray(corners, dtype=float).T
    return Box(float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max()))
