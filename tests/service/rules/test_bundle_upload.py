"""`PUT /v1/policies` and what keys may do: signed bundles over HTTP, and each scope at its door.

| the law that goes red | when this is broken |
|---|---|
| a bundle that is refused was never in the folder | `_put` comes before `_checked` |
| an older bundle never replaces a newer one | `_not_older` is not asked |
| whoever may generate may not write policies | the scope of `PUT` is dropped |
| what is sent to one worker is followed by its store | `_put` writes beside the place |
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from policies import SigningKey, make_key, sign_bundle
from service.http.keys import KeyRecord, new_key, save_keys_file

URL = "/v1/policies"
NOW = datetime.now(UTC)
SCOPED = {"reader": ["policy:read"], "writer": ["policy:write"], "maker": ["generate"], "scraper": ["metrics"]}


@pytest.fixture
def signer(tmp_path: Path) -> SigningKey:
    """The key that the service trusts."""
    return make_key(tmp_path / "signer.pem")


@pytest.fixture
def bundle(signer: SigningKey, policy: Path) -> Callable[..., bytes]:
    """Signs the test policy with `old` replaced by `new`."""

    def make(
        old: str = "",
        new: str = "",
        *,
        sequence: int = 1,
        key: SigningKey = signer,
        name: str = "set",
        hosts: Sequence[str] = (),
    ) -> bytes:
        text = policy.read_text().replace(old, new) if old else policy.read_text()
        return sign_bundle(
            {"test.yaml": text.encode()},
            key,
            name=name,
            sequence=sequence,
            created=NOW,
            not_after=NOW + timedelta(days=1),
            hosts=hosts,
        )

    return make


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, dict[str, str]]:
    """Headers with a key for each name of `SCOPED`; the file is `keys.json`."""
    made: dict[str, tuple[str, KeyRecord]] = {n: new_key(n, s, now=NOW) for n, s in SCOPED.items()}  # type: ignore[arg-type]
    save_keys_file(tmp_path / "keys.json", [record for _, record in made.values()])
    return {name: {"Authorization": f"Bearer {key}"} for name, (key, _) in made.items()}


@pytest.fixture
def client(serve: Callable[..., TestClient], bundle: Any, signer: SigningKey, keys: Any, tmp_path: Path) -> TestClient:
    """A service that follows a folder with bundle 1, and asks for keys."""
    folder = tmp_path / "followed"
    folder.mkdir()
    (folder / "set.bundle").write_bytes(bundle())
    return serve(policy=str(folder), policy_keys=str(signer.public), keys_file=tmp_path / "keys.json")


def put(client: TestClient, content: bytes, headers: dict[str, str]) -> Any:
    return client.put(URL, content=content, headers={"Content-Type": "application/json", **headers})


def test_a_good_bundle_is_taken_and_used_and_sending_it_again_changes_nothing(
    client: TestClient, bundle: Any, keys: Any
) -> None:
    asked = {"prompt": "a red star"}
    assert client.post("/v1/images/generations", json=asked, headers=keys["maker"]).status_code == 200
    content = bundle("[forbidden]", "[star]", sequence=2)
    answer = put(client, content, keys["writer"])
    assert answer.status_code == 202
    body = answer.json()
    assert (body["changed"], body["bundle"]["sequence"]) == (True, 2)
    for _ in range(1000):
        (worker,) = client.get(URL, headers=keys["reader"]).json()["workers"]
        if worker["policy"]["digest"] == body["digest"]:
            break
        time.sleep(0.01)
    assert worker["policy"]["bundle"]["sequence"] == 2
    refused = client.post("/v1/images/generations", json=asked, headers=keys["maker"])
    assert refused.json()["error"]["code"] == "moderation_blocked"
    assert put(client, content, keys["writer"]).json()["changed"] is False
    older = put(client, bundle(), keys["writer"])
    assert (older.status_code, older.json()["error"]["code"]) == (409, "bundle_replayed")


def test_every_model_that_follows_a_folder_must_accept_what_is_put_there(
    serve: Callable[..., TestClient], bundle: Any, signer: SigningKey, keys: Any, tmp_path: Path, model: Path
) -> None:
    folder = tmp_path / "followed"
    folder.mkdir()
    (folder / "set.bundle").write_bytes(bundle())
    options = {"policy": str(folder), "policy_keys": str(signer.public), "keys_file": tmp_path / "keys.json"}
    table = {name: {"source": str(model)} for name in ("red", "blue")}
    client = serve(model="red", models=table, **options)
    for_red = put(client, bundle("[forbidden]", "[star]", sequence=2, hosts=["red"]), keys["writer"])
    assert (for_red.status_code, for_red.json()["error"]["code"]) == (400, "invalid_bundle")
    assert (folder / "set.bundle").read_bytes() == bundle()
    for_both = bundle("[forbidden]", "[star]", sequence=2, hosts=["red", "blue"])
    headers = {"Content-Type": "application/json", **keys["writer"]}
    assert client.put(f"{URL}?model=green", content=for_both, headers=headers).status_code == 404
    assert client.put(f"{URL}?model=blue", content=for_both, headers=headers).status_code == 202
    for name in table:
        for _ in range(1000):
            asked = {"prompt": "a star", "model": name}
            if client.post("/v1/policies/evaluate", json=asked, headers=keys["maker"]).json()["verdict"] == "block":
                break
            time.sleep(0.01)
        else:
            pytest.fail(f"`{name}` does not use it")


def test_what_is_wrong_with_a_bundle_is_told_and_the_folder_stays_as_it_was(
    client: TestClient, bundle: Any, keys: Any, tmp_path: Path
) -> None:
    before = {p.name: p.read_bytes() for p in (tmp_path / "followed").iterdir()}
    stranger = make_key(tmp_path / "stranger.pem")
    bad = {
        "untrusted_bundle": (bundle(sequence=2, key=stranger), 403),
        "other_set": (bundle(sequence=2, name="another"), 409),
        "invalid_bundle": (bundle("do: block", "do: blok", sequence=2), 400),
    }
    for code, (content, status) in bad.items():
        answer = put(client, content, keys["writer"])
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert str(tmp_path) not in answer.text
        assert "/tmp" not in answer.text
    assert put(client, b"{}", keys["writer"]).status_code == 400
    torn = put(client, bundle(sequence=2)[:-20], keys["writer"])
    assert torn.status_code == 400
    assert put(client, b" " * (9 << 20), keys["writer"]).status_code == 413
    assert {p.name: p.read_bytes() for p in (tmp_path / "followed").iterdir()} == before


def test_each_key_may_do_what_its_scopes_say_and_nothing_else(client: TestClient, keys: Any, bundle: Any) -> None:
    doors: dict[str, Callable[[dict[str, str]], Any]] = {
        "generate": lambda h: client.post("/v1/policies/evaluate", json={"prompt": "x"}, headers=h),
        "policy:read": lambda h: client.get(URL, headers=h),
        "policy:write": lambda h: put(client, bundle(), h),
        "metrics": lambda h: client.get("/metrics", headers=h),
    }
    for name, scopes in SCOPED.items():
        for scope, door in doors.items():
            answer = door(keys[name])
            assert (answer.status_code < 300) is (scope in scopes), f"{name} at {scope}: {answer.status_code}"
            if scope not in scopes:
                assert answer.json()["error"]["code"] == "insufficient_scope"
    for door in doors.values():
        assert door({}).status_code == 401


def test_without_keys_or_without_a_bundle_to_follow_policies_are_read_only(
    serve: Callable[..., TestClient], bundle: Any, keys: Any, tmp_path: Path
) -> None:
    assert put(serve(), bundle(), {}).json()["error"]["code"] == "invalid_api_key"
    plain = put(serve(api_keys="secret"), bundle(), {"Authorization": "Bearer secret"})
    assert plain.json()["error"]["code"] == "insufficient_scope"
    answer = put(serve(keys_file=tmp_path / "keys.json"), bundle(), keys["writer"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "policies_read_only")


def test_policies_know_a_key_s_name_and_a_key_has_its_rate(
    serve: Callable[..., TestClient], keys: Any, policy: Path, tmp_path: Path
) -> None:
    policy.write_text(policy.read_text().replace("{prompt: {any_of: [forbidden]}}", "{tenant: {any_of: [maker]}}"))
    client = serve(keys_file=tmp_path / "keys.json", rate_per_minute=1, rate_burst=2)
    ask = {"prompt": "a red star"}
    for _ in range(2):
        answer = client.post("/v1/policies/evaluate", json=ask, headers=keys["maker"])
        assert answer.json()["verdict"] == "block"
    limited = client.post("/v1/policies/evaluate", json=ask, headers=keys["maker"])
    assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(limited.headers["retry-after"]) <= 60
    assert client.get("/v1/models", headers=keys["maker"]).status_code == 200, "looking costs nothing"


def test_writing_policies_leaves_a_record_of_who_did_it(client: Any, bundle: Any, keys: Any, tmp_path: Path) -> None:
    put(client, bundle(sequence=2), keys["writer"])
    put(client, bundle(), keys["writer"])
    folder = client.runtime.settings.state_folder / "audit"
    lines = [json.loads(line) for p in folder.glob("*.jsonl") for line in p.read_text().splitlines()]
    puts = [line for line in lines if line["event"] == "policies-put"]
    assert [(p["tenant"], p.get("refused")) for p in puts] == [("writer", None), ("writer", "bundle_replayed")]
