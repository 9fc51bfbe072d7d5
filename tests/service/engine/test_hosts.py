"""`palimpsest serve --model FOLDER` for every kind of host: real pipelines at tiny size, saved as anybody saves them.

No pack was made for any of them, so the rule that steers is shown as unfit, and its prompt is replaced as a whole.

| the law that goes red | when this is broken |
|---|---|
| what a request leaves open comes from the pipeline | `native_size` multiplies pixels by the VAE's scale |
| a negative prompt that would be ignored is refused | `negative_prompts` says yes |
| the picture is the stock one | `_generate` forgets `guidance_scale` |
| with and without a negative prompt is not one batch | `Form.negative` is dropped |
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import BadRequest
from service.http.requests import GenerationRequest
from service.metrics.recorder import Recorder
from service.worker.runtime import Runtime
from tests.steering import zoo

KINDS = ("sd1", "sdxl", "if1", "sd3", "flux-dev", "sana")
DEAF = ("flux-dev",)  # no negative prompt is heard
BENIGN, TOXIC = "a red star", 'a sign that says "idiot"'


def save(name: str, folder: Path) -> Path:
    """The pipeline as a diffusers folder, with what a call of it needs beside it."""
    zoo.build(name).save_pretrained(folder)
    call = dict(zoo.CALL[name])
    known = {k: call.pop(k) for k in ("height", "width", "num_inference_steps", "guidance_scale") if k in call}
    (folder / "defaults.json").write_text(json.dumps({**known, "call": call}))
    return folder


@pytest.fixture
def start(settings: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Runtime]]:
    """A ready runtime of a folder; keywords are settings."""
    running: list[Runtime] = []

    def go(model: Path, **options: Any) -> Runtime:
        options = {"detector_seconds": 120.0} | options  # a busy machine is no reason to blur
        runtime = Runtime(settings(model=str(model), packs=tmp_path, audit="off", **options), Recorder.apart())
        runtime.start()
        running.append(runtime)
        runtime.wait()
        return runtime

    yield go
    for runtime in running:
        runtime.stop()


def ask(runtime: Runtime, *prompts: str, **more: Any) -> list[dict[str, Any]]:
    """The answers to prompts that are asked at once."""

    async def all_() -> list[dict[str, Any]]:
        limits = runtime.ready().limits
        asked = [GenerationRequest(prompt=p, seed=3, **more).within(limits) for p in prompts]
        return list(await asyncio.gather(*(runtime.generate(a, (), uuid.uuid4().hex) for a in asked)))

    return asyncio.run(all_())


def pixels(answer: dict[str, Any]) -> np.ndarray:
    import base64
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"]))))


def apart(a: Any, b: Any) -> int:
    """The largest difference of two pictures, of 255."""
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_served_with_its_own_defaults_and_its_rules_without_packs_are_shown(
    kind: str, start: Callable[..., Runtime], tmp_path: Path
) -> None:
    runtime = start(save(kind, tmp_path / kind))
    host, limits = runtime.ready().host, runtime.ready().limits
    assert host.tested is not None
    assert host.tested.passed
    call = zoo.CALL[kind]
    assert limits.default_size == f"{call['width']}x{call['height']}"
    assert (limits.default_steps, limits.default_guidance) == (call["num_inference_steps"], call["guidance_scale"])
    (row,) = [r for r in runtime.policies()["workers"][0]["rules"] if r["rule"] == "toxic-lettering"]
    assert (row["pack"], row["unfit"]) == (None, "swap-prompt")

    (plain,) = ask(runtime, BENIGN)
    assert plain["steering"]["verdict"] == "allow"
    stock = host.generate([BENIGN], plans=[None], seeds=[3]).images[0]
    assert np.array_equal(pixels(plain), np.asarray(stock))
    (steered,) = ask(runtime, TOXIC)
    assert steered["steering"]["verdict"] == "steer"
    donors = [host.generate([TOXIC.replace("idiot", w)], plans=[None], seeds=[3]).images[0] for w in ("bread", "music")]
    own = host.generate([TOXIC], plans=[None], seeds=[3]).images[0]
    near, far = min(apart(pixels(steered), d) for d in donors), apart(pixels(steered), own)
    assert near <= 1 < far, f"off by {near} of 255 from the donor's, by {far} from its own"  # a busy machine's last bit
    if kind in DEAF:
        with pytest.raises(BadRequest, match="negative_prompt"):
            ask(runtime, BENIGN, negative_prompt="rust")
        return
    (without,) = ask(runtime, BENIGN, negative_prompt="a blue ring")
    assert not np.array_equal(pixels(without), pixels(plain)), "a negative prompt that is taken is heard"
    with pytest.raises(BadRequest, match="ignored unless"):
        ask(runtime, BENIGN, negative_prompt="rust", guidance_scale=1)


def test_requests_with_and_without_a_negative_prompt_never_share_a_batch_of_sdxl(
    start: Callable[..., Runtime], tmp_path: Path
) -> None:
    runtime = start(save("sdxl", tmp_path / "sdxl"))

    async def mixed() -> list[dict[str, Any]]:
        limits = runtime.ready().limits
        asked = [
            GenerationRequest(prompt=f"{BENIGN} {k}", seed=k, negative_prompt="rust" if k % 2 else None).within(limits)
            for k in range(6)
        ]
        return list(await asyncio.gather(*(runtime.generate(a, (), uuid.uuid4().hex) for a in asked)))

    answers = asyncio.run(mixed())
    host = runtime.ready().host
    for k, answer in enumerate(answers):
        shape = answer["steering"]["shape"]
        assert shape["batch"] <= 3
        if shape["batch"] == 1:
            negatives = ["rust"] if k % 2 else None
            stock = host.generate([f"{BENIGN} {k}"], plans=[None], seeds=[k], negative_prompts=negatives).images[0]
            assert np.array_equal(pixels(answer), np.asarray(stock))


@pytest.mark.parametrize("kind", ["sd3", "if1"])
def test_without_defaults_of_its_own_a_model_is_asked_what_its_pipeline_says(
    kind: str, start: Callable[..., Runtime], tmp_path: Path
) -> None:
    folder = save(kind, tmp_path / kind)
    (folder / "defaults.json").unlink()
    limits = start(folder).ready().limits
    pipe = zoo.build(kind)
    scale = pipe.vae_scale_factor if kind == "sd3" else 1
    denoiser = pipe.transformer if kind == "sd3" else pipe.unet
    assert limits.default_size == "x".join([str(denoiser.config.sample_size * scale)] * 2)
    assert limits.default_steps > 1
