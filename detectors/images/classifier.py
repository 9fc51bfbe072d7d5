"""Looks for concepts in pictures with any image classifier of transformers, from a local folder.

The folder is an ordinary one (`config.json`, `model.safetensors`, `preprocessor_config.json`) with one file of ours
beside it, `concepts.json`: which of the classifier's labels mean which concept. Without that file the labels that are
written like concepts (`animal/cat`) are taken as they are.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from detectors.running import NotFinite

__all__ = ["FolderClassifier"]

_CONCEPT = re.compile(r"[a-z]+/[a-z0-9-]+")


class FolderClassifier:
    """A transformers image classifier as a detector of concepts, loaded with the first picture.

    Raises `FileNotFoundError` when it is made and something is missing, and `ValueError` when the labels do not fit.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._lock = threading.Lock()
        needed = ("config.json", "model.safetensors", "preprocessor_config.json")
        missing = [name for name in needed if not (self._folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"`{folder}` must hold {' and '.join(f'`{name}`' for name in missing)}")
        config = json.loads((self._folder / "config.json").read_text("utf-8"))
        labels = {str(label): int(i) for i, label in (config.get("id2label") or {}).items()}
        self._places = _places(self._folder, labels)
        self._many = config.get("problem_type") == "multi_label_classification"

    @property
    def name(self) -> str:
        return f"classifier-{self._folder.name}"

    @property
    def concepts(self) -> frozenset[str]:
        return frozenset(self._places)

    def scores(self, images: Sequence[Image.Image], /) -> Sequence[dict[str, float]]:
        """Concept to probability, one mapping a picture: the sum over the concept's labels, at most 1."""
        import torch

        with self._lock:
            model, processor = self._loaded
        inputs = processor(images=[i.convert("RGB") for i in images], return_tensors="pt")
        with torch.inference_mode():
            logits = model(**inputs).logits
        if not torch.isfinite(logits).all():  # the larger of NaN and a number depends on their order
            raise NotFinite(f"the outputs of `{self.name}` must be finite numbers")
        shares = (torch.sigmoid(logits) if self._many else torch.softmax(logits, 1)).tolist()
        join = max if self._many else sum
        return [{c: min(1.0, join(row[i] for i in at)) for c, at in self._places.items()} for row in shares]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        model = AutoModelForImageClassification.from_pretrained(
            self._folder, local_files_only=True, use_safetensors=True
        )
        return model.eval(), AutoImageProcessor.from_pretrained(self._folder, local_files_only=True)


def _places(folder: Path, labels: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Which outputs mean which concept."""
    path = folder / "concepts.json"
    if not path.is_file():
        named: dict[str, tuple[int, ...]] = {label: (i,) for label, i in labels.items() if _CONCEPT.fullmatch(label)}
        if not named:
            raise ValueError(f"`{folder}` needs `concepts.json`, because none of its labels has the form of a concept")
        return named
    table = json.loads(path.read_text("utf-8"))
    if not isinstance(table, Mapping) or not table:
        raise ValueError(f"`{path}` must map concepts to lists of labels, got {type(table).__name__}")
    for concept, of in table.items():
        unknown = sorted(set(of) - set(labels)) if isinstance(of, list) and of else [str(of)]
        if unknown:
            raise ValueError(f"`{path}`: concept `{concept}` must list labels of the classifier, got {unknown}")
    return {str(concept): tuple(labels[label] for label in of) for concept, of in table.items()}
