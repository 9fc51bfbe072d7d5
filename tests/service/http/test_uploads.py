"""Forms are read within their bounds, and what is no form is a clear refusal."""

from __future__ import annotations

import time

import httpx
import pytest

from service.errors import BadRequest
from service.http.uploads import MAX_PARTS, MAX_TEXT, Form, parse_form

B = b"boundary"


def part(name: str, data: bytes, *, file: bool = False, more: bytes = b"") -> bytes:
    filename = b'; filename="x.png"' if file else b""
    head = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + filename
    return b"--" + B + b"\r\n" + head + more + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes, end: bytes = b"--" + B + b"--\r\n") -> bytes:
    return b"".join(parts) + end


def test_texts_and_files_come_back_as_they_were_sent() -> None:
    data = bytes(range(256)) * 5 + b"\r\n--boundar"
    got = parse_form(form(part("prompt", "Straße \N{SNOWMAN}".encode()), part("image", data, file=True)), B)
    assert got == Form({"prompt": "Straße \N{SNOWMAN}"}, {"image": data})


def test_what_a_common_client_sends_is_read() -> None:
    request = httpx.Request("POST", "http://x", data={"n": "2"}, files={"image[]": ("ä.png", b"123", "image/png")})
    boundary = request.headers["content-type"].partition("boundary=")[2]
    got = parse_form(request.read(), boundary.encode())
    assert got == Form({"n": "2"}, {"image[]": b"123"})


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "ends before its last boundary"),
        (b"{}", "not well-formed"),
        (b"--other\r\n\r\n--other--", "not well-formed"),
        (form(part("a", b"1"), end=b""), "ends before its last boundary"),
        (form(part("a", b"1"))[:-8], "ends before its last boundary"),
        (form(part("image", b"1" * 5000, file=True), end=b""), "ends before its last boundary"),
        (form(part("a", b"1"), part("a", b"2")), "`a` appears twice"),
        (form(part("a", b"1"), part("a", b"2", file=True)), "`a` appears twice"),
        (form(part("", b"1")), "with a `name`"),
        (b"--boundary\r\nContent-Type: text/plain\r\n\r\n1\r\n--boundary--\r\n", "with a `name`"),
        (b"--boundary\r\n\r\n1\r\n--boundary--\r\n", "with a `name`"),
        (form(part("a", b"\xff\xfe")), "`a` must be UTF-8"),
        (form(part("a", b"x" * (MAX_TEXT + 1))), f"`a` must be at most {MAX_TEXT} bytes"),
        (form(*(part(f"p{k}", b"1") for k in range(MAX_PARTS + 1))), f"at most {MAX_PARTS} parts"),
        (form(*(part(f"p{k}", b"1", file=True) for k in range(MAX_PARTS + 1))), f"at most {MAX_PARTS} parts"),
        (form(part("a", b"1", more=b"\r\nX: " + b"y" * 10_000)), "not well-formed"),
        (form(part("a", b"1", more=b"\r\nX: y" * 100)), "not well-formed"),
        (form(part("a", b"1", more=b"\r\nX\0: y")), "not well-formed"),
    ],
)
def test_what_is_no_form_is_a_clear_error(raw: bytes, said: str) -> None:
    with pytest.raises(BadRequest) as error:
        parse_form(raw, B)
    assert said in error.value.message
    assert error.value.code == "invalid_form"


def test_a_list_of_pictures_as_openais_client_sends_it_names_the_field() -> None:
    with pytest.raises(BadRequest) as error:
        parse_form(form(*(part("image[]", b"1", file=True),) * 2), B)
    assert (error.value.message, error.value.param) == ("`image` must be one picture, got two", "image")


def test_a_body_that_nearly_ends_a_million_times_is_read_in_time() -> None:
    began = time.process_time()
    parse_form(form(part("image", b"\r\n--boundar" * 300_000, file=True)), B)
    assert time.process_time() - began < 10
