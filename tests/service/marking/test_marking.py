"""The marks of a service: on every picture that leaves, judged as marked, and nothing at all where they are off."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image
from starlette.testclient import TestClient

from marking.credentials import read_credentials
from service.image_files import encode
from service.settings import SettingsError
from tests.marking.chains import Chain, chain
from tests.service.engine.scripted import Script, pixels

GENERATE, EDIT, REPAIR, CHECK = (
    *("/v1/images/generations", "/v1/images/edits", "/v1/images/repairs"),
    "/v1/content_provenance_checks",
)
STAR = "a red star on a blue background"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture
def both(serve: Callable[..., TestClient], pem: Chain) -> TestClient:
    return serve(
        marking="both", signing_certificate=pem.certificate, signing_key=pem.key, trust_anchors=pem.root, max_n=2
    )


def generate(client: TestClient, prompt: str = STAR, **fields: Any) -> Any:
    return client.post(GENERATE, json={"prompt": prompt, "seed": 3, "size": "64x64", **fields})


def files(answer: Any) -> list[bytes]:
    assert answer.status_code == 200, answer.text
    return [base64.b64decode(item["b64_json"]) for item in answer.json()["data"]]


def check(client: TestClient, file: bytes) -> Any:
    return client.post(CHECK, files={"file": ("a.png", file, "image/png")})


def found(client: TestClient, file: bytes) -> tuple[str, str, str]:
    """The outcome for credentials, their state, and the outcome for the watermark."""
    credentials, watermark = check(client, file).json()["results"]
    return credentials["outcome"], credentials["validation_state"], watermark["outcome"]


def image(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def counted(client: TestClient, name: str, *labels: str) -> float:
    recorder = client.runtime.recorder  # type: ignore[attr-defined]
    return float(recorder.series(name, *labels)._value.get())


def marks(client: TestClient) -> list[float]:
    """What was counted: marked, failed, found; first watermarks, then credentials."""
    kinds = ("watermark", "c2pa")
    return [
        *(counted(client, "marks_total", kind, "marked") for kind in kinds),
        *(counted(client, "marks_total", kind, "failed") for kind in kinds),
        *(counted(client, "provenance_checks_total", kind, "detected") for kind in kinds),
    ]


def test_pictures_carry_both_marks_in_every_format_and_the_check_finds_them(
    both: TestClient, serve: Callable[..., TestClient]
) -> None:
    plain = image(files(generate(serve()))[0])
    before = marks(both)
    for n, form in ((2, "png"), (1, "webp"), (1, "jpeg")):
        answer = generate(both, n=n, output_format=form)
        for k, file in enumerate(files(answer)):
            assert Image.open(io.BytesIO(file)).format == form.upper()
            assert found(both, file) == ("detected", "trusted", "detected")
            assert answer.json()["steering"]["per_image"][k]["marks"] == ["watermark", "c2pa"]
    marked = image(files(generate(both))[0])
    assert 0 < np.abs(pixels(marked) - pixels(plain)).mean() < 12
    assert found(both, png(plain)) == ("not_detected", "not_present", "not_detected")
    again = image(files(generate(both, output_format="png"))[0])
    assert again.tobytes() == marked.tobytes(), "the watermark depends on pixels and key alone"
    after = marks(both)
    assert [b - a for a, b in zip(before, after, strict=True)] == [6, 6, 0, 0, 4, 4]


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_a_file_is_only_as_small_as_leaves_the_watermark_in_it(both: TestClient, form: str) -> None:
    sizes = []
    for asked in (0, 30, 100):
        shown = files(generate(both, n=2, output_format=form, output_compression=asked))
        assert {found(both, file)[2] for file in shown} == {"detected"}, asked
        sizes.append(sum(map(len, shown)))
    assert max(sizes[:2]) < sizes[2]


def test_a_file_of_the_lowest_quality_would_lose_the_watermark(both: TestClient) -> None:
    """Of JPEG: WebP keeps it under some keys, and each run has another key."""
    watermark = both.runtime.ready().marker._watermark  # type: ignore[attr-defined]
    drawn = [image(files(generate(both, seed=seed))[0]) for seed in range(8)]
    assert not all(watermark.find(pixels(image(encode(each, "jpeg", 0)))) for each in drawn)


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_the_next_quality_at_which_the_watermark_is_found_is_taken(
    both: TestClient, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = both.runtime.ready().marker  # type: ignore[attr-defined]
    drawn = image(files(generate(both))[0])
    answers = iter([False, False, True])
    monkeypatch.setattr(type(marker._watermark), "find", lambda self, pixels: next(answers))
    assert marker.encode(drawn, form, 30) == encode(drawn, form, 50), "30 and 40 lost it"


def test_a_file_in_which_no_quality_leaves_the_watermark_is_not_sent(
    both: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    watermark = both.runtime.ready().marker._watermark  # type: ignore[attr-defined]
    monkeypatch.setattr(type(watermark), "find", lambda self, pixels: False)
    answer = generate(both, output_format="jpeg")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "marking_failed")


def test_off_and_signed_leave_the_pixels_as_they_are(serve: Callable[..., TestClient], pem: Chain) -> None:
    off = serve()
    before = files(generate(off))[0]
    assert generate(off).json()["steering"]["per_image"][0]["marks"] == []
    signed = serve(marking="signed", signing_certificate=pem.certificate, signing_key=pem.key)
    after = files(generate(signed))[0]
    assert image(after).tobytes() == image(before).tobytes()
    assert b"jumb" not in before
    assert found(signed, after) == ("detected", "valid", "not_detected")


def test_credentials_name_the_kind_of_rule_and_no_word(both: TestClient) -> None:
    import c2pa

    answer = generate(both, 'a red star with a sign that says "idiot"')
    (file,) = files(answer)
    told = json.loads(c2pa.Reader("image/png", io.BytesIO(file)).json())
    steering = told["manifests"][told["active_manifest"]]["assertions"][1]["data"]
    assert steering == {"how": answer.json()["steering"]["how"], "kinds": ["harassment"]}
    assert steering["how"] in ("steered", "prompt-replaced", "blurred")
    assert "idiot" not in json.dumps(told)


def test_readers_are_asked_about_the_marked_picture_and_the_answer_is_the_stricter(
    both: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = both.runtime.ready().readers  # type: ignore[attr-defined]
    prompt = 'a red star with a sign that says "idiot"'
    clean = Script(None)
    monkeypatch.setattr(pools, "_look", clean)
    sent = image(files(generate(both, prompt))[0])
    assert len(clean.seen) == 2
    assert np.array_equal(clean.seen[1], pixels(sent)), "what was judged last is what left"
    assert not np.array_equal(clean.seen[0], clean.seen[1])
    monkeypatch.setattr(pools, "_look", Script(None, "idiot"))  # the mark makes a word of it
    refused = generate(both, prompt)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "moderation_blocked")


def test_what_cannot_be_marked_is_not_sent_and_the_log_tells(
    both: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pem: Chain
) -> None:
    marker = both.runtime.ready().marker  # type: ignore[attr-defined]

    def broken(*_: Any) -> Any:
        raise RuntimeError(STAR)

    before, left = marks(both), counted(both, "images_total", "allow")
    for part, method in ((marker._signer, "sign"), (marker._watermark, "embed")):
        with monkeypatch.context() as patch:
            patch.setattr(part, method, broken)
            answer = generate(both)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "marking_failed"), answer.text
        assert "b64_json" not in answer.text
    # before a signature fails, the watermark was put on
    assert [b - a for a, b in zip(before, marks(both), strict=True)] == [1, 0, 1, 1, 0, 0]
    assert counted(both, "images_total", "allow") == left
    (log,) = (tmp_path / "state" / "audit").glob("*.jsonl")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    outcomes = [each["outcome"] for each in records if each.get("event") == "unanswered"]
    assert outcomes == ["marking_failed"] * 2


def test_the_credentials_of_an_upload_are_kept_and_a_repair_that_changes_nothing_claims_nothing(
    both: TestClient,
) -> None:
    (upload,) = files(generate(both))
    plain = png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)))
    for sent, drawn in ((plain, False), (upload, True)):
        answer = both.post(REPAIR, files={"image": ("a.png", sent, "image/png")})
        (repaired,) = files(answer)
        assert answer.json()["steering"]["per_image"][0]["marks"] == ["c2pa"]
        assert image(repaired).tobytes() == image(sent).tobytes()
        told = read_credentials(repaired, "image/png")
        assert told is not None
        assert (told.state, told.generated) == ("valid", drawn)
    edit = both.post(EDIT, files={"image": ("a.png", plain, "image/png")}, data={"prompt": STAR, "seed": "3"})
    assert found(both, files(edit)[0]) == ("detected", "trusted", "detected")
    small = png(Image.new("RGB", (40, 40), "red"))
    refused = both.post(EDIT, files={"image": ("a.png", small, "image/png")}, data={"prompt": STAR})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "image"), refused.text
    assert "at least 64 pixels, got 40x40" in refused.text


def test_the_real_client_gets_typed_results_and_bad_files_are_refused(both: TestClient) -> None:
    client = openai.OpenAI(api_key="none", base_url="http://localhost/v1", http_client=both, max_retries=0)
    (file,) = files(generate(both))
    told = client.content_provenance_checks.create(file=("a.png", file))
    assert told.object == "content_provenance_check"
    assert [(each.type, each.outcome) for each in told.results] == [("c2pa", "detected"), ("watermark", "detected")]
    assert told.results[0].issuer == "Example Org"
    tampered = bytearray(files(generate(both, output_format="jpeg"))[0])
    tampered[-9] ^= 1
    assert found(both, bytes(tampered)) == ("not_detected", "invalid", "detected")
    for sent, status in ((b"GIF89a", 400), (file[:200], 400), (b"", 400)):
        assert check(both, sent).status_code == status
    assert both.post(CHECK, files={"image": ("a.png", file)}).status_code == 400
    assert both.post(CHECK, json={}).status_code == 415


def test_the_command_line_writes_the_marked_files(both: TestClient, tmp_path: Path) -> None:
    from palimpsest.cli.shared.pictures import _shoot, save
    from service.http.requests import GenerationRequest

    ready = both.runtime.ready()  # type: ignore[attr-defined]
    order = GenerationRequest(prompt=STAR, seed=3).within(ready.limits)
    (row,) = save(asyncio.run(_shoot(ready, [order], compare=True)), tmp_path / "out")
    for name in ("plain", "steered"):
        assert found(both, Path(row["files"][name]).read_bytes()) == ("detected", "trusted", "detected")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"marking": "signed"}, "`signing_certificate` must be a PEM file where `marking` is `signed`, got none"),
        ({"marking": "watermark", "watermark": "sprad"}, "`watermark`: must be `spread` or the name of a plug-in"),
        (
            {"marking": "both", "signing_certificate": "none.pem", "signing_key": "none.pem"},
            "`none.pem` cannot be read",
        ),
        ({"marking_key": "none.key"}, "`marking_key`: `none.key` cannot be read: No such file"),
        ({"trust_anchors": "none.pem"}, "`trust_anchors`: the trust anchors `none.pem` cannot be read"),
    ],
)
def test_what_could_mark_nothing_is_told_in_one_line_at_start(
    settings: Callable[..., Any], recorder: Any, options: dict[str, Any], told: str
) -> None:
    from service.marking.marker import Marker

    with pytest.raises(SettingsError, match=told.replace("(", r"\(")) as error:
        Marker(settings(**options), recorder)
    assert "\n" not in str(error.value)


def test_sizes_that_cannot_be_marked_are_not_offered(serve: Callable[..., TestClient]) -> None:
    client = serve(marking="watermark")
    assert client.get("/v1/models").json()["data"][0]["sizes"] == ["64x64"]
    refused = client.post(GENERATE, json={"prompt": STAR, "size": "32x32"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "size")
