"""A real server on the embedded model with one damaged number in its decoder: it answers with errors, never with black
pictures. (Broken once: without `finite_pictures` both prompts are answered 200.)"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from reference.folders import MODELS
from tests.service.serving import ROOT, command, free_port, wait


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("broken")
    model = shutil.copytree(MODELS / "signpost-pixart", folder / "model")
    (weights,) = (model / "vae").glob("*.safetensors")
    state = load_file(weights)
    state["decoder.conv_out.bias"][0] = torch.nan
    save_file(state, weights)
    port, log = free_port(), folder / "log"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PALIMPSEST_STATE": str(folder / "state"),
        "PALIMPSEST_THREADS": "1",
        "PALIMPSEST_DETECTOR_SECONDS": "60",
        "PALIMPSEST_DEADLINE_SECONDS": "240",
    }
    with log.open("wb") as out:
        arguments = command("serve", "--model", str(model), "--port", str(port))
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=out, stderr=out)
    address = f"http://127.0.0.1:{port}"
    wait(address, process, log)
    yield address
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    finally:
        process.kill()


def counted(url: str, name: str, *labels: str) -> float:
    """The sum of the series called `name` that have these labels."""
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    found = [ln for ln in lines if re.match(rf"palimpsest_{name}(\{{|\s)", ln) and all(want in ln for want in labels)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@pytest.mark.parametrize("prompt", ['a red star with a sign that says "IDIOT"', "a red star on a blue background"])
def test_a_decoder_that_gives_nan_is_an_error_with_a_metric_and_never_a_verdict(url: str, prompt: str) -> None:
    before = counted(url, "broken_pictures_total", 'cause="decoded"')
    answer = httpx.post(f"{url}/v1/images/generations", json={"prompt": prompt, "seed": 7}, timeout=300)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "picture_broken"
    assert "b64_json" not in answer.text
    assert counted(url, "broken_pictures_total", 'cause="decoded"') > before
    assert counted(url, "images_total") == 0
    for outcome in ("ok", "labelled", "steered"):
        assert counted(url, "requests_total", 'endpoint="generations"', f'outcome="{outcome}"') == 0
    assert counted(url, "requests_total", 'endpoint="generations"', 'outcome="error"') > 0
