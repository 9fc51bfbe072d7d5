"""Our own watermark: a pattern of the key, spread over the middle frequencies of a picture's brightness.

The pattern is one tile of 64 x 64 pixels, repeated. Its Fourier magnitudes are equal and its phases are the key's. A
detector keeps what a small window does not explain of the brightness, adds all tiles up, and keeps of each frequency
only the phase: it is compared with the key's at every shift, so that a crop does not matter, and at a few scales.

For whatever picture, the phases of a key that it was not marked with are independent and uniform. A sum of k cosines of
such phases exceeds t * sqrt(k) with a probability of at most exp(-t^2) (Hoeffding's bound, because the mean of
exp(x cos) is at most exp(x^2 / 4)). So the false alarms of all shifts and scales together are bounded by choice of t,
and nothing is assumed of pictures.

Every picture gets as much of the pattern as it needs: the least that is found after trials of what happens to pictures.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from marking.watermark import BUILT_IN, NotMarked

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FALSE_ALARMS", "SCALES", "Spread"]

FALSE_ALARMS = 1e-4  # at most, in one picture that was not marked with the key
SCALES = (1.0, 0.75, 2 / 3, 0.5, 2.0)  # of a picture against the marked one, at which the mark is looked for
_TILE = 64
_LOWEST, _HIGHEST = 4.0, 15.5  # periods of the pattern in a tile
_STRENGTHS = tuple(1.5 * 1.2**k for k in range(13))  # grey levels of the pattern, as standard deviation: 1.5 to 13.4
_MARGIN = 0.7  # by which a trial must be above the threshold, since what happens later is not the trial
_LOOKED_AT = 512  # pixels of a side that are looked at, from the middle, once the scale is undone
_WINDOW, _SMOOTH = 5, 10.0  # of the smoothing: its side, and the variance above which an edge is kept
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

_ACROSS, _DOWN = np.meshgrid(np.arange(_TILE // 2 + 1), np.fft.fftfreq(_TILE, 1 / _TILE))  # as `rfft2` lays it out
_RADIUS = np.hypot(_ACROSS, _DOWN)
_BAND = (_RADIUS >= _LOWEST) & (_RADIUS <= _HIGHEST) & (_ACROSS > 0)  # of the column 0, both halves would say the same
_COUNT = int(_BAND.sum())
_THRESHOLD = math.sqrt(math.log(_TILE * _TILE * len(SCALES) / FALSE_ALARMS))


class Spread:
    """The watermark of one key. A mark says one thing: it was made with this key."""

    name = BUILT_IN
    shortest = 64

    def __init__(self, key: bytes) -> None:
        drawn = hashlib.shake_256(b"palimpsest watermark 1\0" + key).digest(4 * _COUNT)
        self._spectrum = np.exp(2j * np.pi * np.frombuffer(drawn, "<u4") / 2**32)
        waves = np.zeros(_BAND.shape, complex)
        waves[_BAND] = self._spectrum
        tile = np.fft.irfft2(waves, s=(_TILE, _TILE))
        self._tile = (tile / tile.std()).astype(np.float32)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The marked pixels [h, w, 3]: the given ones, if they carry the mark already. Raises: NotMarked."""
        h, w = pixels.shape[:2]
        if min(h, w) < self.shortest:
            raise NotMarked(f"a picture needs sides of at least {self.shortest} pixels to be marked, got {w}x{h}")
        pattern = self._pattern(pixels)
        marked = pixels
        for strength in (0.0, *_STRENGTHS):
            marked = np.clip(np.rint(pixels + strength * pattern), 0, 255).astype(np.uint8)
            if all(self._score(tried, scale) > _THRESHOLD + _MARGIN for tried, scale in _trials(marked)):
                return marked
        if self.find(marked):  # it may be lost when the picture changes, yet it is there
            return marked
        raise NotMarked(f"the watermark is not found in this picture of {w}x{h} pixels, however strong it is")

    def find(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether pixels [h, w, 3] carry the mark."""
        return any(self._score(pixels, scale) > _THRESHOLD for scale in SCALES)

    def _pattern(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What is added at strength 1 [h, w, 1]: more where the picture is rough, and it is less seen."""
        h, w = pixels.shape[:2]
        tiled = np.tile(self._tile, (-(-h // _TILE), -(-w // _TILE)))[:h, :w]
        _, variance = _local(_brightness(pixels), 7)
        shaped: NDArray[np.float32] = tiled * np.clip(0.8 + np.sqrt(variance) / 20, 0.8, 2.0)
        return shaped[..., None]

    def _score(self, pixels: NDArray[np.uint8], scale: float) -> float:
        """How well the phases fit the key's at the best shift, if the picture was scaled by `scale`. Of a picture
        without the mark, a shift scores more than t with a probability of at most exp(-t^2).
        """
        if min(pixels.shape[:2]) < 16:
            return 0.0
        seen = np.fft.rfft2(_folded(_residual(_unscaled(pixels, scale))))[_BAND]
        compared = np.zeros((_TILE, _TILE), complex)
        compared[:, : _TILE // 2 + 1][_BAND] = seen / np.maximum(np.abs(seen), 1e-9) * self._spectrum.conj()
        shifts = np.fft.ifft2(compared).real * (_TILE * _TILE)
        return float(shifts.max()) / math.sqrt(_COUNT)


def _trials(marked: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """Marked pixels after what happens to pictures, and the scale at which the mark is then to be found."""
    yield marked, 1.0  # most that are not strong enough end here
    middle = _middle(marked, _LOOKED_AT)
    h, w = middle.shape[:2]
    top, left = h // 16, w // 20
    cropped = middle[top : top + round(0.9 * h), left : left + round(0.9 * w)]
    yield _as_jpeg(cropped, 70), 1.0
    yield _halved(middle), 0.5
    if min(h, w) >= 256:  # smaller ones would need far more to survive all three at once
        yield _as_jpeg(_halved(cropped), 70), 0.5


def _as_jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    h, w = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((w // 2, h // 2), Image.Resampling.LANCZOS))


def _unscaled(pixels: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
    """The brightness [h / scale, w / scale] of the middle of a picture."""
    from PIL import Image

    seen = _brightness(_middle(pixels, round(_LOOKED_AT * scale)))
    if scale == 1.0:
        return seen
    h, w = seen.shape
    size = max(8, round(w / scale)), max(8, round(h / scale))
    return np.asarray(Image.fromarray(seen).resize(size, Image.Resampling.BICUBIC))


def _middle(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _brightness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    bright: NDArray[np.float32] = pixels.astype(np.float32) @ _LUMA
    return bright


def _residual(bright: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a guided filter (He et al., ECCV 2010) takes away: waves on even ground, and little at edges."""
    from scipy.ndimage import uniform_filter

    mean, variance = _local(bright, _WINDOW)
    kept = variance / (variance + _SMOOTH)
    offset = uniform_filter((1 - kept) * mean, _WINDOW)
    rest: NDArray[np.float32] = bright - uniform_filter(kept, _WINDOW) * bright - offset
    return rest


def _local(bright: NDArray[np.float32], side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance in the window around each pixel."""
    from scipy.ndimage import uniform_filter

    mean = uniform_filter(bright, side)
    return mean, np.maximum(uniform_filter(bright * bright, side) - mean * mean, 0)


def _folded(rest: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum of all tiles [64, 64]; what is missing of the last ones is zero."""
    h, w = rest.shape
    whole = np.zeros((-(-h // _TILE) * _TILE, -(-w // _TILE) * _TILE), np.float32)
    whole[:h, :w] = rest
    folded: NDArray[np.float32] = whole.reshape(-1, _TILE, whole.shape[1] // _TILE, _TILE).sum((0, 2))
    return folded
