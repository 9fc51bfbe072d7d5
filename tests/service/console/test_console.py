"""The console's paths: who may open them, with which headers, and that what people write is shown as text.

| the law that goes red | when this is broken |
|---|---|
| a session ends with its key | `Sessions.caller` does not look the key up |
| a cookie opens nothing but the console | the guard reads the cookie |
| another site changes nothing | the check of `Origin` is dropped |
| a rebound host name opens nothing | the check of `Host` is dropped |
| what the rules refuse is not drawn plainly | `Runtime.plain` does not judge |
| a plain picture is recorded, and counted nowhere | `_generate` counts it |
| everything is shown as text | `autoescape` is off |
| a picture is counted as one of the API | the page's `counted` is dropped |
| an untouched request costs one comparison more | `serves` reads settings before the path |
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.http.app import access
from service.http.guard import Guard
from service.http.keys import new_key, revoke, save_keys_file

NOW = datetime.now(UTC)
HOSTILE = """<img src=x onerror="alert(1)"></textarea><script>alert('x')</script>"""
TOXIC = 'a red star with a sign that says "idiot"'
LOCAL = {"Host": "localhost:3000", "Origin": "http://localhost:3000"}
PAGES = ("/", "/console/policies", "/console/draft", "/console/blocks", "/console/reviews", "/console/now")


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    """A client without keys, on a loopback address."""
    found = serve()
    found.headers.update(LOCAL)
    return found


def post(client: TestClient, path: str, **fields: Any) -> Any:
    return client.post(path, files={name: (None, str(value)) for name, value in fields.items()})


def events(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def draft(client: TestClient) -> tuple[str, str]:
    """Name and text of the first file in use."""
    page = client.get("/console/draft").text
    name = re.search(r'name="file" value="([^"]+)"', page)
    assert name is not None
    file = Path(client.runtime.settings.policy[0])  # type: ignore[attr-defined]
    return name[1], file.read_text()


def records(client: Any) -> list[dict[str, Any]]:
    folder = client.runtime.settings.state_folder / "audit"
    return [json.loads(line) for p in sorted(folder.glob("*.jsonl")) for line in p.read_text().splitlines()]


def test_every_page_answers_under_a_strict_policy_and_holds_no_script_or_style_of_its_own(client: TestClient) -> None:
    assert '<a href="/metrics">' in client.get("/console/now").text
    for path in PAGES:
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", answer.text)
        links = re.findall(r'(?:src|href|action)="([^"]*)"', answer.text)
        assert links
        assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in links)
        for link in links:
            if link.startswith("/console/static/"):
                assert client.get(link).status_code == 200


def test_a_stream_tells_the_words_found_the_repairs_and_the_picture(client: TestClient) -> None:
    answer = post(client, "/console/draw", prompt=TOXIC, seed=7)
    told = events(answer)
    kinds = [event["type"] for event in told]
    assert kinds[0] == "console.explained"
    assert kinds[-1] == "image_generation.completed"
    assert re.search(r"<mark title=[^>]*>idiot</mark>", told[0]["html"])
    assert "steered at 2 sites" in next(e["html"] for e in told if e["type"] == "console.told")
    api = client.post("/v1/images/generations", json={"prompt": TOXIC, "seed": 7}).json()
    assert told[-1]["b64_json"] == api["data"][0]["b64_json"]


def test_a_repair_is_told_as_it_happens(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from detectors.text import read_text
    from policies import Box, Signal, Signals
    from service.reading.pools import DetectorPools

    async def read_picture(self: Any, image: Any, reads: frozenset[str]) -> Signals:
        found = Signal("lettering", "fake", "1", "picture", text="idiot", box=Box(1, 1, 9, 9), views=read_text("idiot"))
        return Signals((found,), frozenset({("picture", "lettering")}))

    monkeypatch.setattr(DetectorPools, "read_picture", read_picture)
    told = events(post(client, "/console/draw", prompt=TOXIC, seed=7))
    assert ("wider", "failed") in [(e["rung"], e["result"]) for e in told if e.get("type") == "console.rung"]
    assert told[-1]["error"]["code"] == "moderation_blocked"
    api = client.post(
        "/v1/images/generations", json={"prompt": TOXIC, "seed": 7, "stream": True, "progress": True}
    ).text
    assert "rung" not in api


def test_the_plain_picture_is_the_models_own_recorded_and_not_counted(client: Any) -> None:
    def pictures() -> float:
        series = client.runtime.recorder.series("images_total", "allow")
        return float(series._value.get())

    before = pictures()
    plain = events(post(client, "/console/plain", prompt=TOXIC, seed=7))[-1]
    steered = events(post(client, "/console/draw", prompt=TOXIC, seed=7))[-1]
    assert plain["steering"]["how"] == "untouched"
    assert plain["b64_json"] != steered["b64_json"]
    assert pictures() == before
    own = [record for record in records(client) if record["event"] == "plain"]
    assert len(own) == 1
    assert "idiot" not in json.dumps(own)


@pytest.mark.parametrize(
    ("prompt", "outcome"),
    [("a lake", "ok"), (TOXIC, "steered"), ("a forbidden thing", "refused"), ("", "client_error")],
)
def test_a_picture_of_the_console_is_counted_as_one_of_the_api(client: Any, prompt: str, outcome: str) -> None:
    def counted() -> dict[str, float]:
        outcomes = ("ok", "steered", "refused", "client_error")
        series = {name: client.runtime.recorder.series("requests_total", "generations", name) for name in outcomes}
        return {name: float(each._value.get()) for name, each in series.items()}

    body = {"prompt": prompt, "seed": 7}
    for ask in (
        lambda: client.post("/v1/images/generations", json=body),
        lambda: client.post("/v1/images/generations", json={**body, "stream": True}),
        lambda: post(client, "/console/draw", **body),
    ):
        before = counted()
        ask()
        assert counted() == before | {outcome: before[outcome] + 1}


def test_a_picture_over_the_rate_is_counted_once_and_the_key_pays_once_for_one(serve: Callable[..., Any]) -> None:
    client: Any = serve(rate_per_minute=1, rate_burst=2)
    client.headers.update(LOCAL)
    busy = client.runtime.recorder.series("requests_total", "generations", "busy")
    before = busy._value.get()
    assert [post(client, "/console/draw", prompt="a lake").status_code for _ in range(3)] == [200, 200, 429]
    assert busy._value.get() == before + 1


def test_an_untouched_request_costs_one_comparison_of_its_path_more(serve: Callable[..., Any]) -> None:
    """Both guards get the same request, and every call of a Python function on its way is counted."""
    guard: Any = serve(wait=False).app

    def calls(console: Any) -> Counter[str]:
        told: Counter[str] = Counter()
        inner: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            inner.extend((receive, scope["path"]))
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def send(message: Any) -> None:
            told["sent"] += 1

        scope = {"type": "http", "path": "/v1/images/generations", "method": "POST", "headers": []}
        asked = Guard(app, access(), guard.keys, console)(scope, calls, send)  # type: ignore[arg-type]
        sys.setprofile(lambda frame, event, _: told.update([frame.f_code.co_qualname]) if event == "call" else None)
        try:
            with pytest.raises(StopIteration):
                asked.send(None)  # type: ignore[attr-defined]
        finally:
            sys.setprofile(None)
        assert inner == [calls, "/v1/images/generations"], "what comes in is given on as it is"
        return told

    assert guard.console.on
    without = calls(None)
    assert without["sent"] == 1
    assert calls(guard.console) - without == Counter({"Console.serves": 1})


def test_what_the_rules_refuse_is_not_drawn_plainly_either(client: Any) -> None:
    answer = post(client, "/console/plain", prompt="a forbidden thing", seed=7)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "moderation_blocked"
    assert [r["event"] for r in records(client)][-1] == "plain"


def test_hostile_texts_are_shown_as_text(client: TestClient) -> None:
    told = events(post(client, "/console/draw", prompt=HOSTILE + ' sign "idiot"', seed=1))
    name, text = draft(client)
    evil = text.replace("Insults do not belong on signs.", "'" + HOSTILE.replace("'", "''") + "'")
    assert evil != text
    shown = [event["html"] for event in told if "html" in event]
    shown += [post(client, "/console/draft/explain", file=name, text=evil, prompts=HOSTILE + ' sign "idiot"').text]
    shown += [post(client, "/console/draft/diff", file=name, text=evil).text]
    shown += [post(client, "/console/draft/check", file=name, text=text.replace("hate", HOSTILE)).text]
    shown += [post(client, "/console/draft/replay", file=name, text=evil, prompts=HOSTILE + " forbidden").text]
    shown += [client.get("/console/blocks", params={"pack": HOSTILE}).text]
    assert sum("&lt;img" in html for html in shown) >= 3
    for html in shown:
        assert "<img" not in html
        assert "<script>" not in html


def test_the_draft_of_a_hostile_file_stays_inside_of_its_field(serve: Callable[..., Any], policy: Path) -> None:
    policy.write_text(policy.read_text() + "# </textarea><script>alert(1)</script>\n")
    client = serve()
    page = client.get("/console/draft", headers=LOCAL).text
    assert "# &lt;/textarea&gt;&lt;script&gt;" in page
    assert "<script>alert" not in page


def test_a_policy_tour_from_a_mistake_to_an_export(client: TestClient) -> None:
    name, text = draft(client)
    wrong = post(client, "/console/draft/check", file=name, text=text.replace("on_error", "on_eror")).text
    assert "1 problem" in wrong
    assert re.search(r'data-line="\d+" data-column="\d+"', wrong)
    assert "on_error" in wrong
    assert "palimpsest-draft-" not in wrong
    mended = text.replace("[forbidden]", "[forbidden, zebra]")
    assert "Valid" in post(client, "/console/draft/check", file=name, text=mended).text
    tried = post(client, "/console/draft/explain", file=name, text=mended, prompts="a zebra\na lake").text
    assert re.search(r"<mark title=[^>]*>zebra</mark>", tried)
    assert "v-block" in tried
    assert "v-allow" in tried
    compared = post(client, "/console/draft/diff", file=name, text=mended).text
    assert "1 change of meaning, 0 loosen" in compared
    assert "rule <code>never</code>: `when` matches more" in compared
    replayed = post(client, "/console/draft/replay", file=name, text=mended, prompts="a zebra\na lake").text
    assert "2 prompts, 1 change, 0 for the milder" in replayed
    exported = post(client, "/console/draft/export", file=name, text=mended)
    assert exported.text == mended
    assert "attachment" in exported.headers["content-disposition"]
    live = client.post("/v1/policies/evaluate", json={"prompt": "a zebra"}).json()
    assert live["verdict"] == "allow"


def test_prompts_of_a_replay_that_are_none_get_a_clear_error(client: TestClient) -> None:
    name, text = draft(client)
    answer = post(client, "/console/draft/replay", file=name, text=text, prompts='{"prompt": 3}')
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("line 1 must be a prompt")


def test_the_block_map_shows_the_sites_of_a_pack_and_compares_two(client: TestClient) -> None:
    page = client.get("/console/blocks").text
    assert page.count('<li class="chosen"') == 2
    assert page.count('<li class="wider"') == 1
    assert page.count("<li ") == 4
    both = client.get("/console/blocks", params={"pack": "lettering", "with": "lettering"}).text
    assert both.count('<li class="chosen both"') == 4
    assert client.get("/console/blocks", params={"pack": "nothing"}).status_code == 404


def test_a_change_from_another_site_is_refused(client: TestClient) -> None:
    for origin in ("http://evil.example", "null", "", "http://localhost:3001"):
        client.headers["Origin"] = origin
        assert post(client, "/console/draw", prompt="a lake").status_code == 403, origin


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.evil.example", ""])
def test_without_keys_a_host_name_that_was_rebound_opens_nothing(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:3000", "[::1]:3000", "localhost"])
def test_without_keys_the_names_of_this_machine_open_it(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("options", [{"console": "off"}, {"host": "0.0.0.0", "insecure": True}])
def test_where_it_is_off_there_is_nothing_at_its_paths(serve: Callable[..., Any], options: dict[str, Any]) -> None:
    client = serve(wait=False, **options)
    for path in (*PAGES, "/console/static/console.css", "/console/sign-in"):
        assert client.get(path, headers=LOCAL).status_code == 404


def test_keyless_callers_of_a_wider_address_get_none(serve: Callable[..., Any]) -> None:
    client = serve(host="0.0.0.0", insecure=True, console="on")
    assert client.get("/", headers=LOCAL, follow_redirects=False).status_code == 303
    assert post(client, "/console/draw", prompt="a lake").status_code == 403
    client.headers.update(LOCAL)
    assert post(client, "/console/draw", prompt="a lake").status_code == 401


@pytest.fixture
def keyed(serve: Callable[..., Any], tmp_path: Path) -> tuple[Any, dict[str, str], Path, list[Any]]:
    """A client of a service that other machines reach, its keys, their file and records."""
    scopes = {"author": ["console", "policy:read"], "all": ["console", "generate", "policy:read", "metrics", "review"]}
    scopes["app"] = ["generate"]
    made = {name: new_key(name, own, now=NOW) for name, own in scopes.items()}  # type: ignore[arg-type]
    file = tmp_path / "keys.json"
    save_keys_file(file, [record for _, record in made.values()])
    client = serve(host="0.0.0.0", keys_file=file)
    client.headers.update({"Host": "pictures.example", "Origin": "https://pictures.example"})
    return client, {name: key for name, (key, _) in made.items()}, file, [record for _, record in made.values()]


def sign_in(client: Any, key: str) -> Any:
    return client.post("/console/sign-in", files={"key": (None, key)}, follow_redirects=False)


def test_a_key_with_the_scope_signs_in_and_its_cookie_opens_the_console_only(keyed: Any) -> None:
    client, keys, _, _ = keyed
    assert client.get("/", follow_redirects=False).headers["location"] == "/console/sign-in"
    assert client.get("/console/sign-in").status_code == 200
    assert post(client, "/console/draw", prompt="a lake").status_code == 401
    answer = sign_in(client, keys["all"])
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert keys["all"] not in cookie
    for path in PAGES:
        assert client.get(path, follow_redirects=False).status_code == 200
    assert client.get("/v1/models").status_code == 401
    garbled = client.get("/", headers={"Cookie": b"palimpsest-console=\xe9abc"}, follow_redirects=False)
    assert garbled.status_code in (200, 303)
    assert 'href="/metrics"' not in client.get("/console/now").text, "a browser has no key for it"
    client.post("/console/sign-out")
    client.cookies.clear()
    assert client.get("/", follow_redirects=False).status_code == 303


def test_a_cookie_is_secure_over_https(keyed: Any) -> None:
    client, keys, _, _ = keyed
    client.base_url = "https://pictures.example"
    assert "Secure" in sign_in(client, keys["all"]).headers["set-cookie"]


@pytest.mark.parametrize("name", ["app", "nobody"])
def test_a_key_without_the_scope_does_not_sign_in(keyed: Any, name: str) -> None:
    client, keys, _, _ = keyed
    answer = sign_in(client, keys.get(name, "pk_0_0"))
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_session_has_its_keys_scopes_and_no_more(keyed: Any) -> None:
    client, keys, _, _ = keyed
    sign_in(client, keys["author"])
    page = client.get("/console/policies")
    assert page.status_code == 200
    assert 'href="/console/now"' not in page.text
    assert client.get("/console/now").status_code == 403
    assert post(client, "/console/plain", prompt="a lake").status_code == 403


def test_a_revoked_key_ends_its_session_at_the_next_request(keyed: Any) -> None:
    client, keys, file, made = keyed
    sign_in(client, keys["all"])
    assert client.get("/", follow_redirects=False).status_code == 200
    save_keys_file(file, revoke(made, made[1].id, now=datetime.now(UTC)))
    assert client.get("/", follow_redirects=False).status_code == 303
    assert post(client, "/console/draw", prompt="a lake").status_code == 401


def test_a_forged_cookie_is_nobodys(keyed: Any) -> None:
    client, keys, _, _ = keyed
    sign_in(client, keys["all"])
    good = client.cookies["palimpsest-console"]
    for value in (good[:-4] + "AAAA", "x", ""):
        client.cookies.clear()
        client.cookies.set("palimpsest-console", value)
        assert client.get("/", follow_redirects=False).status_code == 303


def test_static_files_are_those_of_the_folder(client: TestClient) -> None:
    assert client.get("/console/static/..%2Fapp.py").status_code == 404
    assert client.get("/console/static/nothing.js").status_code == 404
    assert client.get("/console/static/" + "a" * 300).status_code == 404
    assert "javascript" in client.get("/console/static/parts.js").headers["content-type"]
