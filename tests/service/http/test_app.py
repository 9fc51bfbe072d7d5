"""The HTTP API in this process: shapes, errors, probes and guards, on a real tiny host under real policies."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.audit import verify

GENERATE = "/v1/images/generations"
BENIGN = "a red star on a blue background"
TOXIC = 'a red star with a sign that says "idiot"'


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    """A client of a service with the defaults."""
    return serve()


def post(client: TestClient, **body: Any) -> Any:
    return client.post(GENERATE, json=body)


def test_an_answer_has_openai_s_shape_and_says_how_it_was_made(client: TestClient, host: Any) -> None:
    answer = post(client, prompt=BENIGN, seed=5, n=2, quality="hd", size="32x32")
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"created", "data", "size", "output_format", "background", "usage", "steering"}
    steering = body["steering"]
    assert set(steering) == {
        *("verdict", "how", "sites", "rules", "rungs", "per_image", "decision_id", "policy", "seed", "lora", "shape"),
        *("asked_size", "ignored", "safety_identifier"),
    }
    assert {(p["how"], p["sites"]) for p in steering["per_image"]} == {("untouched", 0)}
    assert (steering["verdict"], steering["rules"], steering["seed"], steering["ignored"]) == (
        "allow",
        [],
        5,
        ["quality"],
    )
    assert [p["seed"] for p in steering["per_image"]] == [5, 6]
    for item in body["data"]:
        assert Image.open(io.BytesIO(base64.b64decode(item["b64_json"]))).size == (32, 32)


def test_the_shape_in_the_answer_lets_a_client_reproduce_the_pixels(client: TestClient, host: Any) -> None:
    body = post(client, prompt=BENIGN, seed=5).json()
    shape = body["steering"]["shape"]
    assert (shape["batch"], shape["row"], shape["device"], shape["threads"]) == (1, 0, "cpu", 1)
    stock = host.generate([BENIGN], plans=[None], seeds=[5]).images[0]
    got = Image.open(io.BytesIO(base64.b64decode(body["data"][0]["b64_json"])))
    assert np.array_equal(np.asarray(got), np.asarray(stock))


def test_a_toxic_prompt_is_steered_and_only_its_category_is_told(client: TestClient) -> None:
    answer = post(client, prompt=TOXIC, seed=1)
    steering = answer.json()["steering"]
    assert steering["verdict"] == "steer"
    assert steering["rules"] == [{"category": "harassment"}]
    assert "idiot" not in answer.text


def test_headers_say_what_the_answer_says(client: TestClient) -> None:
    answer = post(client, prompt=TOXIC, seed=1, safety_identifier="me")
    steering = answer.json()["steering"]
    assert (steering["how"], steering["sites"]) == ("steered", 2)
    told = {name: value for name, value in answer.headers.items() if name.startswith("palimpsest-")}
    assert told == {
        "palimpsest-verdict": "steer",
        "palimpsest-decision": answer.headers["x-request-id"],
        "palimpsest-policy": steering["policy"],
        "palimpsest-seed": "1",
        "palimpsest-how": "steered; sites=2",
        "palimpsest-safety-identifier": steering["safety_identifier"],
    }
    runtime = client.runtime  # type: ignore[attr-defined]
    assert steering["safety_identifier"] == runtime.keys.identified("", "me")
    assert not runtime._strikes._tenants, "no policy asks for strikes"
    assert steering["decision_id"] == told["palimpsest-decision"]
    refused = post(client, prompt="something forbidden", seed=1, safety_identifier="me")
    told |= {"palimpsest-verdict": "block", "palimpsest-decision": refused.headers["x-request-id"]}
    del told["palimpsest-how"]
    assert {name: value for name, value in refused.headers.items() if name.startswith("palimpsest-")} == told


@pytest.mark.parametrize("disclose", ["nothing", "category", "reason"])
def test_the_message_of_a_block_reaches_the_caller(
    serve: Callable[..., TestClient], policy: Path, disclose: str
) -> None:
    text = policy.read_text()
    assert "{do: block}" in text
    text = text.replace("{do: block}", "{do: block, message: Please choose other words.}")
    policy.write_text(text.replace("disclose: reason", f"disclose: {disclose}"))
    client = serve()
    error = post(client, prompt="something forbidden").json()["error"]
    assert error["message"].count("Please choose other words.") == 1
    assert error["moderation_details"]["messages"] == ["Please choose other words."]
    assert ("hate" in json.dumps(error)) == (disclose != "nothing")
    asked = client.post("/v1/policies/evaluate", json={"prompt": "something forbidden"}).json()
    assert asked["messages"] == ["Please choose other words."]
    assert client.post("/v1/policies/evaluate", json={"prompt": TOXIC}).json()["messages"] == []


def test_a_refusal_is_one_that_clients_know(client: TestClient) -> None:
    answer = post(client, prompt="something forbidden")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "moderation_blocked", "prompt")
    assert error["decision_id"] == answer.headers["x-request-id"]
    assert error["moderation_details"]["categories"] == ["hate"]
    assert error["moderation_details"]["unread"] is False
    assert "Some words are refused wherever they stand." in error["message"]
    assert "forbidden" not in answer.text


@pytest.mark.parametrize(
    ("raw", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b'{"prompt": "x", "promt": 1}', "application/json; charset=utf-8", 400, "unknown_parameter"),
        (b'{"prompt": ""}', "application/json", 400, "invalid_value"),
        (json.dumps({"prompt": "a" * 10_000}).encode(), "application/json", 400, "string_too_long"),
        (b'{"prompt": "x", "size": "1x1"}', "application/json", 400, "invalid_value"),
        (b'{"prompt": "x", "model": "other"}', "application/json", 404, "model_not_found"),
        (b'{"prompt": "x", "stream": 1}', "application/json", 400, "invalid_value"),
        (b'{"prompt": "x", "output_format": "gif"}', "application/json", 400, "invalid_value"),
        (b'{"prompt": "x"}', "text/plain", 415, "unsupported_media_type"),
        (b"prompt=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{}", "application/json; charset=utf-16", 415, "unsupported_media_type"),
        (b'{"prompt": ""}', 'application/json; charset="UTF8"', 400, "invalid_value"),
        (b"\x80\x04]", "application/vnd.bentoml+pickle", 415, "unsupported_media_type"),
        (b" " * 70_000, "application/json", 413, "body_too_large"),
    ],
)
def test_bad_requests_get_a_clear_4xx(client: TestClient, raw: bytes, kind: str, status: int, code: str) -> None:
    answer = client.post(GENERATE, content=raw, headers={"Content-Type": kind})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert error["message"]


def test_a_body_without_a_length_is_counted_as_it_streams(client: TestClient) -> None:
    pulled = []

    def chunks() -> Iterator[bytes]:
        for k in range(1000):
            pulled.append(k)
            yield b" " * 10_000

    answer = client.post(GENERATE, content=chunks(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path",
    ["/docs.json", "/schema.json", "/generate", "/v1/images/variations", "/livez/../docs.json", "/v1/models/a%0ab"],
)
def test_what_is_not_ours_does_not_exist(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_wrong_method_is_told_the_right_one(client: TestClient) -> None:
    answer = client.get(GENERATE)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert client.delete("/v1/policies").headers["allow"] == "GET, HEAD, PUT"


def test_every_answer_carries_an_id_and_strict_headers(client: TestClient) -> None:
    for answer in (client.get("/v1/models"), client.get("/nothing"), post(client)):
        assert len(answer.headers["x-request-id"]) == 32
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_one_model_is_told_as_in_the_list_and_another_is_not_found(
    serve: Callable[..., TestClient], client: TestClient
) -> None:
    (listed,) = client.get("/v1/models").json()["data"]
    assert client.get(f"/v1/models/{listed['id']}").json() == listed
    for other in ("gpt-image-1", "owner/model@main", "{model}", "tiny%2Dpixar"):
        answer = client.get(f"/v1/models/{other}")
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (404, "invalid_request_error")
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert f"`{listed['id']}`" in error["message"]
    assert client.get("/v1/models/").json()["error"]["code"] == "not_found"
    assert client.post(f"/v1/models/{listed['id']}").status_code == 405
    guarded = serve(api_keys="secret")
    assert guarded.get(f"/v1/models/{listed['id']}").status_code == 401


def test_an_alias_is_taken_listed_and_found_and_leads_to_the_model(
    serve: Callable[..., TestClient], model: Path
) -> None:
    client = serve(model_aliases="gpt-image-1, owner/model")
    listed = client.get("/v1/models").json()["data"]
    assert [each["id"] for each in listed] == ["tiny-pixart", "gpt-image-1", "owner/model"]
    assert {each["root"] for each in listed} == {"tiny-pixart"}
    assert {each["created"] for each in listed} == {int((model / "model_index.json").stat().st_mtime)}
    assert client.get("/v1/models/owner/model").json() == listed[2]
    pixels = [post(client, prompt=BENIGN, seed=5, model=each["id"]).json()["data"] for each in listed]
    assert pixels[0] == pixels[1] == pixels[2]
    assert post(client, prompt=BENIGN, model="gpt-image-2").json()["error"]["code"] == "model_not_found"


def test_the_nearest_size_is_drawn_where_the_setting_says_so_and_both_are_told(
    serve: Callable[..., TestClient],
) -> None:
    answer = post(serve(sizes="nearest"), prompt=BENIGN, size="1024x1024")
    assert (answer.json()["size"], answer.json()["steering"]["asked_size"]) == ("64x64", "1024x1024")
    assert answer.headers["palimpsest-asked-size"] == "1024x1024"


def test_models_say_what_may_be_asked(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["sizes"]) == ("tiny-pixart", ["64x64", "32x32"])
    assert model["defaults"]["num_inference_steps"] == 4


def test_evaluation_decides_and_makes_nothing(client: TestClient) -> None:
    body = client.post("/v1/policies/evaluate", json={"prompt": TOXIC}).json()
    assert (body["verdict"], body["rules"], body["reads"]) == ("steer", [{"category": "harassment"}], ["lettering"])
    assert client.post("/v1/policies/evaluate", json={"prompt": BENIGN}).json()["verdict"] == "allow"
    assert client.post("/v1/policies/evaluate", json={"prompt": BENIGN, "n": 1}).status_code == 400


def test_policies_show_their_rules_with_packs_and_no_path(client: TestClient, policy: Path) -> None:
    answer = client.get("/v1/policies")
    (worker,) = answer.json()["workers"]
    assert (worker["state"], worker["policy"]["source"], worker["policy"]["generation"]) == ("ready", "live", 1)
    row, floor, refusing = sorted(worker["rules"], key=lambda r: r["rule"], reverse=True)
    assert (worker["policy"]["floor"], floor["policy"]) == ("added", "floor")
    assert (refusing["rule"], refusing["concept"], refusing["unfit"]) == ("never", None, None)
    assert (row["rule"], row["concept"], row["evidence"], row["unfit"]) == (
        "toxic-lettering",
        "lettering",
        "measured",
        None,
    )
    assert str(policy.parent.parent) not in answer.text


def test_a_rule_without_a_pack_is_shown_as_unfit_and_no_path_is(
    serve: Callable[..., TestClient], tmp_path: Path
) -> None:
    answer = serve(packs=tmp_path).get("/v1/policies")
    row = next(r for r in answer.json()["workers"][0]["rules"] if r["rule"] == "toxic-lettering")
    assert (row["pack"], row["unfit"]) == (None, "swap-prompt")
    assert row["why_unfit"]
    assert str(tmp_path) not in answer.text


def eventually(true: Callable[[], bool], seconds: float = 3.0) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it did not come"
        time.sleep(0.01)
    return time.monotonic() - began


def test_a_changed_policy_goes_live_and_a_broken_one_does_not(client: TestClient, policy: Path) -> None:
    def state() -> Any:
        return client.get("/v1/policies").json()["workers"][0]["policy"]

    first = state()
    text = policy.read_text()
    policy.write_text(text.replace("[forbidden]", "[star]"))
    eventually(lambda: state()["generation"] == 2)
    assert post(client, prompt=BENIGN).status_code == 400
    good = state()
    assert good["digest"] != first["digest"]
    policy.write_text(text.replace("do: block", "do: blok"))
    eventually(lambda: state()["source"] == "last-good")
    assert state()["digest"] == good["digest"]
    eventually(lambda: state()["problems"][0]["line"] > 0)  # 0: it was seen between opening and writing, empty
    assert state()["problems"][0]["file"] == "test.yaml"
    assert post(client, prompt=BENIGN).status_code == 400, "the last good policy stays"
    policy.write_text(text)
    eventually(lambda: state()["digest"] == first["digest"])
    assert post(client, prompt=BENIGN).status_code == 200


def test_without_policies_everything_is_served_untouched(serve: Callable[..., TestClient]) -> None:
    answer = post(serve(policy="none"), prompt=TOXIC)
    assert answer.json()["steering"]["verdict"] == "allow"


def test_a_rule_that_refuses_to_load_without_a_pack_keeps_the_worker_from_starting(
    serve: Callable[..., TestClient], policy: Path, tmp_path: Path
) -> None:
    policy.write_text(policy.read_text().replace("unfit: swap-prompt", "unfit: refuse-load"))
    with pytest.raises(ValueError, match="no pack"):
        serve(packs=tmp_path)
    assert post(serve(), prompt=TOXIC).status_code == 200


def test_before_the_worker_is_ready_it_is_alive_and_says_so(serve: Callable[..., TestClient]) -> None:
    client = serve(wait=False)
    assert client.runtime.is_ready() is False  # type: ignore[attr-defined]
    answer = post(client, prompt=BENIGN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")
    assert int(answer.headers["retry-after"]) >= 1


def test_keys_are_asked_for_once_there_are_any(serve: Callable[..., TestClient]) -> None:
    client = serve(api_keys="first,second")
    for path in ("/v1/models", "/metrics", "/v1/policies"):
        assert client.get(path).json()["error"]["code"] == "invalid_api_key"
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": "first"}, {"Authorization": "Basic first"}):
        assert client.get("/v1/models", headers=headers).status_code == 401
    for key in ("first", "second"):
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_a_full_queue_answers_429_with_retry_after(serve: Callable[..., TestClient]) -> None:
    client = serve(queue_size=1, max_batch=1, batching="solo", max_steps=1000)
    answers: list[Any] = []

    def ask() -> None:
        answers.append(post(client, prompt=BENIGN, num_inference_steps=200))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = sorted(a.status_code for a in answers)
    assert codes[0] == 200
    assert codes[-1] == 429
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "queue_full"


def test_a_request_past_its_deadline_gets_504(serve: Callable[..., TestClient]) -> None:
    client = serve(deadline_seconds=0.5, max_steps=1000)
    answer = post(client, prompt=BENIGN, num_inference_steps=1000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")

    def dropped(reason: str) -> float:
        recorder = client.runtime.recorder  # type: ignore[attr-defined]
        return float(recorder.series("cancelled_pictures_total", reason)._value.get())

    eventually(lambda: dropped("deadline") == 1, 10)
    assert dropped("disconnect") == 0, "the caller waited; nobody may blame it"


def test_a_mistake_of_ours_is_a_500_with_an_id_and_nothing_else(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"secret {BENIGN}")

    monkeypatch.setattr(client.runtime, "generate", broken)  # type: ignore[attr-defined]
    answer = post(client, prompt=BENIGN)
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == f"internal error; request: {answer.headers['x-request-id']}"
    assert BENIGN not in caplog.text
    assert "RuntimeError" in caplog.text


def test_canary_words_of_prompts_appear_nowhere_but_in_the_request(
    client: TestClient, settings: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="bentoml.palimpsest")
    canary = "xylophonic"
    told = [
        post(client, prompt=f"a {canary} star", safety_identifier=canary),
        post(client, prompt=f'a sign that says "idiot {canary}"', negative_prompt=canary),
        post(client, prompt=f"forbidden {canary}"),
        post(client, prompt=f"{canary} " * 500),
        client.post("/v1/policies/evaluate", json={"prompt": f"forbidden {canary}", "safety_identifier": canary}),
        client.get("/v1/policies"),
    ]
    state = settings().state_folder
    written = "".join(p.read_text() for p in (state / "audit").glob("*.jsonl"))
    assert canary not in "".join(t.text for t in told)
    assert canary not in caplog.text
    assert canary not in written
    assert written.count('"event":"decision"') == 3


def test_the_audit_log_tells_each_decision_and_is_whole(
    serve: Callable[..., TestClient], settings: Callable[..., Any]
) -> None:
    client = serve()
    answers = [post(client, prompt=p) for p in (BENIGN, TOXIC, "forbidden")]
    runtime = client.runtime  # type: ignore[attr-defined]
    runtime.stop()
    folder = settings().state_folder / "audit"
    records, findings = verify(folder, keys=runtime.keys)
    assert (records, findings) == (5, [])
    lines = [json.loads(line) for p in folder.glob("*.jsonl") for line in p.read_text().splitlines()]
    decisions = {line["decision_id"]: line for line in lines if line["event"] == "decision"}
    allow, steer, block = (decisions[a.headers["x-request-id"]] for a in answers)
    assert (allow["verdict"], steer["verdict"], block["verdict"]) == ("allow", "steer", "block")
    assert steer["rules"] == ["toxic-lettering"]
    assert sum(steer["pictures"][0]["fired"].values()) > 0
    assert block["refused"] == "prompt"
    assert allow["prompt"] == runtime.keys.hashed(BENIGN)


def test_a_required_audit_log_that_cannot_be_written_refuses(
    serve: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    client = serve(audit="required")
    monkeypatch.setattr(client.runtime._audit, "append", full)  # type: ignore[attr-defined]
    answer = post(client, prompt=BENIGN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "audit_unavailable")
