"""Two embedded models in one real server under sixteen clients: each under its own policies, untouched pictures equal
to the stock pipelines' bit for bit; then the same with room for one of them.
"""

from __future__ import annotations

import base64
import functools
import io
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.running import Answer, Server, policy_text, serving

STEPS = 4
BENIGN = "a cat on a yellow background"
NO_STARS = policy_text(
    "no-stars",
    """
  - id: no-stars
    why: No stars here.
    category: stars
    when: {prompt: {any_of: [star]}}
    then: [{do: block}]
""",
)
PROMPTS = (BENIGN, "a red star on a blue background")
SOURCES = {"signs": "signpost-pixart", "scenes": "signpost-sdxl"}


@functools.cache
def host_of(model: str) -> Any:
    """An embedded model as the service loads it."""
    import torch

    from reference.folders import MODELS
    from steering import Host

    torch.set_num_threads(1)
    return Host.load(MODELS / model, dtype=torch.float32)


def stock(model: str, prompt: str, seed: int) -> np.ndarray:
    """What the stock pipeline of an embedded model draws."""
    import torch

    host = host_of(model)
    call = host.defaults.arguments() | {"num_inference_steps": STEPS}
    return np.asarray(host.pipe(prompt, generator=torch.Generator("cpu").manual_seed(seed), **call).images[0])


def asked(server: Server, count: int) -> list[tuple[str, str, int, Answer]]:
    """The answers to so many mixed requests of sixteen clients."""

    def ask(k: int) -> tuple[str, str, int, Answer]:
        name, prompt = list(SOURCES)[k % 2], PROMPTS[k // 2 % 2]
        return name, prompt, k, server.ask(prompt, model=name, seed=k, num_inference_steps=STEPS)

    with ThreadPoolExecutor(16) as clients:
        return list(clients.map(ask, range(count)))


@pytest.mark.parametrize("memory", [None, 25_000_000])
def test_two_models_under_sixteen_clients(tmp_path: Path, memory: int | None) -> None:
    table = {name: {"source": source} for name, source in SOURCES.items()} | {"scenes": {"source": "signpost-sdxl"}}
    (tmp_path / "no-stars.yaml").write_text(NO_STARS)
    table["scenes"]["policy"] = str(tmp_path / "no-stars.yaml")
    more = {} if memory is None else {"model_memory": memory}
    options = {
        "models": json.dumps(table),
        "batching": "solo",
        "deadline_seconds": 600,
        "detector_seconds": 120,
        **more,
    }
    with serving(tmp_path / "server", model="signs", policy="none", **options) as server:
        answers = asked(server, 32)
        codes = Counter((name, prompt, answer.code) for name, prompt, _, answer in answers)
        assert codes == {
            ("signs", PROMPTS[0], "200"): 8,
            ("signs", PROMPTS[1], "200"): 8,
            ("scenes", PROMPTS[0], "200"): 8,
            ("scenes", PROMPTS[1], "400 moderation_blocked"): 8,
        }
        for name, prompt, seed, answer in answers:
            if answer.status == 200:
                drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.body["data"][0]["b64_json"]))))
                assert np.array_equal(drawn, stock(SOURCES[name], prompt, seed)), f"{name}, seed {seed}"
        for name, count in (("signs", 16), ("scenes", 8)):
            assert server.metric("model_pictures_total", model=name) == count
        loads = [server.metric("model_loads_total", model=name, result="ok") for name in SOURCES]
        loaded = server.get("status")["workers"][0]["loaded"]
        if memory is None:
            assert (loads, loaded) == ([1, 1], list(SOURCES))
        else:
            print(f"\nloads of {', '.join(SOURCES)}: {loads}")
            assert len(loaded) == 1
    assert server.verified()["intact"]
