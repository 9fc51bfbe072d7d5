"""The OpenAPI document against the service: what it allows is taken, what it does not is refused, answers are as told.

| the law that goes red | when this is broken |
|---|---|
| what the document allows is taken | `_narrow` leaves out `maxLength` |
| what it does not allow is refused | `extra="forbid"` is dropped from the request |
| answers are as told | `generation_answer` gets a field more |
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from starlette.testclient import TestClient

from tests.service.hostile import file_of, picture

SCHEMA = "/v1/openapi.json"
FILE = file_of(picture())
FORMS = {
    "/v1/content_provenance_checks": {"file": FILE},
    "/v1/images/edits": {"image": FILE, "prompt": 'a sign that says "HELLO"'},
    "/v1/images/repairs": {"image": FILE},
}
HOST = {"Host": "localhost"}  # a name that the guard answers to


@pytest.fixture
def client(serve: Callable[..., TestClient], loud: Path) -> TestClient:
    """A service without policies: a refusal by policy is no mistake of the schema."""
    return serve(policy="none", max_steps=4, max_prompt=200, max_n=2, adapters=(f"loud={loud}",))


def test_the_document_is_a_valid_one_and_names_every_path(client: TestClient) -> None:
    from jsonschema import Draft202012Validator

    from service.http.app import ENDPOINTS

    document = client.get(SCHEMA).json()
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    told = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert told == {(e.path, e.method) for e in ENDPOINTS}
    size = document["components"]["schemas"]["GenerationRequest"]["properties"]["size"]
    assert size["anyOf"][0]["enum"] == ["auto", "64x64", "32x32"]
    assert "max" not in json.dumps(document["components"]["schemas"]["ErrorAnswer"])


def test_the_document_is_guarded(serve: Callable[..., TestClient]) -> None:
    client = serve(api_keys="secret")
    assert client.get(SCHEMA).status_code == 401
    assert client.get(SCHEMA, headers={"Authorization": "Bearer secret"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "examples"),
    [
        ("POST", "/v1/images/generations", 25),
        ("POST", "/v1/policies/evaluate", 40),
        ("POST", "/v1/moderations", 25),
        ("POST", "/v1/content_provenance_checks", 8),
        ("GET", "/v1/pictures/{name}", 10),
        ("GET", "/v1/models", 2),
        ("GET", "/v1/models/{model}", 10),
        ("GET", "/v1/policies", 2),
        ("GET", "/v1/status", 2),
        ("GET", "/v1/reviews", 15),
        ("GET", "/v1/reviews/{id}", 5),
        ("POST", "/v1/reviews/{id}", 25),
        ("GET", "/v1/reviews/{id}/case", 5),
        ("GET", "/v1/reviews/{id}/pictures/{k}", 10),
        ("POST", "/v1/images/edits", 8),
        ("POST", "/v1/images/repairs", 8),
        ("GET", "/v1/openapi.json", 2),
        ("PUT", "/v1/policies", 15),
    ],
)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_schemathesis_finds_nothing_to_complain_of(
    client: TestClient, method: str, path: str, examples: int, mode: GenerationMode
) -> None:
    operation = schemathesis.openapi.from_asgi(SCHEMA, client.app, headers=HOST)[path][method]
    if mode is GenerationMode.NEGATIVE and method == "GET":
        pytest.skip("nothing can be wrong with a request that says nothing")

    if path in FORMS and mode is GenerationMode.POSITIVE:  # bytes at random are no picture
        operation.Case(body=FORMS[path], media_type="multipart/form-data").call_and_validate(headers=HOST)
        return

    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(mode))
    def try_one(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=HOST)

    try_one()
