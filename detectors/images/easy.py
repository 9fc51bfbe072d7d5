"""Reads lettering with EasyOCR from weights that are at hand; nothing is ever downloaded.

EasyOCR unpickles its weights and imports a user's network as code. Its own weights are held to their digests by
EasyOCR itself; a user's weights are either safetensors, or are refused unless they hold nothing but tensors. The
network's code is trusted configuration, never a request's business.
"""

from __future__ import annotations

import importlib.metadata
import math
import pickle
import tempfile
import threading
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from detectors.images.base import Reading
from detectors.images.ways import Crop, Line, Recognise, every_way
from detectors.running import Limit, NotFinite
from policies.types import Box

__all__ = ["EMBEDDED", "EasyOcr", "Finder"]

_AT_ONCE = 48  # lines that are recognised before the time is looked at
_DETECTOR = "craft_mlt_25k.pth"
# our own recognition network for signs of the town, and its name
EMBEDDED = Path(__file__).parent.parent / "data" / "easyocr"


class Finder(Protocol):
    """Finds where lettering stands, in pixels of the picture."""

    def find(self, image: Image.Image) -> list[Box]: ...


class EasyOcr:
    """EasyOCR with the recognizer `network` and, unless told otherwise, its own text detector.

    `weights` is the folder of the weights, `networks` that of a user's own network (`<network>.py` and `.yaml`, its
    weights `<network>.safetensors` or `.pth`). Without the detector's weights, `finder` says where lettering stands
    (RapidOCR can), or with `whole` a picture is read as one line: for crops. A reading that takes more than `seconds`
    ends with `TooMuch`. Raises `FileNotFoundError`, which names what is missing, when it is made and not when the first
    picture comes.
    """

    name = "easyocr"

    def __init__(
        self,
        weights: str | Path,
        *,
        network: str = "english_g2",
        networks: str | Path | None = None,
        languages: tuple[str, ...] = ("en",),
        finder: Finder | None = None,
        whole: bool = False,
        seconds: float = math.inf,
    ) -> None:
        self._weights = Path(weights)
        self._networks = Path(networks) if networks is not None else None
        self._network = network
        self._languages = languages
        self._finder = finder
        self._whole = whole
        self._seconds = seconds
        self._lock = threading.Lock()
        self._check()

    @classmethod
    def embedded(cls, *, finder: Finder | None = None) -> EasyOcr:
        """EasyOCR with the small recognition network of our own: capitals and digits on plain signs, nothing else."""
        return cls(EMBEDDED, network="signreader", networks=EMBEDDED, finder=finder, whole=finder is None)

    @classmethod
    def of_folder(cls, folder: str | Path, *, finder: Finder, seconds: float = math.inf) -> EasyOcr:
        """EasyOCR as `folder` has it: its standard weights, or one user network, which gets `finder`'s places."""
        own = sorted(Path(folder).glob("*.yaml"))
        if not own:
            return cls(folder, seconds=seconds)
        if len(own) > 1:
            names = ", ".join(f"`{path.name}`" for path in own)
            raise FileNotFoundError(f"`{folder}` must contain exactly one custom network, got {names}")
        return cls(folder, network=own[0].stem, networks=folder, finder=finder, seconds=seconds)

    @property
    def version(self) -> str:
        return f"{importlib.metadata.version('easyocr')}/{self._network}"

    def read(self, image: Image.Image) -> list[Reading]:
        """What `image` says, piece by piece, in pixels of `image`.

        A line that reads better upside down or mirrored has that reading, too, at the same place.
        """
        boxes, gray = self._places(image), np.asarray(image.convert("L"))
        with self._lock:
            reader, limit = self._reader, Limit(self._seconds)  # what is loaded is not part of the time
            recognise = partial(self._recognise, limit)
            if boxes is None:
                pixels = np.asarray(image.convert("RGB"))[:, :, ::-1]
                found = reader.readtext(np.ascontiguousarray(pixels))
            else:
                found = []
                for start in range(0, len(boxes), _AT_ONCE):
                    limit.check()
                    found += reader.recognize(gray, boxes[start : start + _AT_ONCE], [])
            lines = [_line(text, float(score), _box(corners), gray, recognise) for corners, text, score in found]
            return every_way(lines, recognise)

    def _recognise(self, limit: Limit, crops: Sequence[Crop]) -> list[tuple[str, float]]:
        read: list[tuple[str, float]] = []
        for crop in crops:
            limit.check()
            ((_, text, score),) = self._reader.recognize(crop, [[0, crop.shape[1], 0, crop.shape[0]]], [])
            read.append((text, float(score)))
        return read

    def _places(self, image: Image.Image) -> list[list[int]] | None:
        """Where to read, as EasyOCR wants it: [left, right, top, bottom]; None when its own detector looks."""
        if self._whole:
            return [[0, image.width, 0, image.height]]
        if self._finder is None:
            return None
        return [places for box in self._finder.find(image) if (places := _within(box, image.width, image.height))]

    @cached_property
    def _reader(self) -> Any:
        import easyocr

        with tempfile.TemporaryDirectory() as folder:
            weights = self._weights if self._networks is None else self._unpacked(Path(folder))
            reader = easyocr.Reader(
                list(self._languages),
                gpu=False,
                model_storage_directory=str(weights),
                user_network_directory=str(self._networks) if self._networks else None,
                recog_network=self._network,
                detector=self._own_detector,
                download_enabled=False,
                verbose=False,
            )
        for network in filter(None, (reader.recognizer, getattr(reader, "detector", None))):
            network.register_forward_hook(_check_finite)
        return reader

    @property
    def _own_detector(self) -> bool:
        return not self._whole and self._finder is None

    def _unpacked(self, folder: Path) -> Path:
        """The folder that EasyOCR shall read a user's weights from: `folder`, with what was safely read written anew.

        Raises ValueError for weights that hold more than tensors.
        """
        import torch
        from safetensors.torch import load_file

        plain = self._weights / f"{self._network}.safetensors"
        if plain.is_file():
            state = {k if k.startswith("module.") else f"module.{k}": v.float() for k, v in load_file(plain).items()}
        else:
            path = self._weights / f"{self._network}.pth"
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:
                raise ValueError(f"`{path}` must contain tensors only; save it again as a state dict") from None
        torch.save(state, folder / f"{self._network}.pth")
        if self._own_detector:
            (folder / _DETECTOR).symlink_to((self._weights / _DETECTOR).resolve())
        return folder

    def _check(self) -> None:
        kinds = (".pth",) if self._networks is None else (".safetensors", ".pth")
        needed: list[Sequence[Path]] = [[self._weights / f"{self._network}{kind}" for kind in kinds]]
        needed += [[self._weights / _DETECTOR]] if self._own_detector else []
        if self._networks is not None:
            needed += [[self._networks / f"{self._network}{kind}"] for kind in (".py", ".yaml")]
        missing = [str(paths[-1]) for paths in needed if not any(path.is_file() for path in paths)]
        if missing:
            names = ", ".join(f"`{m}`" for m in missing)
            raise FileNotFoundError(f"easyocr needs {names}; put them there (nothing is downloaded), or use rapidocr")


def _check_finite(_network: Any, _inputs: Any, outputs: Any) -> None:
    """Raises `NotFinite`: EasyOCR finds no text and no letter in NaN."""
    import torch

    for each in outputs if isinstance(outputs, tuple) else (outputs,):
        if not torch.isfinite(each).all():
            raise NotFinite("the outputs of `easyocr` must be finite numbers")


def _within(box: Box, width: int, height: int) -> list[int] | None:
    """`box` cut to the picture; None when less than two pixels are left of it."""
    left, top = max(0, int(box.left)), max(0, int(box.top))
    right, bottom = min(width, round(box.right)), min(height, round(box.bottom))
    return [left, right, top, bottom] if right - left >= 2 and bottom - top >= 2 else None


def _line(text: str, score: float, box: Box, gray: Crop, recognise: Recognise) -> Line:
    """A line with its pixels; one that stands upright is laid on its side, and read so if it reads better."""
    left, right, top, bottom = _within(box, gray.shape[1], gray.shape[0]) or (0, 1, 0, 1)
    crop = gray[top:bottom, left:right]
    if bottom - top > right - left:
        crop = np.ascontiguousarray(np.rot90(crop))
        (laid,) = recognise([crop])
        text, score = max((text, score), laid, key=lambda told: told[1])
    return Line(text, score, box, crop)


def _box(corners: Any) -> Box:
    xs, ys = np.asarray(corners, dtype=float).T
    return Box(float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max()))
