"""Training pictures: read from a folder in Hugging Face's `imagefolder` form, and where their lettering is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from tuning.errors import BadLesson

__all__ = ["Box", "Captioned", "read_imagefolder", "text_map"]

Box = tuple[float, float, float, float]

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture and what it is said to show."""

    image: Image.Image
    caption: str


def read_imagefolder(folder: Path, *, caption: str | None = None) -> tuple[list[Captioned], str]:
    """The pictures of a folder with their captions, and a digest of both.

    Captions are lines of `metadata.jsonl` (`file_name`, and `text` or `caption`), or all are `caption`.

    Raises: BadLesson, naming the line or the file.
    """
    if not folder.is_dir():
        raise BadLesson(f"training pictures must be a folder, got `{folder}`")
    told = _captions(folder) if caption is None else {}
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _ENDINGS)
    if not files:
        raise BadLesson(f"`{folder}` must hold pictures ({', '.join(_ENDINGS)}), got none")
    names = [p.relative_to(folder).as_posix() for p in files]
    lacking = [n for n in names if caption is None and n not in told]
    absent = sorted(set(told) - set(names))
    if lacking or absent:
        what = (
            f"`{lacking[0]}` has no caption" if lacking else f"`metadata.jsonl` names `{absent[0]}`, which is no file"
        )
        raise BadLesson(f"{what} ({len(lacking) + len(absent)} such) in `{folder}`")
    digest = hashlib.sha256()
    found = []
    for file, name in zip(files, names, strict=True):
        text = told[name] if caption is None else caption
        digest.update(f"{name}\0{text}\0".encode() + file.read_bytes())
        found.append(Captioned(_opened(file), text))
    return found, digest.hexdigest()


def _captions(folder: Path) -> dict[str, str]:
    file = folder / "metadata.jsonl"
    if not file.is_file():
        raise BadLesson(f"`{folder}` must hold `metadata.jsonl` with a caption of each picture, or give one for all")
    told: dict[str, str] = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["file_name"], row.get("text", row.get("caption"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadLesson(f"line {number} of `{file}` must be an object with `file_name` and `text`") from error
        if not isinstance(name, str) or not isinstance(text, str) or not text.strip():
            raise BadLesson(f"line {number} of `{file}` must have strings `file_name` and `text`, got `{line[:80]}`")
        told[name] = text
    return told


def _opened(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise BadLesson(f"`{file}` cannot be read as a picture: {error}") from error


def text_map(image: Image.Image, boxes: Sequence[Box]) -> Tensor:
    """1 in the boxes of a picture, 0 elsewhere, [h, w]."""
    shown = torch.zeros(image.height, image.width)
    for left, top, right, bottom in boxes:
        shown[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = 1
    return shown
