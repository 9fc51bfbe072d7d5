"""Several models in one worker: each under its own policies, with its own pixels, and in memory or not.

| the law that goes red | when this is broken |
|---|---|
| a model that is put out of memory is gone from it | `release` keeps the engine |
"""

from __future__ import annotations

import base64
import gc
import io
import shutil
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from service.settings import SettingsError
from tests.running import policy_text
from tests.service.serving import eventually

GENERATE = "/v1/images/generations"
BENIGN = "a red star on a blue background"
TOXIC = 'a red star with a sign that says "idiot"'
FORBIDDEN = policy_text(
    "forbidden",
    """
  - id: toxic-lettering
    why: Insults do not belong on signs.
    category: harassment
    when: {lettering: {any_of: [$toxic], views: all}}
    then: [{do: steer, concept: lettering, toward: benign-word, strength: auto}]
  - id: never
    why: Some words are refused wherever they stand.
    category: hate
    when: {prompt: {any_of: [forbidden]}}
    then: [{do: block}]
""",
)
ELECTION = policy_text(
    "elections",
    """
  - id: no-elections
    why: Nothing about elections here.
    category: news
    when: {prompt: {any_of: [election]}}
    then: [{do: block}]
    disclose: category
""",
)


def made_for(text: str, *hosts: str) -> str:
    """A policy that is made for these models only."""
    return yaml.safe_dump({**yaml.safe_load(text), "requires": {"hosts": list(hosts)}}, sort_keys=False)


def pixels(answer: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))))


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder like `model`, of other weights and with more blocks."""
    from tests.service.conftest import tiny

    folder: Path = tiny.save_pixart(tmp_path_factory.mktemp("models") / "tiny-second", layers=5, seed=1)
    return folder


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """One folder for both models: a policy that is made for `red`, and one for `blue`."""
    folder = tmp_path / "both"
    folder.mkdir()
    (folder / "red.yaml").write_text(made_for(FORBIDDEN, "red"))
    (folder / "blue.yaml").write_text(made_for(ELECTION, "blue"))
    return folder


@pytest.fixture
def both(serve: Callable[..., Any], model: Path, second: Path, policies: Path) -> Callable[..., Any]:
    """Starts a service of two models, `red` and `blue`."""

    def start(*, blue: Mapping[str, Any] | None = None, **options: Any) -> Any:
        table = {"red": {"source": str(model), "aliases": ["gpt-image-1"]}, "blue": {"source": str(second)}}
        table["blue"] |= blue or {}
        # generous, so that a busy machine tests the service and not its own speed
        patient = {"detector_seconds": 60, "deadline_seconds": 240}
        return serve(model="red", models=table, policy=str(policies), batching="solo", **patient, **options)

    return start


def post(client: Any, model: str | None, prompt: str = BENIGN, seed: int = 3, **more: Any) -> Any:
    return client.post(GENERATE, json={"prompt": prompt, "seed": seed, **({"model": model} if model else {}), **more})


def code(answer: Any) -> Any:
    return 200 if answer.status_code == 200 else answer.json()["error"]["code"]


def stock(host: Any, prompt: str, seed: int) -> np.ndarray:
    """What the model's own pipeline draws."""
    import torch

    generator = torch.Generator("cpu").manual_seed(seed)
    return np.asarray(host.pipe(prompt=[prompt], generator=generator, **host.defaults.arguments()).images[0])


def loaded(client: Any) -> list[str]:
    """The models in memory."""
    (worker,) = client.get("/v1/status").json()["workers"]
    return list(worker["loaded"])


def counted(client: Any, name: str, *labels: str) -> float:
    return float(client.runtime.recorder.series(name, *labels)._value.get())


def test_each_model_has_its_names_policies_and_pixels(
    both: Callable[..., Any], policies: Path, host: Any, second: Path
) -> None:
    from steering import Host

    client = both()
    listed = client.get("/v1/models").json()["data"]
    assert [(each["id"], each["root"]) for each in listed] == [
        ("red", "red"), ("gpt-image-1", "red"), ("blue", "blue"),
    ]  # fmt: skip
    assert client.get("/v1/models/blue").json() == listed[2]
    unknown = post(client, "green")
    assert (unknown.status_code, code(unknown)) == (404, "model_not_found")
    assert all(f"`{name}`" in unknown.json()["error"]["message"] for name in ("red", "gpt-image-1", "blue"))

    asked = [(name, word) for name in ("red", "blue", "gpt-image-1", None) for word in ("forbidden", "election")]
    found = [code(post(client, name, f"a {word} moon")) for name, word in asked]
    no = "moderation_blocked"
    assert found == [no, 200, 200, no, no, 200, no, 200], "a request that names no model is for the first"
    evaluated = [
        client.post("/v1/policies/evaluate", json={"prompt": "an election", "model": name}).json()["verdict"]
        for name in ("red", "blue")
    ]
    assert evaluated == ["allow", "block"]
    told = [
        client.post("/v1/moderations", json={"input": "an election", **model}).json()
        for model in ({}, {"model": "omni-moderation-latest"}, {"model": "gpt-image-1"}, {"model": "blue"})
    ]
    assert [answer["results"][0]["flagged"] for answer in told] == [False, False, False, True]
    assert [answer["ignored"] for answer in told] == [[], ["model"], [], []]
    assert post(client, "red", TOXIC).json()["steering"]["verdict"] == "steer"
    assert post(client, "blue", TOXIC).json()["steering"]["how"] == "untouched"

    other = Host.load(second)
    for name, own in (("red", host), ("blue", other)):
        assert np.array_equal(pixels(post(client, name)), stock(own, BENIGN, 3)), name
    assert not np.array_equal(stock(host, BENIGN, 3), stock(other, BENIGN, 3))

    page = client.get("/?model=blue").text
    assert 'name="model" value="blue"' in page
    assert client.get("/console/blocks?model=blue").text.count("<h1>") == 1
    assert client.get("/?model=green").status_code == 404
    drafts = {name: client.get(f"/console/draft?model={name}").text for name in ("red", "blue")}
    assert ["never" in drafts[name] for name in ("red", "blue")] == [True, False]

    def in_use() -> dict[str, str]:
        answer = client.get("/v1/policies").json()
        assert answer["converged"]
        return {name: own["policy"]["digest"] for name, own in answer["workers"][0]["models"].items()}

    before = in_use()
    assert before["red"] != before["blue"]
    (policies / "red.yaml").write_text(made_for(FORBIDDEN.replace("forbidden", "banned"), "red"))
    eventually(lambda: in_use()["red"] != before["red"], 60)
    assert in_use()["blue"] == before["blue"]
    assert [code(post(client, name, "a banned moon")) for name in ("red", "blue")] == [no, 200]


def test_sixteen_mixed_clients_get_the_stock_pixels_of_their_model(
    both: Callable[..., Any], host: Any, second: Path
) -> None:
    from steering import Host

    client, hosts = both(), {"red": host, "blue": Host.load(second)}
    kinds = [("red", BENIGN), ("blue", BENIGN)] * 3 + [("red", TOXIC), ("blue", "an election")]

    def ask(k: int) -> tuple[str, str, int, Any]:
        name, prompt = kinds[k % 8]
        return name, prompt, k, post(client, name, prompt, seed=k)

    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(ask, range(32)))
    for name, prompt, seed, answer in answers:
        if prompt is BENIGN:
            assert np.array_equal(pixels(answer), stock(hosts[name], prompt, seed)), f"{name}, seed {seed}"
        else:
            assert code(answer) == (200 if name == "red" else "moderation_blocked")
    assert {a.json()["steering"]["verdict"] for _, prompt, _, a in answers if prompt is TOXIC} == {"steer"}


def test_a_model_makes_room_for_another_and_comes_back_as_it_was(
    both: Callable[..., Any], second: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(second, moved)
    client = both(blue={"source": str(moved)}, model_memory=500_000)
    loads = counted(client, "model_loads_total", "red", "ok")
    red, blue = client.runtime.models
    assert loaded(client) == ["red"], "the first one stays"
    assert 0 < red.bytes < blue.bytes < red.bytes + blue.bytes
    first, gone = pixels(post(client, "red")), weakref.ref(red.host)

    assert code(post(client, "blue")) == 200
    assert loaded(client) == ["blue"]
    gc.collect()
    assert gone() is None, "what is put out of memory is gone"
    assert code(post(client, "red", "a forbidden moon")) == "moderation_blocked"
    assert loaded(client) == ["blue"], "a refused prompt loads nothing"
    assert np.array_equal(pixels(post(client, "red")), first)
    assert counted(client, "model_loads_total", "red", "ok") == loads + 1
    assert [counted(client, "model_loaded", name) for name in ("red", "blue")] == [1, 0]

    weights = next(moved.glob("transformer/*.safetensors"))
    weights.write_bytes((second / "transformer" / weights.name).read_bytes()[:-8] + b"\x01" * 8)
    failed = post(client, "blue")
    assert (failed.status_code, code(failed)) == (503, "model_unavailable")
    assert int(failed.headers["Retry-After"]) >= 1
    assert client.runtime.is_ready()
    assert np.array_equal(pixels(post(client, "red")), first)


def test_what_cannot_start_is_told_with_the_models_name(both: Callable[..., Any], second: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^`models\.blue`: its weights take \d+ bytes, and `model_memory` is \d+$"):
        both(model_memory=1000)
    broken = tmp_path / "broken"
    shutil.copytree(second, broken)
    next(broken.glob("vae/*.safetensors")).unlink()
    with pytest.raises(SettingsError, match=r"^`models\.blue`: `model`: [^\n]*$"):
        both(blue={"source": str(broken)})
    (tmp_path / "both" / "blue.yaml").write_text(made_for(ELECTION, "bleu"))
    with pytest.raises(SettingsError, match=r"(?s)^`models\.(red|blue)`: .*is made for `bleu`, and this is"):
        both()
