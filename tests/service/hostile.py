"""Uploaded files as nobody should send them, and as people do: each is made here, none is kept in the repository."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["ODD", "REFUSED", "file_of", "picture"]

LIMIT = 256 * 256


def picture(width: int = 48, height: int = 32, *, seed: int = 0) -> Image.Image:
    """A smooth picture in colour that JPEG keeps well, another one for each seed."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    mixed = np.stack([x, y, (x + y + seed / 7) % 1.0 * 0.5], -1)
    return Image.fromarray((mixed * 255).astype(np.uint8))


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format=form, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, bits: int = 8, colour: int = 2, body: bytes = b"", more: bytes = b"") -> bytes:
    """A PNG with this header, whatever its data is."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def cut(raw: bytes, share: float) -> bytes:
    return raw[: int(len(raw) * share)]


def spoiled(raw: bytes, at: float) -> bytes:
    """The file with 64 bytes overwritten."""
    k = int(len(raw) * at)
    return raw[:k] + b"\xa5" * 64 + raw[k + 64 :]


def with_exif(orientation: Any, form: str = "JPEG", **options: Any) -> bytes:
    """A picture with an orientation, and with a position on the earth."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Camera of Somebody"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    return file_of(picture(), form, exif=exif, **options)


def animation(form: str, frames: int = 3) -> bytes:
    all_ = [picture(seed=k) for k in range(frames)]
    return file_of(all_[0], form, save_all=True, append_images=all_[1:], duration=100)


def deep_grey() -> bytes:
    """16 bits of grey, with values that 8 bits would clip."""
    x = np.linspace(0, 65535, 48).astype(np.uint16)
    return file_of(Image.fromarray(np.tile(x, (32, 1))))


def deep_colour() -> bytes:
    rows = b"".join(b"\0" + struct.pack(">144H", *[0xC0FF, 0x4000, 0x10AA] * 48) for _ in range(32))
    return png(48, 32, bits=16, body=rows)


def see_through(alpha: int) -> Image.Image:
    image = picture().convert("RGBA")
    image.putalpha(Image.fromarray(np.where(np.arange(48) < 24, alpha, 255).astype(np.uint8)[None].repeat(32, 0)))
    return image


def palette() -> Image.Image:
    image = picture().quantize(16)
    image.info["transparency"] = 3
    return image


_JPEG = file_of(picture(), "JPEG", quality=95)
_PNG = file_of(picture())
_WEBP = file_of(picture(), "WEBP", lossless=True)
_TEXT_BOMB = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * (80 << 20), 9))
_PROFILE_BOMB = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\0" * (80 << 20), 9))

# name -> the file, and what its refusal says
REFUSED: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "an empty file"),
    "one byte": (lambda: b"\x89", "a file of another kind"),
    "text": (lambda: b"not a picture at all, but long enough to be one", "a file of another kind"),
    "zeros": (lambda: bytes(4096), "a file of another kind"),
    "a GIF": (lambda: animation("GIF"), "a GIF"),
    "a BMP": (lambda: file_of(picture(), "BMP"), "a BMP"),
    "a TIFF": (lambda: file_of(picture(), "TIFF"), "a TIFF"),
    "an icon": (lambda: file_of(picture(32, 32), "ICO"), "an icon"),
    "a PDF": (lambda: file_of(picture(), "PDF"), "a PDF"),
    "a PostScript program": (lambda: file_of(picture(), "EPS"), "a file of another kind"),
    "an SVG with a script": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "markup"),
    "a HEIC": (lambda: b"\0\0\0\x18ftypheic" + bytes(64), "a HEIC"),
    "a ZIP archive": (lambda: b"PK\3\4" + bytes(64), "a ZIP archive"),
    "a PNG bomb of 50,000 x 50,000": (lambda: png(50_000, 50_000, body=bytes(1000)), "pixels"),
    "a PNG bomb within its sides": (
        lambda: png(8000, 8000, body=bytes(1 << 20)),
        "at most 65536 pixels, got 8000x8000",
    ),
    "a real PNG of many pixels in few bytes": (
        lambda: file_of(Image.new("1", (4000, 4000))),
        "at most 65536 pixels, got 4000x4000",
    ),
    "a JPEG that claims 65,500 x 65,500": (
        lambda: _JPEG.replace(struct.pack(">HH", 32, 48), struct.pack(">HH", 65_500, 65_500), 1),
        "pixels",
    ),
    "a WebP of 16,000 x 16": (lambda: file_of(Image.new("RGB", (16_000, 16)), "WEBP"), "sides of 16 to 8192"),
    "1 x 10,000": (lambda: file_of(Image.new("RGB", (1, 10_000))), "got 1x10000"),
    "10,000 x 1": (lambda: file_of(Image.new("RGB", (10_000, 1))), "got 10000x1"),
    "1 x 1": (lambda: file_of(Image.new("RGB", (1, 1))), "got 1x1"),
    "0 x 0": (lambda: png(0, 0), "broken or cut off"),
    "a text chunk that unpacks to 80 MB": (
        lambda: png(48, 32, more=_TEXT_BOMB, body=(b"\0" + bytes(144)) * 32),
        "broken or cut off",
    ),
    "a profile that unpacks to 80 MB": (
        lambda: png(48, 32, more=_PROFILE_BOMB, body=(b"\0" + bytes(144)) * 32),
        "broken or cut off",
    ),
    "half a PNG": (lambda: cut(_PNG, 0.5), "broken or cut off"),
    "half a JPEG": (lambda: cut(_JPEG, 0.5), "broken or cut off"),
    "half a WebP": (lambda: cut(_WEBP, 0.5), "broken or cut off"),
    "the head of a PNG": (lambda: _PNG[:33], "broken or cut off"),
    "the head of a JPEG": (lambda: _JPEG[:20], "broken or cut off"),
    "a PNG with too little data": (lambda: png(48, 32, body=bytes(100)), "broken or cut off"),
    "a PNG with spoiled data": (lambda: spoiled(_PNG, 0.5), "broken or cut off"),
    "a PNG with a colour type that there is not": (lambda: png(48, 32, colour=5), "broken or cut off"),
    "a WebP with a spoiled stream": (lambda: _WEBP[:30] + b"\xff" * (len(_WEBP) - 30), "broken or cut off"),
    "an animated PNG": (lambda: animation("PNG"), "an animation of 3 frames"),
    "an animated WebP": (lambda: animation("WEBP"), "an animation of 3 frames"),
    "an animation of 200 frames": (lambda: animation("PNG", 200), "an animation of 200 frames"),
}


def turned(k: int) -> Callable[[Image.Image], bool]:
    """Whether a picture is `picture()` as EXIF's orientation `k` shows it, by its four corners."""

    def check(image: Image.Image) -> bool:
        own = np.asarray(picture()).astype(int)
        shown = {
            1: own,
            2: own[:, ::-1],
            3: own[::-1, ::-1],
            4: own[::-1],
            5: own.swapaxes(0, 1),
            6: np.rot90(own, -1),
            7: np.rot90(own, 2).swapaxes(0, 1),
            8: np.rot90(own),
        }[k]
        got = np.asarray(image).astype(int)
        return got.shape == shown.shape and abs(got - shown).mean() < 4

    return check


def same(image: Image.Image) -> bool:
    return np.array_equal(np.asarray(image), np.asarray(picture()))


def close(image: Image.Image) -> bool:
    return abs(np.asarray(image).astype(int) - np.asarray(picture()).astype(int)).mean() < 4


def ramp(image: Image.Image) -> bool:
    row = np.asarray(image)[0, :, 0].astype(int)
    return bool(row[0] == 0 and row[-1] == 255 and (np.diff(row) > 0).all())


def left_is_white(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return bool((pixels[:, :24] == 255).all()) and np.array_equal(pixels[:, 24:], np.asarray(picture())[:, 24:])


# name -> the file, and whether the picture read from it is right
ODD: Mapping[str, tuple[Callable[[], bytes], Callable[[Image.Image], bool]]] = {
    "a plain PNG": (lambda: _PNG, same),
    "a plain WebP": (lambda: _WEBP, same),
    "a plain JPEG": (lambda: _JPEG, close),
    "a progressive JPEG": (lambda: file_of(picture(), "JPEG", quality=95, progressive=True), close),
    "16 bits of grey": (deep_grey, ramp),
    "16 bits a colour": (deep_colour, lambda i: i.getpixel((5, 5)) == (0xC0, 0x40, 0x10)),
    "one bit": (lambda: file_of(Image.new("1", (48, 32), 1)), lambda i: i.getpixel((3, 3)) == (255, 255, 255)),
    "grey with alpha": (lambda: file_of(see_through(0).convert("LA")), lambda i: i.getpixel((3, 3)) == (255,) * 3),
    "a CMYK JPEG": (lambda: file_of(picture().convert("CMYK"), "JPEG", quality=95), close),
    "a palette": (lambda: file_of(picture().quantize(256)), lambda i: i.size == (48, 32)),
    "a palette with a transparent colour": (
        lambda: file_of(palette(), transparency=3),
        lambda i: bool((np.asarray(i)[np.asarray(palette()) == 3] == 255).all()),
    ),
    "a transparent half": (lambda: file_of(see_through(0)), left_is_white),
    "a half that is nearly transparent": (lambda: file_of(see_through(1)), lambda i: min(i.getpixel((3, 3))) > 250),
    "a transparent half in a WebP": (lambda: file_of(see_through(0), "WEBP", lossless=True, exact=True), left_is_white),
    "an orientation that there is not": (lambda: with_exif(77, quality=95), close),
    "broken EXIF": (lambda: file_of(picture(), "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), close),
    "EXIF in a PNG": (lambda: with_exif(6, "PNG"), turned(6)),
    "EXIF in a WebP": (lambda: with_exif(3, "WEBP", lossless=True), turned(3)),
    "a comment and a profile": (
        lambda: file_of(picture(), "JPEG", quality=95, comment=b"secret", icc_profile=b"no profile"),
        close,
    ),
    "an archive behind the picture": (lambda: _PNG + b"PK\3\4" + bytes(5000), same),
    "several pictures in a JPEG": (
        lambda: file_of(picture(), "MPO", save_all=True, append_images=[picture(seed=3)], quality=95),
        close,
    ),
    "an animation of one frame": (lambda: animation("PNG", 1), same),
    **{f"orientation {k}": ((lambda k=k: with_exif(k, quality=95)), turned(k)) for k in range(1, 9)},
}
