"""Scores how abusive a text is, without torch: a lexicon and a small classifier of our own.

The classifier is a logistic regression on hashed character n-grams and words; its weights are 8-bit numbers in a JSON
file that `python -m detectors.train_toxicity` makes. It is no Detoxify and is never called so: it knows blunt English
abuse, in words that no list has.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from policies.matcher import Matcher
from policies.types import View

__all__ = ["SmallClassifier", "TextScorer", "features", "lexicon_matcher", "lexicon_score"]

_LEXICON_SCORE = 0.9
_LEAST_LETTERS = 4
FORMAT = "palimpsest.toxicity/v1"


class TextScorer(Protocol):
    """Something that scores texts by category of abuse, each in [0, 1]; `toxicity` is the overall category."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]: ...


def features(text: str, size: int) -> NDArray[np.intp]:
    """The places, of `size`, that `text` sets to one: hashed 2- to 5-grams of each word with its edges, words, and
    pairs of words."""
    words = text.split()
    found: set[int] = set()
    for word in words:
        edged = f"<{word[:24]}>"
        for n in (2, 3, 4, 5):
            for i in range(max(1, len(edged) - n + 1)):
                found.add(crc32(edged[i : i + n].encode()) % size)
        found.add(crc32(b"w:" + word.encode()) % size)
    for first, second in pairwise(words):
        found.add(crc32(f"p:{first} {second}".encode()) % size)
    return np.fromiter(found, dtype=np.intp, count=len(found))


@dataclass(frozen=True)
class SmallClassifier:
    """A logistic regression on `features`; `weights` has one number for each place."""

    weights: NDArray[np.float32]
    bias: float
    version: str
    name: str = "small-toxicity"

    @classmethod
    def load(cls, path: str | Path) -> SmallClassifier:
        """The classifier in the JSON file `path`."""
        data = json.loads(Path(path).read_text("utf-8"))
        if data.get("format") != FORMAT:
            raise ValueError(f"`{path}` must be of format `{FORMAT}`, got `{data.get('format')}`")
        quantised = np.frombuffer(base64.b64decode(data["weights"]), dtype=np.int8)
        weights = quantised.astype(np.float32) * np.float32(data["scale"])
        if len(weights) != data["size"] or not np.isfinite(weights).all():
            raise ValueError(f"`{path}` must hold {data['size']} finite weights, got {len(weights)}")
        return cls(weights, float(data["bias"]), str(data["version"]))

    def score(self, text: str) -> float:
        """The probability that `text`, folded, is abusive.

        0 for fewer than four letters, about which n-grams say nothing.
        """
        if sum(c.isalpha() for c in text) < _LEAST_LETTERS:
            return 0.0
        places = features(text, len(self.weights))
        logit = self.bias + float(self.weights[places].sum()) / len(places) ** 0.5
        return 1.0 / (1.0 + float(np.exp(-logit)))

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        return [{"toxicity": self.score(text)} for text in texts]


def lexicon_matcher(path: str | Path) -> Matcher:
    """A matcher of the one list in the file `path`."""
    lines = Path(path).read_text("utf-8").splitlines()
    return Matcher({"lexicon": [line for line in lines if line.strip() and not line.startswith("#")]})


def lexicon_score(matcher: Matcher, views: Iterable[View]) -> float:
    """0.9 when a word of the lexicon stands in any of `views`, else 0."""
    return _LEXICON_SCORE if any(True for view in views for _ in matcher.find(view)) else 0.0
