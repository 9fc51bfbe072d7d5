"""Two workers are one service to whoever asks: one rate for a key, one review queue and one console, whichever of them
answers.

| the law that goes red | when this is broken |
|---|---|
| a rate is kept over all workers, under load | `limits_folder` gives each worker its own folder |
| a held case is there once and is decided once | `decide` does not ask whether the case is pending |
| a console session is known to both workers | each worker draws a secret of its own for sessions |
| workers that are restarted one after the other under load lose nothing | `drain` turns away |
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from service.http.keys import Scope, new_key, save_keys_file
from tests.running import Server, load, policy_text, serving, until
from tests.tiny import save_pixart

pytestmark = pytest.mark.system

PER_SECOND, BURST, SECONDS = 4.0, 6, 8.0


def test_a_rate_is_kept_over_two_workers_under_load(tmp_path: Path) -> None:
    settings = {"workers": 2, "rate_per_minute": 60 * PER_SECOND, "rate_burst": BURST}
    codes: list[tuple[float, int]] = []
    with serving(tmp_path / "s", model=str(save_pixart(tmp_path / "model")), policy="none", **settings) as server:
        began = time.monotonic()

        def client() -> None:
            while time.monotonic() - began < SECONDS:
                sent = httpx.post(f"{server.url}/v1/policies/evaluate", json={"prompt": "a moon"}, timeout=60)
                codes.append((time.monotonic() - began, sent.status_code))

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log = server.log
    answered, took = sum(code == 200 for _, code in codes), max(at for at, _ in codes)
    assert {code for _, code in codes} == {200, 429}
    assert set(re.findall(r"palimpsest:(\d)\] evaluate 200", log)) == {"1", "2"}, "both answer"
    assert answered <= BURST + PER_SECOND * took + 1
    assert answered >= BURST + PER_SECOND * (SECONDS - 1) * 0.8, "nobody gets less for asking two workers"


_HOLD = """
  - id: desk
    why: The news desk looks at these first.
    category: news
    when: {prompt: {any_of: [election]}}
    then: [{do: review-hold, queue: news-desk}]
"""


def test_two_workers_hold_and_decide_each_case_once_and_a_restart_loses_none(tmp_path: Path) -> None:
    model, settings = str(save_pixart(tmp_path / "model")), {"workers": 2, "state": tmp_path / "state"}
    asked = {"prompt": "an election poster", "num_inference_steps": 2}
    with (
        serving(tmp_path / "a", model=model, policy=policy_text("holding", _HOLD), **settings) as server,
        ThreadPoolExecutor(8) as pool,
    ):
        reviews = f"{server.url}/v1/reviews"

        def post(url: str, body: object) -> httpx.Response:
            return httpx.post(url, json=body, timeout=60)

        answers = list(pool.map(lambda k: post(f"{server.url}/v1/images/generations", {**asked, "seed": k}), range(12)))
        assert {answer.status_code for answer in answers} == {202}, answers[0].text
        held = {answer.json()["error"]["review"]["id"] for answer in answers}
        for _ in range(4):  # whichever worker answers
            listed = [row["id"] for row in httpx.get(f"{reviews}?limit=100").json()["data"]]
            assert (len(listed), set(listed)) == (12, held)
        decided = sorted(held)[:8]
        twice = [(case, choice) for case in decided for choice in ("release", "reject")]
        codes = list(pool.map(lambda each: post(f"{reviews}/{each[0]}", {"decision": each[1]}).status_code, twice))
        assert [sorted(codes[k : k + 2]) for k in range(0, 16, 2)] == [[200, 409]] * 8
        log = server.log
        _restarted_in_turn(server)
        outcome = {case: httpx.get(f"{reviews}/{case}").json() for case in held}
    assert set(re.findall(r"palimpsest:(\d)\] generations 202", log)) == {"1", "2"}, "both answer"
    with serving(tmp_path / "b", model=model, policy="none", **settings) as server:
        again = {case: httpx.get(f"{server.url}/v1/reviews/{case}").json() for case in held}
        pending = httpx.get(f"{server.url}/v1/reviews").json()["data"]
    assert again == outcome
    assert {row["id"] for row in pending} & held == held - set(decided)
    assert {o["status"] for o in outcome.values()} <= {"pending", "released", "rejected"}


def _restarted_in_turn(server: Server) -> None:
    """Tells one worker after the other to end, while six clients ask."""
    with load(
        server, [("free", {"prompt": "a moon"}), ("held", {"prompt": "an election poster"})], clients=6
    ) as running:
        for old in server.workers:
            os.kill(old, signal.SIGTERM)
            until(lambda: old not in server.workers and server.ready(2), 240, "a new worker is ready")  # noqa: B023
    codes = Counter((answer.kind, answer.code) for answer in running.answers)
    print(f"\nanswers: {dict(codes)}")
    assert set(codes) == {("free", "200"), ("held", "202 held_for_review")}, codes


def test_the_console_is_one_console_whichever_worker_answers(tmp_path: Path) -> None:
    scopes: list[Scope] = ["console", "generate", "metrics", "policy:read", "review"]
    key, record = new_key("reviewer", scopes, now=datetime.now(UTC))
    save_keys_file(tmp_path / "keys.json", [record])
    settings = {"workers": 2, "keys_file": tmp_path / "keys.json", "model": str(save_pixart(tmp_path / "model"))}
    bearer, cookies = {"Authorization": f"Bearer {key}"}, dict[str, str]()
    with serving(tmp_path / "s", policy=policy_text("holding", _HOLD), wait=False, **settings) as server:

        def ready() -> bool:
            workers = httpx.get(f"{server.url}/v1/status", headers=bearer).json()["workers"]
            return [worker["state"] for worker in workers] == ["ready", "ready"]

        until(ready, 300, "both workers are ready")

        def ask(method: str, path: str, **fields: str) -> httpx.Response:
            """The answer, over a connection of its own, so that either worker may give it."""
            files = {name: (None, value) for name, value in fields.items()} or None
            headers = {"Origin": server.url}
            answer = httpx.request(method, server.url + path, files=files, headers=headers, cookies=cookies, timeout=60)
            assert answer.status_code in (200, 303), answer.text
            return answer

        def answered(method: str, path: str) -> set[str]:
            return set(re.findall(rf"palimpsest:(\d)\] {method} {re.escape(path)} \d", server.log))

        def by_both(method: str, path: str, pattern: str, **fields: str) -> set[str]:
            """What the pattern finds in the answers, once either worker has given one."""
            found = set()
            for _ in range(100):
                found |= set(re.findall(pattern, ask(method, path, **fields).text))
                if answered(method, path) == {"1", "2"}:
                    return found
            raise AssertionError(f"only one worker answers: {answered(method, path)}")

        cookies |= dict(ask("POST", "/console/sign-in", key=key).cookies)
        (file,) = by_both("GET", "/console/draft", r'name="file" value="([^"]+)"')
        draft = {"file": file, "text": server.policy.read_text().replace("[election]", "[election, zebra]")}
        verdicts = "<b>(Valid|[0-9]+ problems?)</b>"
        assert by_both("POST", "/console/draft/check", verdicts, **draft) == {"Valid"}
        for seed in range(6):
            body = {"prompt": "an election poster", "num_inference_steps": 2, "seed": seed}
            held = httpx.post(f"{server.url}/v1/images/generations", json=body, headers=bearer, timeout=60)
            assert held.status_code == 202, held.text
        assert by_both("GET", "/console/reviews", "all queues: ([0-9]+)") == {"6"}
        page, done = ask("GET", "/console/reviews").text, []
        while following := re.search(r'class="main" href="(/console/reviews/[^"]+)"', page):
            done += re.findall(", ([0-9]+) left", ask("GET", following[1]).text)
            page = ask("POST", following[1], decision="release", reason="seen").text
            done += re.findall("The case of news-desk is ([a-z]+)", page)
        assert done == [told for left in range(6, 0, -1) for told in (str(left), "released")]
        looked, decided = (answered(method, "/console/reviews/{id}") for method in ("GET", "POST"))
        assert looked | decided == {"1", "2"}
