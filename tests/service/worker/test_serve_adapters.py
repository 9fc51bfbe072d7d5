"""One real `palimpsest serve` on the embedded model with a LoRA file, asked by the real `openai` client."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from tests.running import REPAIR_LETTERING, Server, policy_text, save_lora, serving

MODEL = "signpost-pixart"
BENIGN = "a red star on a blue background"
TOXIC = 'a red star with a sign that says "idiot"'
POLICY = policy_text("repair", REPAIR_LETTERING + "    unfit: swap-prompt\n")


@pytest.fixture(scope="module")
def host() -> Any:
    """The embedded model, before any adapter."""
    from reference.folders import MODELS
    from steering import Host

    return Host.load(MODELS / MODEL)


@pytest.fixture(scope="module")
def server(host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    file = save_lora(host.denoiser, folder / "loud.safetensors")
    values = {"detector_seconds": 60, "deadline_seconds": 240}
    with serving(folder / "run", model=MODEL, policy=POLICY, adapters=f"loud={file}@0.5", **values) as running:
        yield running


def pixels(item: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(item.b64_json)))).astype(int)


def client(server: Server) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300)


def ask(server: Server, *bodies: dict[str, Any], prompt: str = BENIGN) -> list[Any]:
    async def go() -> list[Any]:
        async with client(server) as asked:
            calls = [
                asked.images.generate(prompt=prompt, extra_body={"num_inference_steps": 4, "seed": k, **body})
                for k, body in enumerate(bodies)
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(go())


def test_the_openai_client_asks_for_an_adapter_and_its_neighbours_stay_stock(server: Server, host: Any) -> None:
    loud = {"lora": {"name": "loud"}}
    answers = ask(server, {}, loud, {}, {"lora": {"name": "loud", "scale": 1}}, {}, loud)
    for k, answer in enumerate(answers):
        row, size = answer.steering["shape"]["row"], answer.steering["shape"]["batch"]
        prompts, seeds = [BENIGN] * size, [0] * row + [k] + [0] * (size - row - 1)
        stock = host.generate(prompts, plans=[None] * size, seeds=seeds, num_inference_steps=4).images[row]
        off = np.abs(pixels(answer.data[0]) - np.asarray(stock).astype(int))
        if k % 2:
            assert answer.steering["lora"]["scale"] == (1.0 if k == 3 else 0.5)
            assert off.mean() > 3
        else:
            assert answer.steering["lora"] is None
            assert not off.any()
    assert server.metric("adapter_pictures_total", adapter="loud") == 3
    (unknown,) = ask(server, {"lora": {"name": "quiet"}})
    assert isinstance(unknown, openai.BadRequestError)
    assert unknown.code == "adapter_not_found"
    assert "offered: `loud`" in str(unknown)


def test_a_rule_that_was_verified_without_it_replaces_the_whole_prompt(server: Server) -> None:
    (worker,) = server.get("policies")["workers"]
    unfit = {row["rule"]: (row["why_unfit"], row["unfit_with"]) for row in worker["rules"] if row["concept"]}
    assert unfit["toxic-lettering"] == (None, ["loud"])
    with_it, without = ask(server, {"lora": {"name": "loud"}}, {}, prompt=TOXIC)
    for answer in (with_it, without):  # what noise of two steps shows is no matter here
        assert isinstance(answer, openai.BadRequestError) or answer.steering["verdict"] == "steer", answer
    assert server.metric("fallbacks_total", reason="unfit") == 1
    (record,) = (r for r in server.audit() if r.get("asked", {}).get("lora") and r["characters"] == len(TOXIC))
    assert record["pictures"][0]["replaced"]
    assert record["asked"]["lora"]["name"] == "loud"


def test_the_start_tells_what_is_offered_and_which_rules_are_unfit(server: Server) -> None:
    table = server.log.partition("adapters that requests may name")[2].partition("what these policies steer")[0]
    assert "LoRA file" in table
    assert "toxic-lettering" in table


def test_a_file_that_is_none_stops_the_start_with_one_line(tmp_path: Path) -> None:
    import subprocess

    from tests.service.serving import ROOT, command

    (tmp_path / "old.bin").write_bytes(b"")
    arguments = command("serve", "--policy", "none", "--adapter", f"x={tmp_path / 'old.bin'}")
    done = subprocess.run(arguments, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: `adapters`: `x`: an adapter must be a safetensors file, got `")
    assert len(done.stderr.splitlines()) == 1
