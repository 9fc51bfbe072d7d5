"""Two workers are one service to whoever asks: one rate for a key and one review queue, whichever of them answers.

| the law that goes red | when this is broken |
|---|---|
| a rate is kept over all workers, under load | `limits_folder` gives each worker its own folder |
| a held case is there once and is decided once | `decide` does not ask whether the case is pending |
"""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.running import policy_text, serving
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


def test_two_workers_hold_and_decide_each_case_once_and_a_restart_loses_none(tmp_path: Path) -> None:
    hold = """
  - id: desk
    why: The news desk looks at these first.
    category: news
    when: {prompt: {any_of: [election]}}
    then: [{do: review-hold, queue: news-desk}]
"""
    model, settings = str(save_pixart(tmp_path / "model")), {"workers": 2, "state": tmp_path / "state"}
    asked = {"prompt": "an election poster", "num_inference_steps": 2}
    with (
        serving(tmp_path / "a", model=model, policy=policy_text("holding", hold), **settings) as server,
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
        outcome = {case: httpx.get(f"{reviews}/{case}").json() for case in held}
    assert set(re.findall(r"palimpsest:(\d)\] generations 202", log)) == {"1", "2"}, "both answer"
    with serving(tmp_path / "b", model=model, policy="none", **settings) as server:
        again = {case: httpx.get(f"{server.url}/v1/reviews/{case}").json() for case in held}
        pending = httpx.get(f"{server.url}/v1/reviews").json()["data"]
    assert again == outcome
    assert {row["id"] for row in pending} == held - set(decided)
    assert {o["status"] for o in outcome.values()} <= {"pending", "released", "rejected"}
