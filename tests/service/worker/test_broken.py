"""A model with one damaged number in its decoder is served with errors, never with black pictures.

Broken once: without `finite_pictures` both prompts are answered 200.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def client(serve: Callable[..., Any], model: Path, tmp_path: Path) -> Any:
    import torch
    from safetensors.torch import load_file, save_file

    broken = Path(shutil.copytree(model, tmp_path / "model"))
    (weights,) = (broken / "vae").glob("*.safetensors")
    state = load_file(weights)
    state["decoder.conv_out.bias"][0] = torch.nan
    save_file(state, weights, metadata={"format": "pt"})
    return serve(model=str(broken))


def counts(client: Any) -> Counter[str]:
    """Every series of the service; those of one process add up over tests."""
    text = client.get("/metrics").text
    return Counter({name: float(value) for name, value in re.findall(r"^palimpsest_(\S+) (\S+)$", text, re.M)})


@pytest.mark.parametrize("prompt", ['a red star with a sign that says "idiot"', "a red star on a blue background"])
def test_a_decoder_that_gives_nan_is_an_error_with_a_metric_and_never_a_verdict(client: Any, prompt: str) -> None:
    before = counts(client)
    answer = client.post("/v1/images/generations", json={"prompt": prompt, "seed": 7})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "picture_broken"
    assert "b64_json" not in answer.text
    now = counts(client) - before
    assert now['broken_pictures_total{cause="decoded"}'] > 0
    assert not [name for name in now if name.startswith("images_total")]
    (told,) = (name for name in now if name.startswith("requests_total{") and 'endpoint="generations"' in name)
    assert 'outcome="error"' in told
