"""Held requests over HTTP, from the request to the pictures that a reviewer released.

| break | red |
|---|---|
| no check of the tenant | only who asked learns the outcome |
| answer `answer` for both choices | what is repaired is released repaired |
| no audit record before a look | every look and decision is in the audit log |
| no blur | a picture is blurred unless it is asked for in clear |
| `going_on` keeps the holding rule's steers | the picture is drawn as if the rule were not there |
| `going_on` drops blocks | what another rule blocks stays blocked |
"""

from __future__ import annotations

import base64
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.http.keys import new_key, save_keys_file

HELD = "an election poster with a zebra"
BOTH = 'a red star with a sign that says "moron"'
BENIGN = "a red star on a blue background"


def post(client: Any, prompt: str, *, key: str | None = None, **more: Any) -> httpx.Response:
    body = {"prompt": prompt, "num_inference_steps": 2, "seed": 5, **more}
    answer: httpx.Response = client.post("/v1/images/generations", json=body, headers=bearer(key))
    return answer


def bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def held(client: Any, prompt: str = HELD, **more: Any) -> str:
    answer = post(client, prompt, **more)
    assert answer.status_code == 202, answer.text
    case_id: str = answer.json()["error"]["review"]["id"]
    return case_id


def decide(client: Any, case_id: str, decision: str, **more: Any) -> httpx.Response:
    answer: httpx.Response = client.post(f"/v1/reviews/{case_id}", json={"decision": decision, **more})
    return answer


def pixels(raw: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")).astype(int)


def returned(answer: dict[str, Any]) -> list[np.ndarray]:
    return [pixels(base64.b64decode(item["b64_json"])) for item in answer["data"]]


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [line for file in sorted(folder.glob("audit-*.jsonl")) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_a_held_request_is_answered_released_and_fetched(holding: Any, tmp_path: Path) -> None:
    client = holding()
    plain = returned(post(client, HELD.replace("election", "elephant"), n=2).json())
    answer = post(client, HELD, n=2)
    error = answer.json()["error"]
    case_id = error["review"]["id"]
    assert (answer.status_code, error["code"], error["review"]["status"]) == (202, "held_for_review", "pending")
    assert answer.headers["location"] == f"/v1/reviews/{case_id}"
    assert answer.headers["palimpsest-verdict"] == "review-hold"
    assert error["moderation_details"]["categories"] == ["news"]
    assert "b64_json" not in answer.text
    told = client.get(answer.headers["location"]).json()
    assert (told["status"], told["answer"], told["reason"]) == ("pending", None, None)

    (row,) = client.get("/v1/reviews").json()["data"]
    assert (row["id"], row["queue"], row["rules"], row["pictures"]) == (case_id, "news-desk", ["desk"], 2)
    assert not row["repaired"]
    case = client.get(f"/v1/reviews/{case_id}/case").json()
    assert (case["prompt"], case["grounds"]["rules"], case["grounds"]["stage"]) == (HELD, ["desk"], "prompt")
    assert case["grounds"]["reasons"][0]["rule"] == "desk"

    done = decide(client, case_id, "release", reason="it is satire", tell=True)
    assert (done.status_code, done.json()["state"]) == (200, "released")
    told = client.get(f"/v1/reviews/{case_id}").json()
    assert (told["status"], told["reason"]) == ("released", "it is satire")
    assert (told["answer"]["size"], told["answer"]["steering"]["seed"]) == ("64x64", 5)
    shown = returned(told["answer"])
    assert len(shown) == 2
    assert shown[0].shape == plain[0].shape
    assert not np.array_equal(shown[0], shown[1])
    late = decide(client, case_id, "reject")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "review_decided")
    (record,) = [r for r in records(tmp_path / "state" / "audit") if r.get("review") == case_id and "asked" in r]
    assert (record["verdict"], record["refused"]) == ("review-hold", "prompt")


def test_a_rejected_case_has_no_pictures_any_more(holding: Any, tmp_path: Path) -> None:
    client = holding()
    case_id = held(client)
    assert (tmp_path / "state" / "reviews" / f"{case_id}.case").exists()
    assert decide(client, case_id, "reject", reason="it is not satire").status_code == 200
    told = client.get(f"/v1/reviews/{case_id}").json()
    assert (told["status"], told["answer"], told["reason"]) == ("rejected", None, None), "it was not to be told"
    assert not (tmp_path / "state" / "reviews" / f"{case_id}.case").exists()
    for path in ("case", "pictures/0"):
        assert client.get(f"/v1/reviews/{case_id}/{path}").status_code == 404


def test_the_picture_is_drawn_as_if_the_rule_were_not_there_and_released_repaired_if_so_decided(holding: Any) -> None:
    client = holding()
    case_id = held(client, BOTH)
    (row,) = client.get("/v1/reviews?queue=signs").json()["data"]
    assert row["repaired"]

    def look(**query: Any) -> np.ndarray:
        return pixels(client.get(f"/v1/reviews/{case_id}/pictures/0", params={"clear": "true", **query}).content)

    drawn, repaired = look(), look(repaired="true")
    assert not np.array_equal(drawn, repaired)
    assert decide(client, case_id, "release-repaired").status_code == 200
    answer = client.get(f"/v1/reviews/{case_id}").json()["answer"]
    assert np.array_equal(returned(answer)[0], repaired)
    assert (answer["steering"]["how"], answer["steering"]["sites"]) == ("steered", 2)
    other = held(client, BOTH)
    decide(client, other, "release")
    answer = client.get(f"/v1/reviews/{other}").json()["answer"]
    assert np.array_equal(returned(answer)[0], drawn)
    assert answer["steering"]["how"] == "untouched"


def test_other_rules_steer_a_held_picture_and_block_it(holding: Any) -> None:
    client = holding()
    case_id = held(client, 'an election poster that says "idiot"')
    decide(client, case_id, "release")
    steering = client.get(f"/v1/reviews/{case_id}").json()["answer"]["steering"]
    assert (steering["how"], steering["sites"]) == ("steered", 2)
    blocked = post(client, "a forbidden election")
    assert (blocked.status_code, blocked.json()["error"]["code"]) == (400, "moderation_blocked")
    assert len(client.get("/v1/reviews?state=all").json()["data"]) == 1
    assert " or `all`, got `bogus`" in client.get("/v1/reviews?state=bogus").json()["error"]["message"]


def test_a_case_without_a_repair_cannot_be_released_repaired(holding: Any) -> None:
    client = holding()
    case_id = held(client)
    assert decide(client, case_id, "release-repaired").status_code == 400
    assert decide(client, case_id, "reject", tell=True).status_code == 400, "there is nothing to tell"
    assert decide(client, case_id, "burn").status_code == 400
    assert client.get(f"/v1/reviews/{case_id}").json()["status"] == "pending"


def test_a_picture_is_blurred_unless_it_is_asked_for_in_clear(holding: Any) -> None:
    client = holding()
    case_id = held(client)
    blurred, clear = (
        pixels(client.get(f"/v1/reviews/{case_id}/pictures/0?clear={flag}").content) for flag in ("false", "true")
    )
    plain = client.get(f"/v1/reviews/{case_id}/pictures/0")
    assert plain.headers["content-type"] == "image/png"
    assert np.array_equal(pixels(plain.content), blurred)
    assert blurred.shape == clear.shape

    def rough(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image, axis=1)).mean())

    assert rough(blurred) < rough(clear) / 3
    for path in ("pictures/1", "pictures/0?repaired=true", "pictures/x", "pictures/-1"):
        assert client.get(f"/v1/reviews/{case_id}/{path}").status_code == 404
    assert client.get(f"/v1/reviews/{case_id}/pictures/0?clear=yes").status_code == 400
    assert client.get(f"/v1/reviews/{case_id}/pictures/0?sharp=true").status_code == 400


def test_only_who_asked_learns_the_outcome_and_only_reviewers_review(holding: Any, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    made = [new_key(name, [scope], now=now) for name, scope in (("a", "generate"), ("b", "generate"), ("r", "review"))]
    save_keys_file(tmp_path / "keys.json", [record for _, record in made])
    client = holding(keys_file=tmp_path / "keys.json")
    a, b, reviewer = (key for key, _ in made)
    case_id = held(client, key=a)
    path = f"/v1/reviews/{case_id}"
    codes = [client.get(path, headers=bearer(key)).status_code for key in (a, b, reviewer)]
    assert codes == [200, 404, 403]
    for where in ("/v1/reviews", f"{path}/case", f"{path}/pictures/0"):
        assert [client.get(where, headers=bearer(key)).status_code for key in (a, b, reviewer)] == [403, 403, 200]
    body = {"decision": "reject"}
    assert [client.post(path, json=body, headers=bearer(key)).status_code for key in (a, reviewer)] == [403, 200]
    unknown = client.get("/v1/reviews/review_0", headers=bearer(a)).json()["error"]
    assert unknown == client.get(path, headers=bearer(b)).json()["error"], "both look the same"
    seen = [r for r in records(tmp_path / "state" / "audit") if r["event"].startswith("review-")]
    assert [(r["event"], r["reviewer"], r["review"]) for r in seen] == [
        ("review-look", "r", case_id),
        ("review-look", "r", case_id),
        ("review-decision", "r", case_id),
    ]
    assert [seen[0]["at"], seen[1]["clear"], seen[2]["decision"]] == ["prompt", False, "reject"]


def test_without_keys_only_this_machine_reviews(holding: Any) -> None:
    assert holding(host="127.0.0.1").get("/v1/reviews").status_code == 200
    assert holding(host="0.0.0.0", insecure=True).get("/v1/reviews").status_code == 403
    assert holding(api_keys=("secret",)).get("/v1/reviews", headers=bearer("secret")).status_code == 403


def test_where_there_is_no_room_a_held_request_is_refused(holding: Any) -> None:
    client = holding(review_cases=1)
    series = client.runtime.recorder.series

    def counts() -> np.ndarray:
        return np.array([series("review_cases_total", name)._value.get() for name in ("kept", "full", "error")])

    before = counts()
    held(client)
    full = post(client, HELD)
    assert (full.status_code, full.json()["error"]["code"]) == (400, "moderation_blocked")
    assert (counts() - before).tolist() == [1, 1, 0]
    assert series("review_pending", "news-desk")._value.get() == 1


def test_no_look_without_its_record(holding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = holding(audit="required")
    case_id = held(client)

    def fails(record: Any) -> None:
        raise OSError

    monkeypatch.setattr(client.runtime._audit, "append", fails)
    for path in ("case", "pictures/0", "pictures/0?clear=true"):
        answer = client.get(f"/v1/reviews/{case_id}/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "audit_unavailable")
    assert decide(client, case_id, "release").status_code == 503
    assert client.get(f"/v1/reviews/{case_id}").json()["status"] == "pending"
    assert post(client, HELD).status_code == 503
    assert len(client.get("/v1/reviews").json()["data"]) == 1, "what could not be announced is not kept"


def test_a_changed_file_is_an_error_of_its_case_alone(holding: Any, tmp_path: Path) -> None:
    client = holding()
    broken, good = held(client), held(client)
    file = tmp_path / "state" / "reviews" / f"{broken}.case"
    file.write_bytes(file.read_bytes()[:-1])
    for path in ("case", "pictures/0"):
        answer = client.get(f"/v1/reviews/{broken}/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "review_broken")
    assert decide(client, broken, "release").status_code == 500
    assert decide(client, broken, "reject").status_code == 200
    assert decide(client, good, "release").status_code == 200
    assert client.get(f"/v1/reviews/{good}").json()["answer"]["data"]


def test_a_stream_ends_with_an_event_of_the_hold(holding: Any) -> None:
    client = holding()
    text = post(client, HELD, stream=True).text
    last = text.strip().split("\n\n")[-1].split("data: ")[1]
    error = json.loads(last)["error"]
    assert error["code"] == "held_for_review"
    assert client.get(f"/v1/reviews/{error['review']['id']}").json()["status"] == "pending"
    assert "completed" not in text


def test_no_word_of_a_held_prompt_is_in_a_file_in_clear(holding: Any, tmp_path: Path) -> None:
    client = holding()
    case_id = held(client, f"{HELD} quagga")
    decide(client, case_id, "release", reason="a quagga is a zebra", tell=True)
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            assert b"quagga" not in path.read_bytes(), path.name
            assert b"zebra" not in path.read_bytes(), path.name
    assert post(client, BENIGN).status_code == 200
