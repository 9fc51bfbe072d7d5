"""Uploads over HTTP, by hand and by the real `openai` client: edits, repairs, and what nobody should send."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image, ImageDraw, ImageFont
from starlette.testclient import TestClient

from policies import Signals
from tests.service.hostile import LIMIT, ODD, REFUSED, file_of, picture, see_through, with_exif

EDIT, REPAIR = "/v1/images/edits", "/v1/images/repairs"
BENIGN = "a red star on a blue background"


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    return serve(max_pixels=LIMIT, max_upload=1 << 20)


@pytest.fixture
def read(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The pixels of every picture that the detectors of the service looked at."""
    pools = client.runtime.ready().readers  # type: ignore[attr-defined]
    seen, look = [], pools._look

    def looking(image: Image.Image, reads: frozenset[str]) -> Signals:
        seen.append(image.tobytes())
        return look(image, reads)

    monkeypatch.setattr(pools, "_look", looking)
    return seen


def sign(word: str, size: tuple[int, int] = (220, 180)) -> Image.Image:
    """A photograph of a sign, as far as a reader is concerned."""
    image = picture(*size)
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 50, 200, 125), fill="white")
    draw.text((40, 60), word, fill="black", font=ImageFont.load_default(44))
    return image


def send(client: TestClient, path: str, image: bytes, *, mask: bytes | None = None, **fields: Any) -> Any:
    files = {"image": ("a.png", image, "image/png")}
    if mask is not None:
        files["mask"] = ("m.png", mask, "image/png")
    return client.post(path, files=files, data=fields)


def pictures(answer: Any) -> list[np.ndarray]:
    assert answer.status_code == 200, answer.text
    files = (base64.b64decode(item["b64_json"]) for item in answer.json()["data"])
    return [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def test_a_clean_picture_is_allowed_and_comes_back_without_its_metadata(client: TestClient) -> None:
    answer = send(client, REPAIR, with_exif(6, "PNG"))
    steering = answer.json()["steering"]
    assert (steering["verdict"], steering["rules"], steering["rungs"], steering["shape"]) == ("allow", [], [], None)
    assert np.array_equal(pictures(answer)[0], np.rot90(np.asarray(picture()), -1)), "upright"
    assert answer.json()["size"] == "32x48"
    file = base64.b64decode(answer.json()["data"][0]["b64_json"])
    assert not dict(Image.open(io.BytesIO(file)).getexif())
    assert b"Somebody" not in file


def test_an_insult_on_a_picture_is_mended_and_the_rest_stays(client: TestClient, read: list[bytes]) -> None:
    image = sign("IDIOT")
    answer = send(client, REPAIR, file_of(image), seed="3")
    steering = answer.json()["steering"]
    assert (steering["verdict"], steering["rules"]) == ("steer", [{"category": "harassment"}])
    assert steering["rungs"]
    (back,) = pictures(answer)
    assert back.shape == (180, 220, 3)
    changed = (back != np.asarray(image)).any(-1)
    assert changed[65:105, 50:160].any()
    assert not changed[:20].any()
    assert not changed[-40:].any()
    assert back.tobytes() in read, "what left was read"
    assert "idiot" not in answer.text.lower()


def test_a_repair_that_fails_is_a_refusal_of_the_image(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.closed_loop.ClosedLoop._try", _no_rung)
    answer = send(client, REPAIR, file_of(sign("IDIOT")))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "moderation_blocked", "image")
    assert error["moderation_details"]["categories"] == ["harassment"]


async def _no_rung(*_: Any, **__: Any) -> None:
    return None


def test_an_edit_changes_what_the_mask_leaves_open(client: TestClient, read: list[bytes]) -> None:
    mask = file_of(see_through(0))
    answer = send(client, EDIT, file_of(picture()), mask=mask, prompt=BENIGN, n="2", seed="5", size="48x32")
    first, second = pictures(answer)
    own = np.asarray(picture())
    for each in (first, second):
        assert np.array_equal(each[:, 24:], own[:, 24:])
        assert not np.array_equal(each[:, :24], own[:, :24])
        assert each.tobytes() in read
    assert own.tobytes() in read, "the upload was judged, too"
    steering = answer.json()["steering"]
    assert (steering["seed"], [p["seed"] for p in steering["per_image"]]) == (5, [5, 6])
    assert steering["shape"]["device"] == "cpu"


def test_the_transparent_part_of_an_image_is_its_mask(client: TestClient) -> None:
    (back,) = pictures(send(client, EDIT, file_of(see_through(0)), prompt=BENIGN))
    assert np.array_equal(back[:, 24:], np.asarray(picture())[:, 24:])
    assert not (back[:, :24] == 255).all()


def test_a_toxic_edit_is_steered_and_a_forbidden_one_refused(client: TestClient) -> None:
    toxic = send(client, EDIT, file_of(picture()), prompt='a red star with a sign that says "idiot"')
    assert toxic.json()["steering"]["verdict"] == "steer"
    forbidden = send(client, EDIT, file_of(picture()), prompt="something forbidden")
    error = forbidden.json()["error"]
    assert (error["code"], error["param"], error["moderation_details"]["moderation_stage"]) == (
        "moderation_blocked",
        "prompt",
        "input",
    )


def test_an_edit_streams_events_of_its_own_kind(client: TestClient) -> None:
    answer = send(client, EDIT, file_of(picture()), prompt=BENIGN, stream="true", progress="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert events == ["image_edit.queued", *["image_edit.step"] * 4, "image_edit.completed"]


def test_the_openai_client_edits(client: TestClient) -> None:
    sdk = openai.OpenAI(base_url="http://testserver/v1", api_key="none", max_retries=0, http_client=client)
    answer = sdk.images.edit(
        image=("a.png", file_of(picture()), "image/png"),
        mask=("m.png", file_of(see_through(0)), "image/png"),
        prompt=BENIGN,
        n=1,
        size="auto",
        quality="high",
        input_fidelity="high",
        extra_body={"seed": 5, "guidance_scale": 2.5, "num_inference_steps": 3},
    )
    assert answer.model_extra["steering"]["ignored"] == ["input_fidelity", "quality"]
    assert answer.model_extra["steering"]["seed"] == 5
    assert answer.data[0].b64_json
    one = sdk.images.edit(image=[("a.png", file_of(picture()), "image/png")], prompt=BENIGN)
    assert one.data[0].b64_json
    with pytest.raises(openai.BadRequestError, match="must be one picture, got two") as twice:
        sdk.images.edit(image=[("a.png", file_of(picture())), ("b.png", file_of(picture()))], prompt=BENIGN)
    assert (twice.value.status_code, twice.value.param) == (400, "image")
    events = [e.type for e in sdk.images.edit(image=file_of(picture()), prompt=BENIGN, stream=True)]
    assert events[-1] == "image_edit.completed"


@pytest.mark.parametrize(
    ("path", "files", "fields", "said"),
    [
        (EDIT, {}, {"prompt": "x"}, "`image` is missing"),
        (REPAIR, {}, {}, "`image` is missing"),
        (EDIT, {"image": "png"}, {}, "`prompt` is missing"),
        (EDIT, {"image": "png"}, {"prompt": " "}, "`prompt` must not be empty"),
        (REPAIR, {"image": "png"}, {"prompt": ""}, "`prompt` must not be empty"),
        (EDIT, {"image": "png"}, {"prompt": "x", "size": "64x64"}, "`48x32`, got `64x64`"),
        (EDIT, {"image": "png"}, {"prompt": "x", "n": "two"}, "`n`"),
        (EDIT, {"image": "png"}, {"prompt": "x", "n": "0"}, "`n`"),
        (EDIT, {"image": "png"}, {"prompt": "x", "n": "1e999"}, "`n`"),
        (EDIT, {"image": "png"}, {"prompt": "x", "n": "9"}, "`n` must be at most 4, got 9"),
        (EDIT, {"image": "png"}, {"prompt": "x", "seed": "-1"}, "`seed`"),
        (EDIT, {"image": "png"}, {"prompt": "x", "num_inference_steps": "1"}, "at least 2"),
        (EDIT, {"image": "png"}, {"prompt": "x", "lora[name]": "none"}, "unknown adapter `none`"),
        (EDIT, {"image": "png"}, {"prompt": "x", "lora[nme]": "none"}, "`lora.nme`; did you mean `name`?"),
        (EDIT, {"image": "png"}, {"prompt": "x", "response_format": "url"}, "`response_format` must be `b64_json`"),
        (EDIT, {"image": "png"}, {"prompt": "x", "promt": "x"}, "unknown field `promt`"),
        (REPAIR, {"image": "png"}, {"n": "1"}, "unknown field `n`"),
        (REPAIR, {"image": "png", "mask": "png"}, {}, "`mask` must not be a file; files are `image`"),
        (EDIT, {"image": "png", "prompt": "png"}, {}, "`prompt` must not be a file; files are `image` and `mask`"),
        (EDIT, {"mask": "png"}, {"prompt": "x", "image": "text"}, "`image` must be a file, got a text"),
        (EDIT, {"image": "png", "mask": "png"}, {"prompt": "x"}, "`mask` must be wholly transparent where"),
        (
            EDIT,
            {"image": "png", "mask": "large"},
            {"prompt": "x"},
            "as large as `image`, 48x32, got 50x40",
        ),
        (EDIT, {"image": "png", "mask": "text"}, {"prompt": "x"}, "`mask` must be a PNG, JPEG or WebP picture"),
        (EDIT, {"image": "png", "image[]": "png"}, {"prompt": "x"}, "`image` must be one picture, got two"),
    ],
)
def test_a_wrong_upload_is_a_clear_error(
    client: TestClient, path: str, files: dict[str, str], fields: dict[str, str], said: str
) -> None:
    kinds = {"png": file_of(picture()), "large": file_of(picture(50, 40)), "text": b"no picture at all"}
    # httpx sends a form without files otherwise than as multipart
    parts = {name: (None, text) for name, text in fields.items()}
    parts |= {name: ("a.png", kinds[kind]) for name, kind in files.items()}
    answer = client.post(path, files=parts or {"seed": (None, "1")})
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_upload_is_a_400_and_nothing_is_drawn(client: TestClient, read: list[bytes], name: str) -> None:
    raw, said = REFUSED[name][0](), REFUSED[name][1]
    for path, field in ((EDIT, "image"), (EDIT, "mask"), (REPAIR, "image")):
        fields = {"prompt": BENIGN} if path == EDIT else {}
        files = {"image": ("a.png", file_of(picture()))} | {field: ("x.png", raw)}
        answer = client.post(path, files=files, data=fields)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_image", field)
        assert said in error["message"]
    assert read == []
    assert client.runtime.is_ready()  # type: ignore[attr-defined]


def test_odd_uploads_are_served_and_none_leaves_unread(client: TestClient, read: list[bytes]) -> None:
    for name, (make, right) in ODD.items():
        (back,) = pictures(send(client, REPAIR, make()))
        assert right(Image.fromarray(back)), name
        assert back.tobytes() in read, name


def test_an_upload_is_bounded_in_bytes_and_must_be_a_form(client: TestClient) -> None:
    large = client.post(REPAIR, files={"image": ("a.png", bytes(2 << 20))})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")

    def forever() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(1000):
            yield bytes(10_000)

    head = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post(REPAIR, content=forever(), headers=head).status_code == 413
    for kind in ("application/json", "application/x-www-form-urlencoded", "text/plain", ""):
        answer = client.post(REPAIR, content=b"{}", headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    zipped = {"Content-Encoding": "gzip", **head}
    assert client.post(REPAIR, content=b"--b--", headers=zipped).status_code == 415
    for boundary in ("", "; boundary=", "; boundary=" + "b" * 300):
        answer = client.post(REPAIR, content=b"--b--", headers={"Content-Type": f"multipart/form-data{boundary}"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_form")


def test_uploads_need_a_key_and_count_as_requests(serve: Callable[..., TestClient]) -> None:
    guarded = serve(api_keys="secret")
    series = guarded.runtime.recorder.series  # type: ignore[attr-defined]
    before = series("requests_total", "repairs", "ok")._value.get()
    assert send(guarded, REPAIR, file_of(picture())).status_code == 401
    head = {"Authorization": "Bearer secret"}
    answer = guarded.post(REPAIR, files={"image": ("a.png", file_of(picture()))}, headers=head)
    assert answer.status_code == 200
    assert series("requests_total", "repairs", "ok")._value.get() == before + 1


def test_the_audit_log_tells_of_uploads_and_holds_neither_text_nor_picture(
    client: TestClient, settings: Callable[..., Any]
) -> None:
    asked = [
        send(client, REPAIR, file_of(sign("IDIOT")), prompt="a xylophonic shop"),
        send(client, EDIT, file_of(picture()), prompt=BENIGN, mask=file_of(see_through(0))),
        send(client, REPAIR, file_of(picture())),
    ]
    files = (settings().state_folder / "audit").glob("*.jsonl")
    written = "".join(p.read_text() for p in files)
    lines = {line["decision_id"]: line for line in map(json.loads, written.splitlines()) if "decision_id" in line}
    mended, edited, clean = (lines[a.headers["x-request-id"]] for a in asked)
    assert (mended["given"]["kind"], mended["given"]["size"], mended["verdict"]) == ("repair", "220x180", "steer")
    assert (edited["given"]["kind"], edited["given"]["masked"]) == ("edit", True)
    assert edited["given"]["image"] == clean["given"]["image"], "the same pixels have the same hash"
    assert clean["pictures"][0]["shape"] is None
    assert "xylophonic" not in written
    assert "idiot" not in written.lower()
