"""What tests of the closed loop share: what is read in pictures, as a script tells it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from policies import Box, Signal, Signals

__all__ = ["BENIGN", "BOX", "PROMPT", "Script", "pixels", "seen"]

PROMPT = 'a red star with a sign that says "idiot"'
BENIGN = "a red star on a blue background"
BOX = Box(10, 20, 40, 30)


def pixels(image: Any) -> np.ndarray:
    return np.asarray(image).astype(int)


class Script:
    """Reads pictures as told: call `k` sees `texts[k]`, the last one for ever; `None` reads nothing."""

    def __init__(self, *texts: str | None, fails: bool = False, sleeps: float = 0.0) -> None:
        self.texts, self.fails, self.sleeps = texts, fails, sleeps
        self.seen: list[np.ndarray] = []

    def __call__(self, image: Any, reads: frozenset[str]) -> Signals:
        time.sleep(self.sleeps)
        if self.fails:
            raise RuntimeError("cannot read")
        text = self.texts[min(len(self.seen), len(self.texts) - 1)]
        self.seen.append(pixels(image))
        return seen(text, reads)


def seen(text: str | None, reads: frozenset[str]) -> Signals:
    from detectors.text import read_text

    found = (
        ()
        if text is None
        else (Signal("lettering", "script", "1", "picture", text=text, box=BOX, views=read_text(text)),)
    )
    return Signals(found, frozenset(("picture", name) for name in reads))
