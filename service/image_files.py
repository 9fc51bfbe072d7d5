"""Pictures as image files: the formats that a request can ask for, and the reading of uploaded ones.

An uploaded file is hostile until it is pixels. Its format is found by its content, its size is checked before anything
is decompressed, and only its pixels are kept: metadata (EXIF with its position, XMP, colour profiles, comments) and
what a file may hold besides (thumbnails, further pictures, appended data) are dropped.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from service.errors import BadRequest

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["FORMATS", "LONGEST_SIDE", "SHORTEST_SIDE", "Format", "Upload", "decode", "encode"]

Format = Literal["png", "webp", "jpeg"]
FORMATS: tuple[Format, ...] = ("png", "webp", "jpeg")
SHORTEST_SIDE, LONGEST_SIDE = 16, 8192  # of an uploaded picture, in pixels

_OURS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
# how files that people send instead begin, and what they are
_OTHERS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"%PDF", "a PDF"),
    (b"8BPS", "a Photoshop file"),
    (b"<", "markup, such as SVG"),
    (b"\0\0\1\0", "an icon"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"PK\3\4", "a ZIP archive"),
)
_UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF's orientation -> `PIL.Image.Transpose` that undoes it


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """An uploaded picture: upright RGB pixels without metadata. `clear` [h, w] is true where it was wholly transparent;
    None: nowhere. What was transparent stands on white. `file`: as it was uploaded, for the credentials in it.
    """

    image: Image
    clear: np.ndarray | None = None
    file: bytes = b""
    media_type: str = ""


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


def decode(raw: bytes, *, name: str, max_pixels: int) -> Upload:
    """The picture in an uploaded PNG, JPEG or WebP file; `name` is the field that it came in.

    EXIF's orientation is applied. 16 bits a channel become 8 (the upper ones), CMYK and palettes become RGB. Of a JPEG
    with several pictures, as phones make them, the first is read. Raises: BadRequest, for anything else.
    """
    try:
        return _decoded(raw, name, max_pixels)
    except BadRequest:
        raise
    except Exception:  # Pillow answers broken files with a dozen kinds of errors, and none of them is ours
        raise _bad(name, "must be a whole picture, got a file that is broken or cut off") from None


def _decoded(raw: bytes, name: str, max_pixels: int) -> Upload:
    from PIL import Image, UnidentifiedImageError

    try:
        image: Any = Image.open(io.BytesIO(raw), formats=("PNG", "JPEG", "WEBP"))
    except UnidentifiedImageError:
        if raw.startswith(_OURS):
            raise
        raise _bad(name, f"must be a PNG, JPEG or WebP picture, got {_kind(raw)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _bad(name, f"must have at most {max_pixels} pixels, got many more") from None
    with image:
        _check_size(image.width, image.height, name, max_pixels)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise _bad(name, f"must be a still picture, got an animation of {frames} frames")
        image.load()
        kind = "jpeg" if image.format == "MPO" else image.format.lower()
        return replace(_plain(_upright(image)), file=raw, media_type=f"image/{kind}")


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if min(width, height) < SHORTEST_SIDE or max(width, height) > LONGEST_SIDE:
        sides = f"sides of {SHORTEST_SIDE} to {LONGEST_SIDE} pixels"
        raise _bad(name, f"must have {sides}, got {width}x{height}")
    if width * height > max_pixels:
        raise _bad(name, f"must have at most {max_pixels} pixels, got {width}x{height}")


def _upright(image: Any) -> Any:
    """The picture as EXIF says that it is held. Without a readable orientation, as it is stored."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(0x0112))
    except Exception:  # broken EXIF is common, and the pixels are whole
        turn = None
    return image if turn is None else image.transpose(turn)


def _plain(image: Any) -> Upload:
    """The pixels as 8-bit RGB, in a picture that has nothing of the file."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip
        grey = np.clip(np.asarray(image).astype(np.int32) >> 8, 0, 255).astype(np.uint8)
        return Upload(Image.fromarray(np.stack([grey] * 3, -1)))
    if not image.has_transparency_data:
        return Upload(Image.fromarray(np.asarray(image.convert("RGB"))))
    seen = image.convert("RGBA")
    clear = np.asarray(seen.getchannel("A")) == 0
    on_white = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    return Upload(Image.fromarray(np.asarray(on_white)), clear if clear.any() else None)


def _kind(raw: bytes) -> str:
    """What a file is that is no picture of ours."""
    if not raw:
        return "an empty file"
    if raw[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    return next((kind for begin, kind in _OTHERS if raw.lstrip().startswith(begin)), "a file of another kind")


def _bad(name: str, message: str) -> BadRequest:
    return BadRequest(f"`{name}` {message}", param=name, code="invalid_image")
