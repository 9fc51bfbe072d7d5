"""No prompt reaches a log, not even through a library's warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.engine.host import load_host
from service.settings import load_settings
from tests.tiny import save_pixart


def test_a_prompt_that_is_too_long_is_not_quoted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save_pixart(tmp_path / "model")
    host = load_host(load_settings({"model": str(folder), "state": str(tmp_path / "state"), "threads": 1}).settings)
    host.generate(["a red star " + "secretword " * 60], plans=[None], seeds=[1], num_inference_steps=2)
    host.close()
    seen = capfd.readouterr()
    assert "secretword" not in seen.err + seen.out
