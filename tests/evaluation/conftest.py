"""Models, a service and judges that tests of the tables share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evaluation import Judges
from palimpsest.cli.shared.in_process import LocalAnswerer, local_service
from reference.folders import MODELS
from service.settings import load_settings

STEPS = 8  # of 24: enough for words and concepts, in a third of the time


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a shipped model, whose defaults ask for fewer denoising steps."""
    root = tmp_path_factory.mktemp("models")

    def made(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            folder.mkdir()
            for file in (MODELS / name).iterdir():
                (folder / file.name).symlink_to(file)
            (folder / "defaults.json").unlink()
            defaults = json.loads((MODELS / name / "defaults.json").read_text("utf-8"))
            (folder / "defaults.json").write_text(json.dumps(defaults | {"num_inference_steps": STEPS}))
        return folder

    return made


@pytest.fixture(scope="session")
def service(quick: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAnswerer]:
    """The embedded model under the shipped policies."""
    options = {"state": str(tmp_path_factory.mktemp("state")), "threads": 1, "model": str(quick("signpost-pixart"))}
    with local_service(load_settings(options).settings) as ready:
        yield ready


@pytest.fixture(scope="session")
def unet_service(quick: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAnswerer]:
    """The U-Net, which has rows without the prompt, under the shipped policies."""
    options = {"state": str(tmp_path_factory.mktemp("state")), "threads": 1, "model": str(quick("signpost-sdxl"))}
    with local_service(load_settings(options).settings) as ready:
        yield ready


@pytest.fixture(scope="session")
def judges() -> Judges:
    return Judges.load()
