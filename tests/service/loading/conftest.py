"""One tiny host of each of three families, saved once: a U-Net, joint attention with one sequence, cross-attention."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.steering import zoo

FAMILIES = ("sd1", "flux-dev", "pixart-alpha")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Diffusers folders by family, with what a call needs beside them. Pictures of 32 pixels are larger than a tile."""
    made = {}
    for name in (*FAMILIES, "sd3"):
        folder = made[name] = tmp_path_factory.mktemp("families") / name
        zoo.build(name).save_pretrained(folder)
        call = dict(zoo.CALL[name]) | {"height": 32, "width": 32}
        known = {k: call.pop(k) for k in ("height", "width", "num_inference_steps", "guidance_scale")}
        (folder / "defaults.json").write_text(json.dumps({**known, "sizes": ["16x16", "32x32"], "call": call}))
    return made
