"""Streams, formats, and what is kept of requests that were not answered: over HTTP, on a real tiny host.

| the law that goes red | when this is broken |
|---|---|
| no picture leaves before its last judgement | `completed` is yielded from `_until_done` |
| what fails before the first event has its status | `_events` yields an error event always |
| a stream is counted by how it ended | `over(None)` is called for streams at once |
| a request that was not answered leaves a record | `generate` records outcomes only |
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

GENERATE = "/v1/images/generations"
BENIGN = "a red star on a blue background"
TOXIC = 'a red star with a sign that says "idiot"'


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    """A client of a service with the defaults."""
    return serve()


def events(answer: Any) -> list[tuple[str, dict[str, Any]]]:
    """Name and data of the events of a stream."""
    found = []
    for block in answer.text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def ask(client: TestClient, **body: Any) -> Any:
    return client.post(GENERATE, json={"prompt": BENIGN, "stream": True, **body})


def records(client: Any) -> list[dict[str, Any]]:
    folder = client.runtime.settings.state_folder / "audit"
    return [json.loads(line) for p in sorted(folder.glob("*.jsonl")) for line in p.read_text().splitlines()]


def counted(client: Any, outcome: str) -> float:
    registry = client.runtime.recorder.series("requests_total", "generations", outcome)
    return float(registry._value.get())


def test_a_stream_tells_of_queue_and_steps_and_gives_each_picture_once_at_its_end(client: TestClient) -> None:
    plain = client.post(GENERATE, json={"prompt": TOXIC, "n": 2, "seed": 7}).json()
    answer = ask(client, prompt=TOXIC, n=2, seed=7, progress=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-request-id"]
    got = events(answer)
    names = [name for name, _ in got]
    assert names[0] == "image_generation.queued"
    assert names[-2:] == ["image_generation.completed"] * 2
    assert names.count("image_generation.step") == 8
    assert all(name == data["type"] for name, data in got)
    assert {(d["index"], d["step"]) for n, d in got if n.endswith("step")} == {
        (k, s) for k in (0, 1) for s in range(1, 5)
    }
    assert not any("b64_json" in data for name, data in got if not name.endswith("completed"))
    first, second = (data for name, data in got if name.endswith("completed"))
    assert [first["b64_json"], second["b64_json"]] == [item["b64_json"] for item in plain["data"]]
    assert first["steering"]["verdict"] == "steer"
    assert second["steering"]["decision_id"] == answer.headers["x-request-id"]
    assert (second["steering"]["how"], second["steering"]["sites"]) == ("steered", 2)
    assert (first["usage"], first["background"]) == (plain["usage"], plain["background"])
    assert "idiot" not in answer.text


def test_who_does_not_ask_for_progress_gets_openai_s_events_only_and_a_comment_at_once(client: TestClient) -> None:
    answer = ask(client, n=2)
    assert answer.text.startswith(": queued\n\n")
    assert [name for name, _ in events(answer)] == ["image_generation.completed"] * 2
    unused = client.post(GENERATE, json={"prompt": BENIGN, "progress": True}).json()
    assert unused["steering"]["ignored"] == ["progress"]


def test_what_fails_before_anything_was_sent_has_its_own_status(client: TestClient) -> None:
    refused = ask(client, prompt="something forbidden")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "moderation_blocked")
    assert ask(client, n=99).status_code == 400


def test_a_picture_that_is_refused_ends_its_stream_with_an_error_and_no_picture(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from policies import Signals

    async def nothing(*_: Any) -> Signals:
        return Signals()

    monkeypatch.setattr(client.runtime.ready().readers, "read_picture", nothing)  # type: ignore[attr-defined]
    before = [counted(client, outcome) for outcome in ("refused", "ok")]
    answer = ask(client, prompt=TOXIC)
    assert answer.status_code == 200
    name, data = events(answer)[-1]
    assert (name, data["error"]["code"]) == ("error", "moderation_blocked")
    details = data["error"]["moderation_details"]
    assert (details["moderation_stage"], type(details["seed"]), details["unread"]) == ("output", int, True)
    assert "Something in it could not be read or judged." in data["error"]["message"]
    assert "b64_json" not in answer.text
    assert [counted(client, outcome) for outcome in ("refused", "ok")] == [before[0] + 1, before[1]]


def test_a_mistake_of_ours_inside_a_stream_says_no_more_than_outside_of_one(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"secret {BENIGN}")

    monkeypatch.setattr(client.runtime.ready().loop, "finish", broken)  # type: ignore[attr-defined]
    before = counted(client, "error")
    answer = ask(client)
    name, data = events(answer)[-1]
    assert (name, data["error"]["code"]) == ("error", "internal_error")
    assert "secret" not in answer.text
    assert counted(client, "error") == before + 1


def test_a_stream_past_its_deadline_ends_with_an_error(serve: Callable[..., TestClient]) -> None:
    client = serve(deadline_seconds=3, max_steps=1000, max_batch=1)
    answer = ask(client, num_inference_steps=1000, n=4)
    error = events(answer)[-1][1]["error"] if answer.status_code == 200 else answer.json()["error"]
    assert error["code"] == "deadline_exceeded"
    assert "b64_json" not in answer.text


@pytest.mark.parametrize(("form", "magic"), [("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG")])
def test_pictures_come_in_the_format_that_was_asked_for(client: TestClient, form: str, magic: str) -> None:
    sizes = []
    for quality in (100, 5):
        body = {"prompt": BENIGN, "seed": 1, "output_format": form, "output_compression": quality}
        answer = client.post(GENERATE, json=body).json()
        raw = base64.b64decode(answer["data"][0]["b64_json"])
        assert (Image.open(io.BytesIO(raw)).format, answer["output_format"]) == (magic, form)
        assert ("output_compression" in answer["steering"]["ignored"]) is (form == "png")
        sizes.append(len(raw))
    assert (sizes[0] > sizes[1]) is (form != "png")


def test_a_compressed_body_is_refused_because_its_length_is_hidden(client: TestClient) -> None:
    import gzip

    raw = gzip.compress(json.dumps({"prompt": BENIGN}).encode())
    answer = client.post(
        GENERATE, content=raw, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


def test_requests_that_were_not_answered_leave_a_record_of_how_they_ended(serve: Callable[..., TestClient]) -> None:
    client = serve(deadline_seconds=0.2, max_steps=1000, queue_size=2)
    assert client.post(GENERATE, json={"prompt": BENIGN, "num_inference_steps": 1000}).status_code == 504
    assert client.post(GENERATE, json={"prompt": BENIGN, "n": 4}).status_code == 429
    for _ in range(100):
        ended = [r for r in records(client) if r["event"] == "unanswered"]
        if len(ended) == 2:
            break
        time.sleep(0.05)
    assert [r["outcome"] for r in ended] == ["deadline_exceeded", "queue_full"]
    runtime = client.runtime  # type: ignore[attr-defined]
    assert all(r["prompt"] == runtime.keys.hashed(BENIGN) and r["policy"] for r in ended)
