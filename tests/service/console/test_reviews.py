"""The review queue on the console: what is looked at and decided there, and that the audit log has it as over the API.

| the law that goes red | when this is broken |
|---|---|
| the list has nothing of a prompt | the list opens its cases |
| a look is recorded as the API's | a handler opens a case without `Reviews` |
| a picture is blurred until it is asked for | `clear` is true by default |
| without a reason nothing is decided | the form's reason is not asked for |
| who comes second is told so | `decide` shows an error page |
| a caller without the scope sees nothing | the scope of one of the paths is dropped |
"""

from __future__ import annotations

import html
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.console.reviews import span_of_time
from service.http.keys import new_key, save_keys_file
from service.reviews.cases import Content
from tests.service.reviews.test_reviews import BOTH, HELD, bearer, held, pixels, records, returned

LOCAL = {"Host": "localhost:3000", "Origin": "http://localhost:3000"}
HOSTILE = """<img src=x onerror="alert(1)"></textarea><script>alert('x')</script>"""


@pytest.fixture
def client(holding: Any) -> Any:
    """A client without keys, on a loopback address."""
    found = holding()
    found.headers.update(LOCAL)
    return found


def decide(client: Any, case_id: str, decision: str, *, reason: str = "seen", query: str = "", **more: str) -> Any:
    fields = {"decision": decision, "reason": reason, **more}
    files = {name: (None, value) for name, value in fields.items()}
    return client.post(f"/console/reviews/{case_id}{query}", files=files)


def told(answer: Any) -> str:
    """What a page says first."""
    found = re.search(r'id="outcome"[^>]*><b>(.*?)</b>', answer.text)
    assert found is not None, answer.text
    return html.unescape(found[1])


def cases(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/console/reviews/(review_\w+)', page)


def of_reviews(tmp_path: Path) -> list[dict[str, Any]]:
    """The records of looks and decisions."""
    return [r for r in records(tmp_path / "state" / "audit") if r["event"].startswith("review-")]


def test_the_list_tells_queue_rules_and_age_and_nothing_of_what_was_asked(client: Any, tmp_path: Path) -> None:
    assert "No case waits" in client.get("/console/reviews").text
    first, second = held(client, HELD), held(client, BOTH)
    page = client.get("/console/reviews").text
    assert cases(page) == [first, second]
    for shown in ("news-desk: 1", "signs: 1", "all queues: 2", "desk", "both", "seconds"):
        assert shown in page
    assert not re.search("election|zebra|moron", page)
    assert of_reviews(tmp_path) == []
    assert cases(client.get("/console/reviews?queue=signs").text) == [second]
    assert f'href="/console/reviews/{second}?queue=signs"' in client.get("/console/reviews?queue=signs").text
    assert "No case waits in elsewhere" in client.get("/console/reviews?queue=elsewhere").text


def test_a_long_list_has_pages(client: Any) -> None:
    reviews = client.runtime.ready().reviews
    content = Content({}, {}, (b"",))
    made = [reviews.keep(f"review_{k:02}", "signs", "", ("both",), content).id for k in range(23)]
    first = client.get("/console/reviews?queue=signs").text
    (more,) = re.findall(r'href="([^"]*after=[^"]*)"', first)
    second = client.get(html.unescape(more)).text
    assert cases(first) + cases(second) == made
    assert len(cases(second)) == 3


def test_a_case_shows_its_prompt_rules_and_reasons_and_its_pictures_blurred_until_asked(
    client: Any, tmp_path: Path
) -> None:
    case_id = held(client, BOTH)
    page = client.get(f"/console/reviews/{case_id}").text
    assert re.search(r"<mark title=[^>]*>moron</mark>", page)
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>(.*?)</dd>", page))
    assert facts["Rule"] == "<code>both</code>: Words on signs are looked at, and would be repaired."
    assert "review-hold" in facts["Verdict"]
    assert facts["Reason"].startswith("both: lettering")
    assert (facts["As drawn"], facts["Repaired"]) == ("untouched", "steered at 2 sites")
    assert facts["Queue"] == "signs, 1 left"
    assert len(re.findall("<figure>", page)) == 2
    (looked,) = of_reviews(tmp_path)
    assert (looked["event"], looked["at"], looked["review"]) == ("review-look", "prompt", case_id)
    urls = [html.unescape(u) for u in re.findall(r'(?:src|data-clear)="(/console/reviews/[^"]+)"', page)]
    assert [u.endswith("clear=true") for u in urls] == [False, True, False, True]
    shown = [client.get(url) for url in urls]
    assert {answer.headers["content-type"] for answer in shown} == {"image/png"}
    api = [client.get(url.replace("/console/", "/v1/")) for url in urls]
    assert [a.content for a in shown] == [a.content for a in api]
    assert all("default-src 'none'" in answer.headers["content-security-policy"] for answer in shown)
    looks = [{k: v for k, v in r.items() if k in ("at", "picture", "clear", "repaired")} for r in of_reviews(tmp_path)]
    assert looks[1:5] == looks[5:9], "a look is recorded as the API's"
    assert [(look["clear"], look["repaired"]) for look in looks[1:5]] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]
    assert Image.open(io.BytesIO(shown[0].content)).size == (64, 64)
    assert abs(pixels(shown[0].content) - pixels(shown[1].content)).max() > 30, "it is blurred"


@pytest.mark.parametrize(
    ("decision", "state", "repaired"),
    [("release", "released", False), ("release-repaired", "released", True), ("reject", "rejected", None)],
)
def test_a_decision_reaches_the_caller_and_the_next_case_of_the_queue_is_offered(
    client: Any, tmp_path: Path, decision: str, state: str, repaired: bool | None
) -> None:
    earlier, case_id, _, later = held(client, BOTH), held(client, BOTH), held(client, HELD), held(client, BOTH)
    url = f"/v1/reviews/{case_id}/pictures/0?clear=true&repaired={str(bool(repaired)).lower()}"
    looked = pixels(client.get(url).content)
    page = decide(client, case_id, decision, reason="a sign", tell="true", query="?queue=signs")
    assert page.status_code == 200
    assert told(page) == f"The case of signs is {state}."
    assert f'class="main" href="/console/reviews/{later}?queue=signs" autofocus' in page.text
    assert cases(page.text) == [earlier, later]
    outcome = client.get(f"/v1/reviews/{case_id}").json()
    assert (outcome["status"], outcome["reason"]) == (state, "a sign")
    if repaired is None:
        assert outcome["answer"] is None
    else:
        assert (returned(outcome["answer"])[0] == looked).all()
    recorded = of_reviews(tmp_path)[-1]
    assert (recorded["event"], recorded["decision"], recorded["review"]) == ("review-decision", decision, case_id)
    last = decide(client, later, "reject", query="?queue=signs")
    assert f'href="/console/reviews/{earlier}?queue=signs" autofocus' in last.text, "behind the last comes the oldest"


def test_only_a_case_with_a_repair_offers_one(client: Any) -> None:
    with_repair, without = held(client, BOTH), held(client, HELD)
    assert "release-repaired" in client.get(f"/console/reviews/{with_repair}").text
    page = client.get(f"/console/reviews/{without}").text
    assert "release-repaired" not in page
    assert page.index('value="reject"') < page.index('value="release"'), "Enter in a field presses the first button"
    assert "no repaired pictures" in told(decide(client, without, "release-repaired"))


@pytest.mark.parametrize("reason", ["", " \n "])
def test_without_a_reason_nothing_is_decided(client: Any, reason: str) -> None:
    case_id = held(client, HELD)
    answer = decide(client, case_id, "release", reason=reason)
    assert answer.status_code == 400
    assert "`reason`" in told(answer)
    assert client.get(f"/v1/reviews/{case_id}").json()["status"] == "pending"


def test_who_comes_second_is_told_and_gets_the_next_case(client: Any) -> None:
    case_id, other = held(client, HELD), held(client, HELD)
    client.post(f"/v1/reviews/{case_id}", json={"decision": "reject"})
    late = decide(client, case_id, "release")
    assert late.status_code == 409
    assert told(late) == "the case is rejected already"
    assert f'href="/console/reviews/{other}" autofocus' in late.text
    opened = client.get(f"/console/reviews/{case_id}")
    assert opened.status_code == 404
    assert told(opened) == "the case is rejected: nothing of it is kept"
    assert client.get(f"/v1/reviews/{case_id}").json()["status"] == "rejected"
    decide(client, other, "release")
    again = client.get(f"/console/reviews/{other}").text
    assert "The case is released already." in again
    assert "<textarea" not in again


def test_hostile_texts_are_shown_as_text(client: Any) -> None:
    reviews = client.runtime.ready().reviews
    real = held(client, HELD + HOSTILE)
    content = reviews._store.content(reviews._store.find(real))
    ground = {"rule": HOSTILE, "predicate": HOSTILE, "list": HOSTILE, "view": HOSTILE, "score": None}
    about = {**content.about, "negative_prompt": HOSTILE, "model": HOSTILE}
    about["grounds"] = {**about["grounds"], "rules": [HOSTILE], "reasons": [ground]}
    evil = reviews.keep("review_evil", HOSTILE, HOSTILE, (HOSTILE,), Content(about, content.answer, content.files))
    pages = [client.get(f"/console/reviews/{each}").text for each in (real, evil.id, HOSTILE.replace("/", ""))]
    pages += [client.get("/console/reviews", params={"queue": queue}).text for queue in ("", HOSTILE, HOSTILE + "x")]
    pages += [decide(client, evil.id, "reject", reason=HOSTILE).text, decide(client, real, HOSTILE).text]
    assert sum("&lt;img src=x" in page for page in pages) >= 6
    for page in pages:
        assert "<img src=x" not in page
        assert "<script>" not in page
        assert not re.search(r'href="[^"]*<', page)


def test_a_request_that_the_playground_holds_leads_reviewers_to_its_case(client: Any) -> None:
    answer = client.post("/console/draw", files={"prompt": (None, BOTH), "seed": (None, "5")})
    told = next(json.loads(line[6:])["html"] for line in answer.text.splitlines() if '"console.told"' in line)
    assert "v-review-hold" in told
    (case_id,) = cases(client.get("/console/reviews").text)
    assert f'href="/console/reviews/{case_id}"' in told
    assert "b64_json" not in answer.text


@pytest.fixture
def keyed(holding: Any, tmp_path: Path) -> tuple[Any, dict[str, str]]:
    """A client of a service with keys, and these."""
    scopes = {"reviewer": ["console", "review"], "author": ["console", "policy:read"], "app": ["generate"]}
    made = {name: new_key(name, own, now=datetime.now(UTC)) for name, own in scopes.items()}  # type: ignore[arg-type]
    save_keys_file(tmp_path / "keys.json", [record for _, record in made.values()])
    client = holding(host="0.0.0.0", keys_file=tmp_path / "keys.json")
    client.headers.update({"Host": "pictures.example", "Origin": "https://pictures.example"})
    return client, {name: key for name, (key, _) in made.items()}


def test_looks_and_decisions_need_the_scope_and_have_the_reviewers_name(keyed: Any, tmp_path: Path) -> None:
    client, keys = keyed
    answer = client.post("/v1/images/generations", json={"prompt": HELD, "seed": 5}, headers=bearer(keys["app"]))
    case_id = answer.json()["error"]["review"]["id"]
    paths = [f"/console/reviews{path}" for path in ("", f"/{case_id}", f"/{case_id}/pictures/0")]
    for path in paths:
        assert client.get(path, follow_redirects=False).status_code in (303, 401)
    client.post("/console/sign-in", files={"key": (None, keys["author"])})
    assert 'href="/console/reviews"' not in client.get("/console/policies").text
    assert [client.get(path).status_code for path in paths] == [403] * 3
    assert decide(client, case_id, "release").status_code == 403
    client.cookies.clear()
    client.post("/console/sign-in", files={"key": (None, keys["reviewer"])})
    assert [client.get(path).status_code for path in paths] == [200] * 3
    assert "app" in client.get(paths[0]).text
    client.headers["Origin"] = "https://evil.example"
    assert decide(client, case_id, "release").status_code == 403
    client.headers["Origin"] = "https://pictures.example"
    assert decide(client, case_id, "release").status_code == 200
    assert [r["reviewer"] for r in of_reviews(tmp_path)] == ["reviewer"] * 3
    assert "election" not in json.dumps(of_reviews(tmp_path))


def test_what_cannot_be_recorded_is_neither_seen_nor_decided(holding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = holding(audit="required")
    client.headers.update(LOCAL)
    case_id = held(client, HELD)

    def full(*_: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(client.runtime._audit, "append", full)
    opened = client.get(f"/console/reviews/{case_id}")
    assert (opened.status_code, "zebra" in opened.text) == (503, False)
    assert "audit" in told(opened)
    assert client.get(f"/console/reviews/{case_id}/pictures/0").status_code == 503
    assert decide(client, case_id, "release").status_code == 503
    assert client.runtime.ready().reviews.list()["data"][0]["id"] == case_id


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 seconds"), (1, "1 second"), (119, "119 seconds"), (120, "2 minutes"), (1_209_599, "14 days")],
)
def test_times_are_told_in_the_largest_unit_of_which_there_are_two(seconds: float, text: str) -> None:
    assert span_of_time(seconds) == text
