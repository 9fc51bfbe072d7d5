"""One real server with keys and a narrow queue: who is let in, how often, and how a worker ends, by signal or killed.

| the law that goes red | when this is broken |
|---|---|
| readiness goes first | `drain_on_signals` is not called |
| what comes late, waits or runs is answered | `drain` turns away |
| a worker that is killed is replaced | - (BentoML's, and ours to know) |
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from service.http.keys import new_key, save_keys_file
from tests.service.serving import POLICY, ROOT, command, eventually, family, free_port, wait

BENIGN = "a red star on a blue background"
NOW = datetime.now(UTC)


@dataclass
class Server:
    """A running server and the keys that it knows."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    keys: dict[str, str]

    def client(self, name: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.keys.get(name, name), max_retries=0, timeout=300)

    def post(self, name: str, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.keys[name]}"}
        return httpx.post(f"{self.url}/v1/images/generations", json=body, headers=headers, timeout=300)

    def waiting(self) -> float:
        """How many pictures wait for the engine."""
        text = httpx.get(f"{self.url}/metrics", headers={"Authorization": f"Bearer {self.keys['scraper']}"}).text
        return sum(float(x.split()[-1]) for x in text.splitlines() if x.startswith("palimpsest_queue_depth"))


@pytest.fixture(scope="module")
def server(model: Path, packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("guarded")
    policy = folder / "policies" / "test.yaml"
    policy.parent.mkdir()
    policy.write_text(POLICY)
    made = {
        "maker": new_key("maker", ["generate"], now=NOW),
        "hasty": new_key("hasty", ["generate"], now=NOW, per_minute=0.5),
        "scraper": new_key("scraper", ["metrics"], now=NOW),
        "ended": new_key("maker", ["generate"], now=NOW, expires=NOW),
    }
    save_keys_file(folder / "keys.json", [record for _, record in made.values()])
    port, log = free_port(), folder / "log"
    settings = {
        "PACKS": packs,
        "STATE": folder / "state",
        "KEYS_FILE": folder / "keys.json",
        "RATE_BURST": 2,
        "MAX_STEPS": 1000,
        "MAX_BATCH": 1,
        "THREADS": 1,
        "DRAIN_SECONDS": 4,
        "GRACE_SECONDS": 120,
        "DEADLINE_SECONDS": 240,
        "DETECTOR_SECONDS": 60,
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **{f"PALIMPSEST_{k}": str(v) for k, v in settings.items()}}
    arguments = command("serve", "--model", str(model), "--policy", str(policy.parent), "--port", str(port))
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    wait(url, process, log)
    yield Server(process, url, log, {name: key for name, (key, _) in made.items()})
    process.kill()


def test_only_a_key_that_lives_and_may_generate_is_served(server: Server) -> None:
    assert server.client("maker").images.generate(prompt=BENIGN).data
    for name in ("unknown", "ended"):
        with pytest.raises(openai.AuthenticationError) as error:
            server.client(name).images.generate(prompt=BENIGN)
        assert error.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError) as denied:
        server.client("scraper").images.generate(prompt=BENIGN)
    assert denied.value.code == "insufficient_scope"


def test_a_key_that_asks_too_often_is_told_when_to_come_back(server: Server) -> None:
    client = server.client("hasty")
    for _ in range(2):
        client.images.generate(prompt=BENIGN)
    with pytest.raises(openai.RateLimitError) as error:
        client.images.generate(prompt=BENIGN)
    assert error.value.code == "rate_limit_exceeded"
    assert 1 <= int(error.value.response.headers["retry-after"]) <= 120
    assert server.client("maker").images.generate(prompt=BENIGN).data, "another key has its own rate"


def test_a_stream_that_its_client_leaves_is_given_up(server: Server) -> None:
    slow = {"num_inference_steps": 1000}
    with server.client("maker").images.generate(
        prompt=BENIGN, n=4, stream=True, extra_body=slow | {"progress": True}
    ) as stream:
        kinds = [next(stream).type for _ in range(2)]
    assert kinds == ["image_generation.queued", "image_generation.step"]
    eventually(lambda: server.waiting() == 0, 60)
    assert server.client("maker").images.generate(prompt=BENIGN).data


def test_a_worker_that_is_killed_is_replaced(server: Server) -> None:
    before = set(family(server.process.pid))
    answered = [p for p in before if p != server.process.pid and b"worker" in Path(f"/proc/{p}/cmdline").read_bytes()]
    assert answered
    os.kill(answered[-1], signal.SIGKILL)
    wait(server.url, server.process, server.log)
    assert server.client("maker").images.generate(prompt=BENIGN).data
    assert set(family(server.process.pid)) != before


def test_told_to_end_it_is_unready_first_and_loses_nothing(server: Server) -> None:
    """The last test of this server."""
    answers: dict[str, httpx.Response] = {}
    began = time.monotonic()
    server.post("maker", prompt=BENIGN, num_inference_steps=50)
    steps = min(1000, int(50 * 6 / (time.monotonic() - began)) + 50)  # about six seconds on this machine now

    def ask(name: str, count: int) -> None:
        answers[name] = server.post("maker", prompt=BENIGN, num_inference_steps=count)

    running = threading.Thread(target=ask, args=("running", steps))
    running.start()
    time.sleep(0.5)
    waiting = threading.Thread(target=ask, args=("waiting", 4))
    waiting.start()
    eventually(lambda: server.waiting() == 1, 60)
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: httpx.get(f"{server.url}/readyz", timeout=30).status_code == 503, 4)
    late = server.post("maker", prompt=BENIGN)
    waiting.join(60)
    running.join(240)
    assert server.process.wait(120) == 0
    assert [late.status_code, *(answer.status_code for answer in answers.values())] == [200] * 3
