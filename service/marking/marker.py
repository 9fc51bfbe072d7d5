"""Puts the marks that the settings demand on pictures, after their last repair, and finds marks in uploaded files.

The watermark is a pure function of the pixels and the marking key, and credentials are about the finished file. What
cannot be marked raises: it must not leave.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from marking import NotMarked, Watermark, load_watermark
from marking.credentials import (
    BadSigner,
    Credentials,
    NotSigned,
    Parent,
    Signer,
    Statement,
    check_anchors,
    read_credentials,
)
from palimpsest_base.files import read_file
from palimpsest_base.plugins import BadPlugin
from service.errors import BadRequest, MarkingFailed, without_message
from service.image_files import Format, Upload, encode
from service.metrics.catalogue import Mark
from service.metrics.recorder import Recorder
from service.secret_files import load_secret
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

    from service.order import Order

__all__ = ["Marker"]

log = logging.getLogger("bentoml.palimpsest.marking")

_QUALITIES = (40, 50, 60, 75, 90, 100)  # of lossy files, in which a watermark may be lost
_SHORTEST_KEY = 16  # bytes
_SOURCES = {"c2pa": "credentials", "watermark": "watermark"}


class Marker:
    """The marks of one worker. Its methods block; they may be called on any thread."""

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        """Raises `SettingsError` for files, keys and plug-ins with which no picture could be marked."""
        self._recorder = recorder
        self._anchors = settings.trust_anchors
        self.watermarks = settings.marking in ("watermark", "both")
        self.signs = settings.marking in ("signed", "both")
        self._watermark = _watermark(settings)
        self._signer = _signer(settings) if self.signs else None
        recorder.signing_ends(self._signer.ends().timestamp() if self._signer else math.inf)
        if self._anchors is not None:
            try:
                check_anchors(self._anchors)
            except BadSigner as error:
                raise SettingsError(f"`trust_anchors`: {error}") from None

    @property
    def shortest(self) -> int:
        """The shortest side of a picture that can be marked, in pixels."""
        return self._watermark.shortest if self.watermarks else 1

    def markable(self, sizes: Sequence[str]) -> tuple[str, ...]:
        """Those of `sizes`, as `WIDTHxHEIGHT`, that can be marked. Raises `SettingsError` if there is none."""
        fit = tuple(size for size in sizes if min(map(int, size.split("x"))) >= self.shortest)
        if not fit:
            raise SettingsError(
                f"`marking`: the watermark `{self._watermark.name}` needs sides of at least {self.shortest} pixels, and"
                f" the model draws {', '.join(sizes)}"
            )
        return fit

    def watermark(self, image: Image, *, given: bool = False) -> Image:
        """The picture with the watermark in its pixels. `given`: its size is the caller's choice.

        Raises: MarkingFailed; BadRequest, for an uploaded picture that is too small.
        """
        import numpy as np
        from PIL import Image as Images

        if given and min(image.size) < self.shortest:
            message = f"`image` must have sides of at least {self.shortest} pixels, got {image.width}x{image.height}"
            raise BadRequest(message, param="image", code="invalid_image")
        try:
            marked = Images.fromarray(self._watermark.embed(np.asarray(image.convert("RGB"))))
        except Exception as error:  # of a plug-in, too: whatever it was, the picture has no mark
            self._failed("watermark", error)
        self._recorder.marked("watermark", "marked")
        return marked

    def encode(self, image: Image, form: Format, quality: int) -> bytes:
        """The file of a picture that has the watermark, in which it is found again: of `quality`, or of the least
        higher one of a few at which it is. Raises: MarkingFailed.
        """
        import numpy as np
        from PIL import Image as Images

        files = (encode(image, form, q) for q in (quality, *(q for q in _QUALITIES if q > quality)))
        for file in files:
            if form == "png" or self._watermark.find(np.asarray(Images.open(io.BytesIO(file)).convert("RGB"))):
                return file
        return self._failed("watermark", NotMarked(f"the watermark is not found again in a `{form}` file"))

    def sign(self, file: bytes, form: Format, order: Order, how: str, kinds: Sequence[str], *, drawn: bool) -> bytes:
        """The image file with credentials. `how` and `kinds`: what the rules did to the picture, and which categories
        of rules; `drawn`: whether the model drew some of it. Raises: MarkingFailed.
        """
        given = order.given
        statement = Statement(
            model=order.model if drawn else None,
            how=how,
            kinds=tuple(kinds),
            when=datetime.now(UTC),
            watermark=self._watermark.name if self.watermarks and drawn else None,
            parent=None if given is None else Parent(given.file, given.media_type, lambda: encode(given.image, "png")),
        )
        assert self._signer is not None  # INVARIANT: it is only asked where the settings sign
        try:
            signed = self._signer.sign(file, f"image/{form}", statement)
            self._recorder.signing_ends(self._signer.ends().timestamp())  # the files may have been replaced
        except Exception as error:
            self._failed("c2pa", error)
        self._recorder.marked("c2pa", "marked")
        return signed

    def check(self, upload: Upload) -> list[dict[str, Any]]:
        """What is found in an uploaded file, as the results of a provenance check."""
        import numpy as np

        found = read_credentials(upload.file, upload.media_type, self._anchors)
        carries = self._watermark.find(np.asarray(upload.image))
        state = found.state if found else "not_present"
        self._recorder.provenance_checked("c2pa", "invalid" if state == "invalid" else _outcome(_drawn(found)))
        self._recorder.provenance_checked("watermark", _outcome(carries))
        return [
            {
                "type": "c2pa",
                "outcome": _outcome(_drawn(found)),
                "validation_state": state,
                "issuer": found.issuer if found else None,
                "model": found.model if found else None,
                "generated_at": found.generated_at if found else None,
            },
            {
                "type": "watermark",
                "outcome": _outcome(carries),
                "watermark": self._watermark.name,
                "model": None,
                "generated_at": None,
            },
        ]

    def _failed(self, mark: Mark, error: Exception) -> NoReturn:
        self._recorder.marked(mark, "failed")
        own = isinstance(error, NotMarked | NotSigned)  # their messages quote no prompt
        log.error("a picture could not be marked: %s", error if own else without_message(error))
        raise MarkingFailed(_SOURCES[mark]) from None


def _drawn(found: Credentials | None) -> bool:
    return found is not None and found.state != "invalid" and found.generated


def _outcome(detected: bool) -> Any:
    return "detected" if detected else "not_detected"


def _watermark(settings: Settings) -> Watermark:
    """The watermark that the settings name. It is also there to be looked for where nothing is marked."""
    try:
        if settings.marking_key is None:
            key = load_secret(settings.state_folder, "marking.key")
        else:
            key = read_file(settings.marking_key, 1 << 16).strip()
    except OSError as error:
        where = settings.marking_key or settings.state_folder / "marking.key"
        raise SettingsError(f"`marking_key`: `{where}` cannot be read: {error.strerror}") from None
    if len(key) < _SHORTEST_KEY:
        raise SettingsError(f"`marking_key`: the file must hold at least {_SHORTEST_KEY} bytes, got {len(key)}")
    try:
        return load_watermark(settings.watermark, key, settings.plugins)
    except BadPlugin as error:
        raise SettingsError(f"`watermark`: {error}") from None


def _signer(settings: Settings) -> Signer:
    from importlib.metadata import version

    if settings.signing_certificate is None or settings.signing_key is None:
        missing = "signing_certificate" if settings.signing_certificate is None else "signing_key"
        raise SettingsError(f"`{missing}` must be a PEM file where `marking` is `{settings.marking}`, got none")
    signer = Signer(settings.signing_certificate, settings.signing_key, version("palimpsest"))
    try:
        signer.check()
    except BadSigner as error:
        raise SettingsError(f"`marking`: {error}") from None
    return signer
