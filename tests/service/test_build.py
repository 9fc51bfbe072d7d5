"""`bentoml build` makes a Bento of the repository without the network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
def test_a_bento_is_built_offline_and_holds_every_room(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    environment = {
        **os.environ,
        "BENTOML_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), nowhere),
    }
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = (p.parent for p in (tmp_path / "bentos" / "palimpsest").glob("*/bento.yaml"))
    for room in ("policies", "detectors", "steering", "localization", "reference", "evaluation", "service"):
        assert (built / "src" / room / "__init__.py").is_file()
    assert (built / "src" / "policies" / "shipped" / "rendered-text.yaml").is_file()
    assert (built / "src" / "palimpsest_base/torchvision.py").is_file()
    assert not list(built.rglob("__pycache__"))
    wanted = (ROOT / "deploy" / "container" / "requirements.txt").read_text("utf-8")
    versions = (built / "env" / "python" / "requirements.txt").read_text("utf-8").splitlines()
    assert set(wanted.splitlines()) <= set(versions)
    assert not any("<" in line or ">" in line for line in versions), "a range"
