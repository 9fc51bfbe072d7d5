"""Heads that can be read two ways are refused, and a connection that asks for nothing ends.

| the law that goes red | when this is broken |
|---|---|
| a head with a fault is refused and never reaches the app | `_Connection.next_event` does not look |
| slow heads end, however they trickle | `_watch` starts a new clock with every byte |
| a request that is being answered is not ended | `_watch` does not ask for it |
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from service.worker.protocol import MAX_HEAD, MAX_HEADERS, StrictProtocol, fault_of, use_strict_protocol

GOOD = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
FAULTS = {
    "two lengths": (GOOD.replace(b"Host", b"Transfer-Encoding: chunked\r\nHost"), 400, "exclude each other"),
    "a bare LF": (GOOD.replace(b"Host: a\r", b"Host: a"), 400, "CR LF"),
    "bare LFs only": (GOOD.replace(b"\r\n", b"\n"), 400, "CR LF"),
    "a folded header": (GOOD.replace(b"Host: a", b"Host: a\r\n b"), 400, "one line"),
    "the same length twice": (GOOD.replace(b"Host", b"Content-Length: 2\r\nHost"), 400, "content-length"),
    "two kinds": (GOOD.replace(b"Host", b"Content-Type: a/b\r\ncontent-type: c/d\r\nHost"), 400, "content-type"),
    "two keys": (GOOD.replace(b"Host", b"Authorization: a\r\nAuthorization: b\r\nHost"), 400, "authorization"),
    "two hosts": (GOOD.replace(b"Host", b"Host: b\r\nHost"), 400, "host"),
    "a long header": (GOOD.replace(b"Host", b"X: " + b"x" * MAX_HEAD + b"\r\nHost"), 431, "bytes"),
    "many headers": (GOOD.replace(b"Host", b"X: y\r\n" * MAX_HEADERS + b"Host"), 431, "headers"),
    "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", 400, "not a valid HTTP request"),
}


class Quick(StrictProtocol):
    head_seconds = 0.4


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, list[str]]]:
    """The port of a server with this protocol, and the paths that its app was asked for. `/slow` takes a second."""
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            asked.append(scope["path"])
            await asyncio.sleep(1.0 if scope["path"] == "/slow" else 0.0)
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(app, port=0, http=Quick, lifespan="off", log_config=None, timeout_keep_alive=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()[1], asked
    running.should_exit = True
    thread.join(10)


def answer(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for piece in pieces:
            try:
                client.sendall(piece)
            except OSError:
                break
            time.sleep(pause)
        got = b""
        try:
            while more := client.recv(65536):
                got += more
        except ConnectionResetError:
            pass
        return got


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("bytewise", [False, True])
def test_a_head_with_a_fault_never_reaches_the_app(server: Any, name: str, bytewise: bool) -> None:
    port, asked = server
    request, status, said = FAULTS[name]
    if bytewise and len(request) > 2000:
        pytest.skip("large")
    before = len(asked)
    got = answer(port, *([request[k : k + 1] for k in range(len(request))] if bytewise else [request]))
    assert got.startswith(b"HTTP/1.1 %d " % status), got[:100]
    assert said in json.loads(got.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert len(asked) == before


def test_the_second_request_of_a_connection_is_looked_at_too(server: Any) -> None:
    port, asked = server
    before = len(asked)
    got = answer(port, GOOD + FAULTS["two lengths"][0])
    assert got.startswith(b"HTTP/1.1 204")
    assert b"HTTP/1.1 400" in got
    assert len(asked) == before + 1


@pytest.mark.parametrize("pieces", [(), (b"POST /x HTTP/1.1\r\n",), (b"POST /x HTTP/1.1\r\n", *[b"X"] * 100)])
def test_a_connection_that_sends_no_whole_head_ends(server: Any, pieces: tuple[bytes, ...]) -> None:
    began = time.monotonic()
    assert answer(server[0], *pieces, pause=0.05) == b""
    assert time.monotonic() - began < 3.5


def test_a_half_head_after_an_answer_ends_too(server: Any) -> None:
    began = time.monotonic()
    got = answer(server[0], GOOD, *[b"P"] * 100, pause=0.05)
    assert got.startswith(b"HTTP/1.1 204")
    assert time.monotonic() - began < 3.5


def test_a_slow_answer_and_a_quick_pipeline_are_not_ended(server: Any) -> None:
    got = answer(server[0], GOOD.replace(b"/x", b"/slow") + GOOD)
    assert got.count(b"HTTP/1.1 204") == 2


def test_servers_that_name_no_protocol_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from uvicorn.config import HTTP_PROTOCOLS

    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])
    use_strict_protocol()
    config = uvicorn.Config(lambda: None, log_config=None)
    config.load()
    assert config.http_protocol_class is StrictProtocol


@given(st.lists(st.sampled_from([b"A: b", b"C:", b"X-Y: \xff"]), max_size=50), st.integers(0, 3))
def test_a_plain_head_has_no_fault_at_any_length(headers: list[bytes], cut: int) -> None:
    head = b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *headers, b"", b""])
    assert fault_of(head + b"\nbody") is None
    assert fault_of(head[: len(head) - cut]) is None
