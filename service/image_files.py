"""Image file formats that a request can ask for."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FORMATS", "Format", "encode"]

Format = Literal["png", "webp", "jpeg"]
FORMATS: tuple[Format, ...] = ("png", "webp", "jpeg")


def encode(image: Image, form: Format, quality: int = 100) -> bytes:
    """The bytes of an image file. `quality`, 0 to 100, applies to WebP and JPEG; PNG is lossless."""
    out = io.BytesIO()
    if form == "png":
        image.save(out, format="PNG")
    else:
        image.convert("RGB").save(
            out, format=form.upper(), quality=max(1, quality)
        )  # 0 would mean "as usual" to Pillow
    return out.getvalue()
