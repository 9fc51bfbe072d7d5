"""One real `palimpsest serve` process, asked over HTTP by the real `openai` client."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.running import command_line
from tests.service.serving import POLICY, ROOT, command, eventually, family, free_port, wait

BENIGN = "a red star on a blue background"
TOXIC = 'a red star with a sign that says "idiot"'


@dataclass
class Server:
    """A running server, its policy file and its log."""

    process: subprocess.Popen[bytes]
    url: str
    policy: Path
    log: Path
    state: Path
    cpu_seconds_to_ready: float
    unready: list[int]

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=300)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series called `name` with these labels."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines():
            if re.match(rf"{name}(\{{|\s)", line) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def worker(self) -> dict[str, Any]:
        """What the only worker says of its policies."""
        (worker,) = httpx.get(f"{self.url}/v1/policies", timeout=60).json()["workers"]
        return worker


@pytest.fixture(scope="module")
def server(model: Path, packs: Path, loud: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    policy = folder / "policies" / "test.yaml"
    policy.parent.mkdir()
    policy.write_text(POLICY)
    port, log = free_port(), folder / "log"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PALIMPSEST_PACKS": str(packs),
        "PALIMPSEST_ADAPTERS": f"loud={loud}@0.5",
        "PALIMPSEST_STATE": str(folder / "state"),
        "PALIMPSEST_QUEUE_SIZE": "20",
        "PALIMPSEST_MAX_STEPS": "1000",
        "PALIMPSEST_THREADS": "1",
        "PALIMPSEST_GRACE_SECONDS": "5",
        # generous, so that a busy machine tests the service and not its own speed
        "PALIMPSEST_DETECTOR_SECONDS": "60",
        "PALIMPSEST_DEADLINE_SECONDS": "240",
    }
    arguments = command("serve", "--model", str(model), "--policy", str(policy.parent), "--port", str(port))
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    unready = wait(url, process, log)
    yield Server(process, url, policy, log, folder / "state", cpu_seconds(process.pid), unready)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    finally:
        process.kill()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and its children have used."""
    ticks = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def crowding() -> float:
    """1 on a machine with a core to spare; how much longer a second of work takes where processes wait for a core."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return 1.0 if waiting < 1.5 else 20 * waiting


def pixels(item: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(item.b64_json))))


def test_it_is_unready_while_it_loads_and_ready_in_time(server: Server) -> None:
    assert server.cpu_seconds_to_ready < 20, "ready within half a minute on any idle machine"
    assert 503 in server.unready, "the worker answers its probes while the model loads"
    assert httpx.get(f"{server.url}/livez").status_code == 200


def test_the_openai_client_gets_pictures(server: Server) -> None:
    answer = server.client.images.generate(prompt=BENIGN, n=3, size="64x64", quality="hd", extra_body={"seed": 11})
    assert answer.data is not None
    assert len(answer.data) == 3
    steering = answer.steering  # type: ignore[attr-defined]
    assert (steering["verdict"], steering["ignored"]) == ("allow", ["quality"])
    assert [p["seed"] for p in steering["per_image"]] == [11, 12, 13]
    assert pixels(answer.data[0]).shape == (64, 64, 3)


def test_the_openai_client_gets_the_model_and_its_own_error_for_another(server: Server) -> None:
    (listed,) = server.client.models.list().data
    assert server.client.models.retrieve(listed.id) == listed
    for other in ("gpt-image-1", "owner/model"):
        with pytest.raises(openai.NotFoundError) as error:
            server.client.models.retrieve(other)
        assert error.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/livez", 200), ("http://x/livez", 200), ("HTTP://x:80/livez", 200), ("https://x/v1/models", 200),
        ("http://x/nothing", 404), ("http://x", 200), ("http://x/v1/models/other?a=b", 404),
    ],
)  # fmt: skip
def test_a_target_that_is_a_whole_url_is_understood(server: Server, target: str, code: int) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = connection.makefile("rb").read()
    assert int(answer.split()[1]) == code


def test_a_byte_order_mark_before_the_body_is_accepted(server: Server) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"prompt": BENIGN, "seed": 4}).encode()
    url = f"{server.url}/v1/images/generations"
    answer = httpx.post(url, content=body, headers={"Content-Type": "application/json"}, timeout=240)
    assert answer.status_code == 200, answer.text


def test_a_toxic_prompt_is_steered(server: Server) -> None:
    before = server.metric("palimpsest_images_total", verdict="steer")
    answer = server.client.images.generate(prompt=TOXIC, extra_body={"seed": 3})
    assert answer.steering["verdict"] == "steer"  # type: ignore[attr-defined]
    assert server.metric("palimpsest_images_total", verdict="steer") == before + 1
    assert server.metric("palimpsest_decisions_total", rule="toxic-lettering", verdict="steer", mode="enforce") > 0


def test_a_refusal_reaches_the_client_as_one(server: Server) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        server.client.images.generate(prompt="something forbidden")
    assert error.value.code == "moderation_blocked"
    assert error.value.body["decision_id"]  # type: ignore[index]


def test_the_client_reads_a_stream_and_a_refusal_before_it(server: Server) -> None:
    plain = server.client.images.generate(prompt=TOXIC, n=3, extra_body={"seed": 3})
    with server.client.images.generate(
        prompt=TOXIC, n=3, stream=True, extra_body={"seed": 3, "progress": True}
    ) as stream:
        events: list[Any] = list(stream)
    kinds = [event.type for event in events]
    assert kinds[0] == "image_generation.queued"
    assert kinds.count("image_generation.step") == 12
    done = [event for event in events if event.type == "image_generation.completed"]
    assert len(done) == 3
    assert plain.data is not None
    for event, item in zip(done, plain.data, strict=True):
        assert pixels(event).shape == pixels(item).shape
        assert event.usage.total_tokens == 0
        assert event.steering["verdict"] == "steer"
    with pytest.raises(openai.BadRequestError) as error:
        server.client.images.generate(prompt="something forbidden", stream=True)
    assert error.value.code == "moderation_blocked"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": ""}, "must not be empty"),
        ({"prompt": "a" * 10_000}, "at most 2000 characters"),
        ({"prompt": BENIGN, "size": "17x17"}, "unknown size"),
        ({"prompt": BENIGN, "response_format": "url"}, "b64_json"),
        ({"prompt": BENIGN, "extra_body": {"sede": 1}}, "did you mean `seed`"),
        ({"prompt": BENIGN, "n": 9}, "at most 4"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(server: Server, options: dict[str, Any], said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        server.client.images.generate(**options)


def test_a_model_that_is_not_served_is_not_found(server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="unknown model") as error:
        server.client.images.generate(prompt=BENIGN, model="dall-e-3")
    assert error.value.code == "model_not_found"


def test_sixteen_mixed_requests_at_once_have_the_stock_pixels_at_their_shape(server: Server, host: Any) -> None:
    async def ask_all() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            prompts = [TOXIC if k % 3 == 0 else f"{BENIGN}, number {k}" for k in range(16)]
            calls = [
                client.images.generate(prompt=p, extra_body={"seed": k}, timeout=300) for k, p in enumerate(prompts)
            ]
            return list(zip(prompts, await asyncio.gather(*calls), strict=True))

    batched = 0
    for k, (prompt, answer) in enumerate(asyncio.run(ask_all())):
        shape = answer.steering["shape"]
        batched += shape["batch"] > 1
        if prompt == TOXIC:
            assert answer.steering["verdict"] == "steer"
            continue
        row, size = shape["row"], shape["batch"]
        prompts = ["a filler"] * row + [prompt] + ["a filler"] * (size - row - 1)
        seeds = [0] * row + [k] + [0] * (size - row - 1)
        stock = host.generate(prompts, plans=[None] * size, seeds=seeds).images[row]
        got, want = pixels(answer.data[0]).astype(int), np.asarray(stock).astype(int)
        assert not np.abs(got - want).any(), f"request {k} at {shape}: {np.abs(got - want).max()} off"
    assert batched >= 8


def test_the_client_asks_for_an_adapter_and_its_neighbours_stay_stock(server: Server, host: Any) -> None:
    async def ask(*bodies: dict[str, Any]) -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            calls = [
                client.images.generate(prompt=BENIGN, extra_body={"seed": k, **body}, timeout=300)
                for k, body in enumerate(bodies)
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

    loud = {"lora": {"name": "loud"}}
    for k, answer in enumerate(asyncio.run(ask({}, loud, {}, {"lora": {"name": "loud", "scale": 1}}, {}, loud))):
        row, size = answer.steering["shape"]["row"], answer.steering["shape"]["batch"]
        prompts, seeds = [BENIGN] * size, [0] * row + [k] + [0] * (size - row - 1)
        stock = host.generate(prompts, plans=[None] * size, seeds=seeds).images[row]
        off = np.abs(pixels(answer.data[0]).astype(int) - np.asarray(stock).astype(int))
        if k % 2:
            assert answer.steering["lora"]["scale"] == (1.0 if k == 3 else 0.5)
            assert off.mean() > 3
        else:
            assert answer.steering["lora"] is None
            assert not off.any()
    assert server.metric("palimpsest_adapter_pictures_total", adapter="loud") == 3
    (unknown,) = asyncio.run(ask({"lora": {"name": "quiet"}}))
    assert isinstance(unknown, openai.BadRequestError)
    assert unknown.code == "adapter_not_found"
    assert "offered: `loud`" in str(unknown)


def test_the_start_tells_what_is_offered_and_which_rules_are_unfit_with_it(server: Server) -> None:
    table = server.log.read_text().partition("adapters that requests may name")[2]
    table = table.partition("what these policies steer")[0]
    assert "LoRA file" in table
    assert "toxic-lettering" in table
    unfit = {row["rule"]: (row["why_unfit"], row["unfit_with"]) for row in server.worker()["rules"] if row["concept"]}
    assert unfit["toxic-lettering"] == (None, ["loud"])


def test_a_crowd_is_served_or_told_to_come_back(server: Server) -> None:
    async def ask_all() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            more = {"num_inference_steps": 60}
            calls = [client.images.generate(prompt=BENIGN, extra_body=more, timeout=300) for _ in range(60)]
            return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(ask_all())
    busy = [a for a in answers if isinstance(a, openai.RateLimitError)]
    assert busy
    assert all(a.code == "queue_full" and int(a.response.headers["retry-after"]) >= 1 for a in busy)
    assert len([a for a in answers if not isinstance(a, Exception)]) + len(busy) == 60
    assert server.metric("palimpsest_queue_rejections_total") == len(busy)


def test_a_client_that_leaves_frees_the_engine(server: Server) -> None:
    before = server.metric("palimpsest_requests_total", outcome="cancelled")
    body = {"prompt": BENIGN, "num_inference_steps": 1000, "n": 4}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/images/generations", json=body, timeout=0.3)
    eventually(lambda: server.metric("palimpsest_requests_total", outcome="cancelled") == before + 1, 30)
    server.client.images.generate(prompt=BENIGN)
    # the request's pictures were given up: each is counted, none ran its four thousand steps to the end
    eventually(lambda: server.metric("palimpsest_cancelled_pictures_total", reason="disconnect") >= 4, 30)


def test_a_policy_file_goes_live_within_a_second_and_a_broken_one_never(server: Server) -> None:
    text = server.policy.read_text()
    first = server.worker()["policy"]
    server.policy.write_text(text.replace("[forbidden]", "[star]"))
    eventually(lambda: server.worker()["policy"]["digest"] != first["digest"], 1 * crowding())
    with pytest.raises(openai.BadRequestError):
        server.client.images.generate(prompt=BENIGN)
    good = server.worker()["policy"]
    server.policy.write_text(text[: text.index("do: block}")])  # torn in the middle of an action
    eventually(lambda: server.worker()["policy"]["source"] == "last-good", 1 * crowding())
    assert server.worker()["policy"]["digest"] == good["digest"]
    assert server.worker()["policy"]["problems"]
    assert server.metric("palimpsest_policy_last_reload_failed") == 1
    with pytest.raises(openai.BadRequestError):
        server.client.images.generate(prompt=BENIGN)
    server.policy.write_text(text)
    eventually(lambda: server.worker()["policy"]["digest"] == first["digest"], 1 * crowding())
    assert server.metric("palimpsest_policy_last_reload_failed") == 0
    assert server.metric("palimpsest_policy_reloads_total", result="failed") >= 1
    server.client.images.generate(prompt=BENIGN)


def test_metrics_are_ours_bounded_and_moving(server: Server) -> None:
    for path in ("a", "b", "c"):
        httpx.get(f"{server.url}/scan/{path}")
    text = httpx.get(f"{server.url}/metrics").text
    names = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names
    assert all(name.startswith(("palimpsest_", "process_")) for name in names)
    assert "/scan" not in text
    assert all(line.startswith("process_") for line in text.splitlines() if "pid=" in line)
    assert server.metric("palimpsest_requests_total", endpoint="generations", outcome="ok") > 0
    assert server.metric("palimpsest_stage_duration_seconds_count", stage="generate") > 0
    assert server.metric("palimpsest_batch_rows_count") > 0
    assert server.metric("palimpsest_engine_ready") == 1
    assert server.metric("palimpsest_policy_generation_min") == server.metric("palimpsest_policy_generation_max")


def test_a_head_that_can_be_read_two_ways_is_refused(server: Server) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    head = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(head)
        assert client.recv(65536).startswith(b"HTTP/1.1 400")


def test_a_rebound_host_name_opens_nothing(server: Server) -> None:
    for path, status in (("/v1/models", 403), ("/", 403), ("/livez", 200)):
        assert httpx.get(f"{server.url}{path}", headers={"Host": "evil.example"}, timeout=30).status_code == status


def test_no_prompt_is_in_the_log(server: Server) -> None:
    text = server.log.read_text()
    assert "generations 200" in text
    for prompt in (BENIGN, TOXIC, "idiot", "something forbidden"):
        assert prompt not in text


def test_the_worker_stays_under_two_gigabytes(server: Server) -> None:
    status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in family(server.process.pid))
    assert sum(int(kb) for kb in re.findall(r"VmRSS:\s+(\d+) kB", status)) < 2_000_000


def test_a_second_server_on_the_port_says_so(server: Server, model: Path) -> None:
    port = server.url.rsplit(":", 1)[1]
    done = run("serve", "--model", str(model), "--policy", "none", "--port", port)
    assert done.returncode == 2
    assert "cannot bind" in done.stderr


def test_a_stopped_server_exits_cleanly_with_a_closed_audit_log(server: Server) -> None:
    """The last test of this server."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.log.read_text()[-2000:]
    environment = {"PALIMPSEST_STATE": str(server.state)}
    done = run("audit", "verify", "--json", **environment)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["findings"] == []


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command(*arguments), env=variables, capture_output=True, text=True, timeout=180)


def test_what_cannot_start_says_why_and_exits(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.worker.launch.serve", lambda *given, **named: pytest.fail("it starts"))
    broken = tmp_path / "broken.yaml"
    broken.write_text(POLICY.replace("do: block", "do: blok"))
    (tmp_path / "old.bin").write_bytes(b"")
    wrong = {
        "broken.yaml": ("--model", model, "--policy", broken),
        "neither a diffusers folder": ("--model", tmp_path),
        "no API key is configured": ("--model", model, "--policy", "none", "--host", "0.0.0.0"),
        "error: `adapters`: `x`: an adapter must be a safetensors file, got `": (
            "--model", model, "--policy", "none", "--adapter", f"x={tmp_path / 'old.bin'}",
        ),
    }  # fmt: skip
    for said, arguments in wrong.items():
        done = command_line("serve", *arguments, "--port", free_port(), PALIMPSEST_STATE=tmp_path / "state")
        assert (done.code, said in done.err) == (2, True), (said, done.err)
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1


def test_a_model_that_cannot_be_read_ends_the_server_with_its_reason(model: Path, tmp_path: Path) -> None:
    """Weights of another shape are found by a worker only."""
    import shutil

    odd = Path(shutil.copytree(model, tmp_path / "odd"))
    config = odd / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"caption_channels": 7}))
    state = {"PALIMPSEST_STATE": str(tmp_path / "state")}
    done = run("serve", "--model", str(odd), "--policy", "none", "--port", str(free_port()), **state)
    assert done.returncode == 2, "it is the operator's folder, not a defect of the service"
    (line,) = [line for line in done.stderr.splitlines() if "caption_projection" in line]
    assert line.startswith("error: `model`: model `")
    assert "Traceback" not in done.stderr
