"""Finds concepts in prompts by meaning: closer to examples of the concept than to innocent counter-examples.

One threshold is not enough: for a sentence encoder, a chef with a knife is as close to `weapons` as a dagger is. A
concept is therefore given by examples *and* by counter-examples that only look like it, and the score is the margin
between the two. The encoder is any transformers folder with safetensors. Nothing is downloaded.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detectors.running import NotFinite
from policies.types import Signal, Span, TextSource, View

__all__ = ["Anchors", "Encoder", "FolderEncoder", "SemanticConcepts", "load_anchors"]

_MOST_CLAUSES = 12
_SHARPNESS = 0.05  # how much more than the margin makes a score of 0.73


@dataclass(frozen=True, slots=True)
class Anchors:
    """The texts that define a concept: `examples` of it, and `unless`, which only look like it.

    A text counts when it is at least `floor` near to an example (cosine), and nearer to it by `margin` than to any
    counter-example.
    """

    examples: tuple[str, ...]
    unless: tuple[str, ...] = ()
    margin: float = 0.05
    floor: float = 0.35

    def __post_init__(self) -> None:
        if not self.examples or not 0 <= self.margin <= 2 or not -1 <= self.floor <= 1:
            got = f"{len(self.examples)} examples, margin {self.margin}, floor {self.floor}"
            raise ValueError(f"anchors must have examples, a margin in [0, 2] and a floor in [-1, 1], got {got}")


class Encoder(Protocol):
    """Turns texts into vectors of length one, [n, d]."""

    @property
    def version(self) -> str: ...
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class FolderEncoder:
    """A sentence encoder from a transformers folder: the mean of the last layer over a text's tokens.

    Loaded at the first text, from safetensors only. Raises `FileNotFoundError` when it is made and something is
    missing.
    """

    def __init__(self, folder: str | Path, *, longest: int = 128) -> None:
        self._folder = Path(folder)
        self._longest = longest
        self._lock = threading.Lock()
        missing = [n for n in ("config.json", "model.safetensors") if not (self._folder / n).is_file()]
        if missing:
            raise FileNotFoundError(f"`{folder}` must hold {' and '.join(f'`{n}`' for n in missing)}")

    @property
    def version(self) -> str:
        return self._folder.name

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of `texts`, [n, d], each of length one."""
        import torch

        with self._lock:
            model, tokenizer = self._loaded
        inputs = tokenizer(list(texts), return_tensors="pt", padding=True, truncation=True, max_length=self._longest)
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None].float()
            means = (states * mask).sum(1) / mask.sum(1).clamp_min(1.0)
            vectors: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=1).numpy()
        return vectors

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer

        model = AutoModel.from_pretrained(self._folder, local_files_only=True, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        return model.eval(), tokenizer


class SemanticConcepts:
    """Finds the concepts of `table` in texts; a finder of concepts like `ConceptWords`, but by meaning.

    The score of a finding is 0.5 where the margin is just reached. The whole text is judged, and each clause of it:
    a concept in one clause of a long prompt is not averaged away.
    """

    name = "semantic"

    def __init__(self, encoder: Encoder, table: Mapping[str, Anchors], *, least: float = 0.05) -> None:
        self._encoder = encoder
        self._table = dict(table)
        self._least = least

    @property
    def concepts(self) -> frozenset[str]:
        return frozenset(self._table)

    @property
    def version(self) -> str:
        return self._encoder.version

    def find(self, views: Sequence[View], source: TextSource, text: str) -> list[Signal]:
        """One signal for each concept that `text` may be about, with the clause that says so."""
        clauses = list(_clauses(text))
        if not clauses:
            return []
        vectors = self._encode([text[a:b] for a, b in clauses])
        found = []
        for concept in sorted(self._table):
            score, place = self._best(concept, vectors)
            if score >= self._least:
                a, b = clauses[place]
                found.append(
                    Signal(concept, self.name, self.version, score=score, text=text[a:b], span=Span(source, a, b))
                )
        return found

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = self._encoder.encode(texts)
        if not np.isfinite(vectors).all():
            raise NotFinite(f"the vectors of `{self.version}` must be finite numbers")
        return vectors

    def _best(self, concept: str, vectors: NDArray[np.float32]) -> tuple[float, int]:
        """The highest score of any clause, and which clause that is."""
        anchors, (examples, unless) = self._table[concept], self._anchors[concept]
        near = (vectors @ examples.T).max(1)
        against = (vectors @ unless.T).max(1) if len(unless) else np.full(len(vectors), anchors.floor - anchors.margin)
        lead = np.where(near >= anchors.floor, near - against - anchors.margin, -1.0)
        place = int(lead.argmax())
        return 1.0 / (1.0 + math.exp(-max(-20.0, float(lead[place]) / _SHARPNESS))), place

    @cached_property
    def _anchors(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        encode = self._encode
        return {
            concept: (encode(a.examples), encode(a.unless) if a.unless else np.zeros((0, 1), np.float32))
            for concept, a in self._table.items()
        }


def load_anchors(path: str | Path) -> dict[str, Anchors]:
    """The table of `path`: JSON of `{concept: {"examples": [...], "unless": [...], "margin": x, "floor": y}}`.

    Raises ValueError on anything else.
    """
    table = json.loads(Path(path).read_text("utf-8"))
    if not isinstance(table, Mapping):
        raise ValueError(f"`{path}` must hold a mapping of concepts, got {type(table).__name__}")
    anchors = {}
    for concept, entry in table.items():
        if not isinstance(entry, Mapping) or not set(entry) <= {"examples", "unless", "margin", "floor"}:
            raise ValueError(
                f"`{path}`: concept `{concept}` must have `examples` and may have `unless`, `margin` and `floor`"
            )
        lists = {k: tuple(entry.get(k, ())) for k in ("examples", "unless")}
        numbers = {k: float(entry[k]) for k in ("margin", "floor") if k in entry}
        try:
            anchors[str(concept)] = Anchors(lists["examples"], lists["unless"], **numbers)
        except ValueError as error:
            raise ValueError(f"`{path}`: concept `{concept}`: {error}") from None
    return anchors


def _clauses(text: str) -> list[tuple[int, int]]:
    """The bounds of the whole text, and of each part between commas, when there are several."""
    bounds: list[tuple[int, int]] = []
    start = 0
    for end in [*(i for i, c in enumerate(text) if c in ",.;\n|"), len(text)]:
        if len(text[start:end].split()) > 1:
            bounds.append((start + len(text[start:end]) - len(text[start:end].lstrip()), end))
        start = end + 1
    whole = [(0, len(text))] if text.strip() else []
    return whole + [b for b in bounds[:_MOST_CLAUSES] if b != (0, len(text))]
