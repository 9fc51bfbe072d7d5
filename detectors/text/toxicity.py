"""Scores how abusive a text is, without torch, with a lexicon and a small classifier of our own.

The classifier is a logistic regression on hashed character n-grams and words. Its weights are 8-bit numbers in a JSON
file that `python -m evaluation.training.toxicity` makes. It is not Detoxify and is never called that. It recognises
blunt English abuse, in words that no list has.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from policies.matcher import Matcher
from policies.types import View

__all__ = ["SmallClassifier", "TextScorer", "features", "lexicon_matcher", "lexicon_score"]

_LEXICON_SCORE = 0.9
_LEAST_LETTERS = 4
_AROUND = ".,;:!?\"'()[]“”«»…"
FORMAT = "palimpsest.toxicity/v1"


@runtime_checkable
class TextScorer(Protocol):
    """Something that scores texts by category of abuse, each in [0, 1]; `toxicity` is the overall category."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]: ...


def features(text: str, size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The places, of `size`, that `text` sets, and to what: hashed 2- to 5-grams of each word with its edges, of unit
    length together, so that no word drowns in a long text; words, and pairs of words up to three apart, at one."""
    words = [bare for word in text.split() if (bare := word.strip(_AROUND) or word)]
    found: dict[int, float] = {}
    for word in dict.fromkeys(words):
        edged = f"<{word[:24]}>"
        grams = {edged[i : i + n] for n in (2, 3, 4, 5) for i in range(max(1, len(edged) - n + 1))}
        for gram in grams:
            place = crc32(gram.encode()) % size
            found[place] = found.get(place, 0.0) + len(grams) ** -0.5
        place = crc32(b"w:" + word.encode()) % size
        found[place] = found.get(place, 0.0) + 1.0
    for apart in (1, 2, 3):
        for first, second in zip(words, words[apart:], strict=False):
            found.setdefault(crc32(f"p{apart}:{first} {second}".encode()) % size, 1.0)
    return np.fromiter(found, np.intp, len(found)), np.fromiter(found.values(), np.float32, len(found))


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
        places, values = features(text, len(self.weights))
        logit = self.bias + float(self.weights[places] @ values)
        return 1.0 / (1.0 + float(np.exp(-np.clip(logit, -30.0, 30.0))))

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        return [{"toxicity": self.score(text)} for text in texts]


def lexicon_matcher(path: str | Path) -> Matcher:
    """A matcher of the one list in the file `path`."""
    lines = Path(path).read_text("utf-8").splitlines()
    return Matcher({"lexicon": [line for line in lines if line.strip() and not line.startswith("#")]})


def lexicon_score(matcher: Matcher, views: Iterable[View]) -> float:
    """0.9 when a word of the lexicon stands in any of `views`, else 0."""
    return _LEXICON_SCORE if any(True for view in views for _ in matcher.find(view)) else 0.0
