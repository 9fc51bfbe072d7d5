"""Reads uploads: bounded bodies of `multipart/form-data`.

Bytes are counted while they arrive, and parts while they begin, so an upload costs at most `limit` bytes of memory. The
names of files and the types that their parts declare are not looked at: what a file is, its content says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.errors import BadRequest, WrongContentType
from service.http.body import read_bytes
from service.http.context import runtime_of
from service.image_files import Upload, decode

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["MAX_PARTS", "MAX_TEXT", "Form", "form_of", "parse_form", "picture_of", "read_form"]

MAX_PARTS = 32
MAX_TEXT = 65_536  # bytes of a part that is no file


@dataclass(frozen=True, slots=True)
class Form:
    """The parts of a form, each name once: `texts`, and `files` with their bytes."""

    texts: Mapping[str, str]
    files: Mapping[str, bytes]


async def read_form(request: Request, limit: int, *, seconds: float) -> Form:
    """The form in a request's body. Raises an `ApiError` if it is none, is larger than `limit` bytes, or does not
    arrive within `seconds`.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind.lower() != b"multipart/form-data":
        raise WrongContentType("send a form with `Content-Type: multipart/form-data`")
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise _bad("`Content-Type` must name a `boundary` of 1 to 70 characters")
    raw = await read_bytes(request, limit, seconds=seconds)
    return await run_in_threadpool(parse_form, raw, boundary)


async def form_of(request: Request, files: Sequence[str]) -> Form:
    """The form of an upload, in which `files` and nothing else are files. OpenAI's clients send a list of one as
    `image[]`. Raises an `ApiError`.
    """
    settings = runtime_of(request).settings
    form = await read_form(request, settings.max_upload, seconds=settings.deadline_seconds)
    for name in form.texts:
        if name.removesuffix("[]") in files:
            raise BadRequest(f"`{name}` must be a file, got a text; send it with a file name", param=name)
    found: dict[str, bytes] = {}
    for sent, raw in form.files.items():
        name = sent.removesuffix("[]")
        if name not in files:
            known = " and ".join(f"`{each}`" for each in files)
            raise BadRequest(f"`{name[:64]}` must not be a file; files are {known}", param=name[:64])
        if name in found:
            raise BadRequest(f"`{name}` must be one picture, got two", param=name)
        found[name] = raw
    return Form(form.texts, found)


async def picture_of(request: Request, form: Form, name: str) -> Upload:
    """The picture in a form's file. Raises `BadRequest` for one that is missing or broken."""
    raw = form.files.get(name)
    if raw is None:
        raise BadRequest(f"`{name}` is missing", param=name, code="missing_required_parameter")
    runtime = runtime_of(request)
    with runtime.recorder.stage("decode"):
        return await run_in_threadpool(decode, raw, name=name, max_pixels=runtime.settings.max_pixels)


def parse_form(raw: bytes, boundary: bytes) -> Form:
    """The form in `raw`. Raises: BadRequest."""
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(raw)
        parser.finalize()
    except FormParserError:
        raise _bad("the body must be a form as `Content-Type` says; it is not well-formed") from None
    if not parts.whole:
        raise _bad("the body must be a whole form; it ends before its last boundary")
    return Form(parts.texts, parts.files)


@dataclass(slots=True)
class _Parts:
    """The parts that were parsed, and the one that is being parsed."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    whole: bool = False
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    name: str = ""
    is_file: bool = False
    data: bytearray = field(default_factory=bytearray)

    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls, by its names."""
        return {
            "on_part_begin": self.begin,
            "on_header_field": lambda data, start, end: self.header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self.value.extend(data[start:end]),
            "on_header_end": self.end_header,
            "on_headers_finished": self.end_headers,
            "on_part_data": self.add,
            "on_part_end": self.end,
            "on_end": self.finish,
        }

    def begin(self) -> None:
        if len(self.texts) + len(self.files) >= MAX_PARTS:
            raise _bad(f"the form must have at most {MAX_PARTS} parts")
        self.disposition, self.data = b"", bytearray()

    def end_header(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = bytes(self.value)
        self.header.clear()
        self.value.clear()

    def end_headers(self) -> None:
        _, options = parse_options_header(self.disposition)
        self.name = _text(options.get(b"name", b""), "the name of a part")
        self.is_file = b"filename" in options
        if not self.name:
            raise _bad("each part of the form must have a `Content-Disposition` with a `name`")
        if self.is_file and self.name in self.files:  # OpenAI's clients send a list so
            name = self.name.removesuffix("[]")[:64]
            raise BadRequest(f"`{name}` must be one picture, got two", param=name)
        if self.name in self.texts or self.name in self.files:
            raise _bad(f"`{self.name[:64]}` appears twice in the form")

    def add(self, data: bytes, start: int, end: int) -> None:
        if not self.is_file and len(self.data) + end - start > MAX_TEXT:
            raise _bad(f"`{self.name[:64]}` must be at most {MAX_TEXT} bytes")
        self.data += data[start:end]

    def end(self) -> None:
        if self.is_file:
            self.files[self.name] = bytes(self.data)
        else:
            self.texts[self.name] = _text(bytes(self.data), f"`{self.name[:64]}`")

    def finish(self) -> None:
        self.whole = True


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad(f"{what} must be UTF-8") from None


def _bad(message: str) -> BadRequest:
    return BadRequest(message, code="invalid_form")
