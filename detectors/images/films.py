"""Judges a film by its key frames: those that differ most from each other, each judged as a picture is.

Frames in even steps miss what is shown for a moment. The first and the last frame are key frames; each further one is
the frame that is least like any chosen before, by small copies. Equal frames are looked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from policies import VERDICTS, Decision, Request, Signals, Snapshot, decide

__all__ = ["MOST", "JudgedFilm", "judge_film", "key_frames"]

MOST = 8
_SIDE = 32  # pixels of the small copies that are compared


@dataclass(frozen=True, slots=True)
class JudgedFilm:
    """The strictest decision on a film, the first frame that it was made on, and the frames that were looked at."""

    decision: Decision
    frame: int
    looked: tuple[int, ...]


def key_frames(frames: Sequence[Image.Image], most: int | None = MOST) -> tuple[int, ...]:
    """The numbers of at most `most` frames of a film, ascending from 0; None: all frames that differ.

    Raises:
        ValueError: there is no frame, the frames differ in size, or `most` is less than 1.
    """
    sizes = sorted({frame.size for frame in frames})
    if len(sizes) != 1:
        raise ValueError(f"frames must be one or more pictures of one size, got {len(frames)} of the sizes {sizes}")
    if most is not None and most < 1:
        raise ValueError(f"most must be 1 or more, got {most}")
    first = {(frames[k].mode, sha256(frames[k].tobytes()).digest()): k for k in reversed(range(len(frames)))}
    different = sorted(first.values())
    if most is None or len(different) <= most:
        return tuple(different)
    small = np.stack([_small(frames[k]) for k in different])
    chosen = [0, len(different) - 1][:most]
    far = np.min([_apart(small, n) for n in chosen], axis=0)
    while len(chosen) < most:
        far[chosen] = -1.0  # copies of different frames may be equal
        chosen.append(int(far.argmax()))
        far = np.minimum(far, _apart(small, chosen[-1]))
    return tuple(sorted(different[n] for n in chosen))


def judge_film(
    request: Request,
    signals: Signals,
    snapshot: Snapshot,
    frames: Sequence[Image.Image],
    look: Callable[[Image.Image, frozenset[str]], Signals],
    *,
    most: int | None = MOST,
) -> JudgedFilm:
    """The decision on a film: the strictest of those on its key frames. A frame that cannot be read makes the rules
    that needed it apply their `on_error`, as for a picture.

    Args:
        signals: of the request's texts, as for the decision on its prompt.
        look: a frame and the names that it is read for, to signals; see `detectors.images.look`.
        most: key frames that are looked at; None: every frame that differs from the others.

    Raises:
        ValueError: as `key_frames`.
    """
    looked, before = key_frames(frames, most), decide(request, signals, snapshot)
    judged = [_judge(request, signals, before, snapshot, frames[k], look) for k in looked]
    worst = max(range(len(looked)), key=lambda n: (VERDICTS.index(judged[n].verdict), -n))
    return JudgedFilm(judged[worst], looked[worst], looked)


def _judge(
    request: Request,
    signals: Signals,
    before: Decision,
    snapshot: Snapshot,
    frame: Image.Image,
    look: Callable[[Image.Image, frozenset[str]], Signals],
) -> Decision:
    """The decision on one frame. If it triggers another rule, it may be read a second time."""
    judged, read = before, frozenset[str]()
    while missing := judged.reads - read:
        signals += look(frame, missing)
        read |= missing
        judged = decide(request, signals, snapshot, stage="picture", before=before)
    return judged


def _small(frame: Image.Image) -> NDArray[Any]:
    return np.asarray(frame.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32) / 255


def _apart(small: NDArray[Any], k: int) -> NDArray[Any]:
    """How much each frame differs from frame k: the mean absolute difference."""
    return np.asarray(np.abs(small - small[k]).mean((1, 2, 3)))
