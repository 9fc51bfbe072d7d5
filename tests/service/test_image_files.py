"""Uploaded files become pixels or a clear refusal, whatever they are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFile

from service.errors import BadRequest
from service.image_files import decode, encode
from tests.service.hostile import LIMIT, ODD, REFUSED, file_of, picture, see_through, with_exif


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_a_clear_error_that_names_its_field(name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(BadRequest) as error:
        decode(make(), name="mask", max_pixels=LIMIT)
    assert error.value.message.startswith("`mask` must")
    assert said in error.value.message
    assert (error.value.param, error.value.code) == ("mask", "invalid_image")


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_read_as_it_is_seen(name: str) -> None:
    make, right = ODD[name]
    image = decode(make(), name="image", max_pixels=LIMIT).image
    assert image.mode == "RGB"
    assert right(image)


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
def test_nothing_but_pixels_goes_on(form: str) -> None:
    for raw in (with_exif(6), file_of(picture(), "PNG", icc_profile=b"profile of Somebody")):
        image = decode(raw, name="image", max_pixels=LIMIT).image
        assert image.info == {}
        again = Image.open(io.BytesIO(encode(image, form)))
        assert not dict(again.getexif())
        assert b"Somebody" not in encode(image, form)


def test_what_is_wholly_transparent_is_known() -> None:
    clear = decode(file_of(see_through(0)), name="image", max_pixels=LIMIT).clear
    assert clear is not None
    assert np.array_equal(clear, np.arange(48)[None].repeat(32, 0) < 24)
    assert decode(file_of(see_through(1)), name="image", max_pixels=LIMIT).clear is None
    assert decode(file_of(picture()), name="image", max_pixels=LIMIT).clear is None


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[str] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: unpacked.append(self.format))
    for raw in (file_of(Image.new("RGB", (8000, 8000))), file_of(Image.new("RGB", (8000, 8000)), "JPEG")):
        with pytest.raises(BadRequest, match="got 8000x8000"):
            decode(raw, name="image", max_pixels=LIMIT)
    assert unpacked == []
