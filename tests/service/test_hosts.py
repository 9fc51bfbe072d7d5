"""The names that a service answers to: a rebound name reaches nothing but the probes.

| the law that goes red | when this is broken |
|---|---|
| a name that is not of this machine opens nothing | the guard does not ask `refused_source` |
| an address behind a proxy is met by keys or by names | `host_names` ignores `allowed_hosts` |
| another site changes nothing | the condition on `sec-fetch-site` is dropped |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.hosts import host_names
from service.settings import Settings

EVIL = (
    "evil.example",
    "127.evil.example",
    "localhost.evil.example",
    "localhost@evil.example",
    "localhost/a",
    "[::1",
    "",
)
OURS = ("localhost", "LOCALHOST:3000", "localhost.", "127.0.0.1:3000", "[::1]:3000")


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    return serve(wait=False)


@pytest.mark.parametrize("host", EVIL)
@pytest.mark.parametrize("path", ["/v1/policies", "/v1/models", "/metrics", "/", "/nothing"])
def test_on_loopback_without_keys_a_rebound_name_reaches_nothing(client: TestClient, path: str, host: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "host_not_allowed")


@pytest.mark.parametrize("host", OURS)
def test_the_names_of_this_machine_reach_it(client: TestClient, host: str) -> None:
    assert client.get("/nothing", headers={"Host": host}).status_code == 404


def test_probes_are_answered_under_any_name(client: TestClient) -> None:
    assert client.get("/livez", headers={"Host": "10.0.0.7"}).status_code != 403


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"localhost", "127.0.0.1", "::1"}),
        ({"host": "127.0.0.9"}, {"localhost", "127.0.0.1", "::1", "127.0.0.9"}),
        ({"api_keys": ("k",)}, None),
        ({"host": "0.0.0.0"}, None),
        ({"host": "127.evil.example"}, None),
        ({"host": "0.0.0.0", "allowed_hosts": "a.example, B.example"}, {"a.example", "b.example"}),
        ({"api_keys": ("k",), "allowed_hosts": ("a.example",)}, {"localhost", "127.0.0.1", "::1", "a.example"}),
    ],
)
def test_the_names_follow_from_the_settings(options: dict[str, Any], names: set[str] | None) -> None:
    assert host_names(Settings(**options)) == names


def test_elsewhere_the_allowed_names_and_bare_addresses_reach_it(serve: Callable[..., TestClient]) -> None:
    client = serve(wait=False, host="0.0.0.0", insecure=True, allowed_hosts=("pictures.example",))
    for host, status in (("pictures.example:443", 404), ("10.1.2.3:3000", 404), ("evil.example", 403)):
        assert client.get("/nothing", headers={"Host": host}).status_code == status


def test_without_keys_a_page_of_another_site_changes_nothing(serve: Callable[..., TestClient]) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}
    client = serve(wait=False)
    answer = client.post("/v1/images/generations", json={"prompt": "a moon"}, headers=cross)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_site")
    assert client.get("/nothing", headers=cross).status_code == 404, "a link to the service may be followed"
    keyed = serve(wait=False, api_keys=("k",))
    assert keyed.post("/v1/images/generations", json={}, headers=cross).status_code == 401
    passed = keyed.post("/nothing", headers=cross | {"Authorization": "Bearer k"})
    assert passed.status_code == 404


def test_a_name_that_begins_like_loopback_is_not_loopback() -> None:
    assert not Settings(host="127.evil.example").loopback
    assert Settings(host="127.0.0.2").loopback
    assert Settings(host="::1").loopback
