"""What the programs of others ask for: pictures by URL, moderation, calls from a browser, refusals that they know.

| the law that goes red | when this is broken |
|---|---|
| only checked pictures get a link | `with_urls` before `generate` has answered |
| a link needs no key, and nothing else goes without | `public` for another endpoint |
| a preflight needs no key | CORS inside of the check for keys |
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

GENERATE, MODERATE = "/v1/images/generations", "/v1/moderations"
BENIGN = "a red star on a blue background"
TOXIC = 'a red star with a sign that says "idiot"'
ORIGIN = "https://app.example"


def post(client: TestClient, path: str = GENERATE, **body: Any) -> Any:
    return client.post(path, json=body)


def linked(client: Any, result: str) -> float:
    return float(client.runtime.recorder.series("picture_links_total", result)._value.get())


def kept(client: Any) -> list[Path]:
    folder = client.runtime.settings.state_folder / "pictures"
    return [p for p in folder.glob("*") if p.name != ".lock"]


def test_a_picture_behind_a_link_is_the_one_that_was_answered_and_needs_no_key(
    serve: Callable[..., TestClient],
) -> None:
    client = serve(picture_urls="files", api_keys="secret", public_url="https://pictures.example/below/")
    client.headers["Authorization"] = "Bearer secret"
    plain = post(client, prompt=TOXIC, seed=1, n=2, output_format="webp").json()
    answer = post(client, prompt=TOXIC, seed=1, n=2, output_format="webp", response_format="url").json()
    assert [list(item) for item in answer["data"]] == [["url"], ["url"]]
    del client.headers["Authorization"]
    for item, told in zip(plain["data"], answer["data"], strict=True):
        assert told["url"].startswith("https://pictures.example/below/v1/pictures/")
        path = urlsplit(told["url"]).path.removeprefix("/below")
        got = client.get(path)
        assert (got.status_code, got.headers["content-type"]) == (200, "image/webp")
        assert got.content == base64.b64decode(item["b64_json"])
        assert got.headers["content-disposition"] == 'inline; filename="picture.webp"'
        assert (got.headers["cache-control"], got.headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert got.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
        assert client.head(path).status_code == 200
    assert [linked(client, result) for result in ("kept", "opened", "gone")] == [2, 4, 0]
    assert client.get("/v1/pictures/x.png").json()["error"]["code"] == "picture_not_found"
    assert linked(client, "gone") == 1
    for path in ("/v1/pictures", "/v1/pictures/x/y", "/v1/models"):
        assert client.get(path).status_code in (401, 404)
    assert post(client, prompt=BENIGN).status_code == 401


def test_only_pictures_that_passed_their_last_judgement_get_a_link(
    serve: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    from policies import Signals

    async def nothing(*_: Any) -> Signals:
        return Signals()

    client: Any = serve(picture_urls="files")
    assert post(client, prompt="something forbidden", response_format="url").status_code == 400
    with monkeypatch.context() as blind:
        blind.setattr(client.runtime.ready().readers, "read_picture", nothing)
        assert post(client, prompt=TOXIC, response_format="url").json()["error"]["code"] == "moderation_blocked"
    assert kept(client) == []
    assert post(client, prompt=BENIGN).json()["data"][0].keys() == {"b64_json"}
    assert kept(client) == [], "who does not ask for a link gets none"


def test_without_room_nothing_is_drawn_and_the_way_out_is_told(serve: Callable[..., TestClient]) -> None:
    client: Any = serve(picture_urls="files", picture_url_bytes=100)
    answer = post(client, prompt=BENIGN, response_format="url")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_room_for_urls")
    assert (answer.headers["retry-after"], linked(client, "full")) == ("60", 1)
    assert "b64_json" in answer.json()["error"]["message"]


def test_links_are_swept_at_the_start_also_where_none_are_given_any_more(
    serve: Callable[..., TestClient],
) -> None:
    first: Any = serve(picture_urls="files")
    url = post(first, prompt=BENIGN, response_format="url").json()["data"][0]["url"]
    assert len(kept(first)) == 1
    later: Any = serve()
    assert later.get(urlsplit(url).path).status_code == 404
    assert len(kept(later)) == 1
    serve(picture_url_seconds=0.001)
    assert kept(later) == []


def test_url_is_refused_put_into_the_answer_or_the_old_models_default_as_the_setting_says(
    serve: Callable[..., TestClient],
) -> None:
    error = post(serve(), prompt=BENIGN, response_format="url").json()["error"]
    assert (error["param"], "picture_urls" in error["message"]) == ("response_format", True)
    client: Any = serve(picture_urls="data", model_aliases="dall-e-3")
    plain = post(client, prompt=BENIGN, seed=1).json()["data"][0]["b64_json"]
    for more in ({"response_format": "url"}, {"model": "dall-e-3"}):
        (item,) = post(client, prompt=BENIGN, seed=1, **more).json()["data"]
        assert item == {"url": f"data:image/png;base64,{plain}"}
    assert "b64_json" in post(client, prompt=BENIGN, model="dall-e-3", response_format="b64_json").text
    assert kept(client) == []


def test_a_stream_has_no_links_and_says_so(serve: Callable[..., TestClient]) -> None:
    answer = post(serve(picture_urls="files"), prompt=BENIGN, stream=True, response_format="url").text
    assert '"ignored":["response_format"]' in answer
    assert '"b64_json":"' in answer


def test_moderation_is_the_policies_decision_in_openai_s_shape(serve: Callable[..., TestClient]) -> None:
    from openai.types import ModerationCreateResponse

    client = serve()
    answer = post(client, MODERATE, input=[BENIGN, TOXIC, "something forbidden"], model="omni-moderation-latest")
    parsed = ModerationCreateResponse.model_validate(answer.json(), strict=True)
    assert [each.flagged for each in parsed.results] == [False, True, True]
    assert [(each.categories.harassment, each.categories.hate) for each in parsed.results] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    assert parsed.results[1].category_scores.harassment == 1.0
    assert parsed.results[1].category_applied_input_types.harassment == ["text"]
    assert answer.json()["ignored"] == ["model"]
    assert "idiot" not in answer.text
    for given in (TOXIC, [{"type": "text", "text": TOXIC}]):
        assert post(client, MODERATE, input=given).json()["results"] == [answer.json()["results"][1]]


def test_a_category_of_the_policies_own_is_named_and_one_that_is_not_disclosed_only_flags() -> None:
    from service.http.endpoints.moderations import OPENAI, result

    assert result("steer", ["likeness"])["categories"] == {**dict.fromkeys(OPENAI, False), "likeness": True}
    assert result("block", ["minors"])["categories"]["sexual/minors"]
    hidden = result("block", [])
    assert (hidden["flagged"], set(hidden["categories"].values())) == (True, {False})


def test_pages_of_the_origins_in_the_setting_may_call_and_no_others(serve: Callable[..., TestClient]) -> None:
    client = serve(cors_origins=f"{ORIGIN},http://localhost:5173", api_keys="secret")
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
    preflight = client.options(GENERATE, headers={"Origin": ORIGIN, **asks})
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert preflight.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "access-control-allow-credentials" not in preflight.headers
    called = client.get("/v1/models", headers={"Origin": ORIGIN, "Authorization": "Bearer secret"})
    assert (called.status_code, called.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "Palimpsest-Verdict" in called.headers["access-control-expose-headers"]
    refused = client.get("/v1/models", headers={"Origin": ORIGIN})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)
    other = client.options(GENERATE, headers={"Origin": "https://evil.example", **asks})
    assert (other.status_code, "access-control-allow-origin" in other.headers) == (400, False)
    assert "access-control-allow-origin" not in client.get("/", headers={"Origin": ORIGIN}).headers
    closed = serve().options(GENERATE, headers={"Origin": ORIGIN, **asks})
    assert (closed.status_code, "access-control-allow-origin" in closed.headers) == (405, False)


def test_a_refusal_has_the_words_by_which_litellm_knows_one(serve: Callable[..., TestClient]) -> None:
    message = post(serve(), prompt="something forbidden").json()["error"]["message"]
    assert "request was rejected as a result of the safety system" in message.lower()


def test_the_lists_reach_the_workers_and_any_origin_needs_keys(
    settings: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.settings import SettingsError, load_settings
    from service.worker.launch import check, environment

    chosen = settings(model_aliases="gpt-image-1,dall-e-3", cors_origins=f"{ORIGIN},http://[::1]:5173", sizes="nearest")
    for name, value in environment(chosen, tmp_path).items():
        monkeypatch.setenv(name, value)
    got = load_settings().settings
    assert (got.model_aliases, got.cors_origins) == (chosen.model_aliases, chosen.cors_origins)
    assert len(got.cors_origins) == 2
    with pytest.raises(SettingsError, match="no API key is configured"):
        check(settings(cors_origins="*"))
    for wrong in ({"cors_origins": f"{ORIGIN}/"}, {"model_aliases": "a b"}, {"public_url": "example"}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            load_settings(wrong)
