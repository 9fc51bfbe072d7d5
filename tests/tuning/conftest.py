"""A tiny host to train on, and a lesson of random pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import save_pixart


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from steering import Host

    return Host.load(save_pixart(tmp_path_factory.mktemp("tuning") / "model"))


@pytest.fixture(scope="session")
def student(host: Any) -> Any:
    from tuning import Student

    return Student(host)


def picture(seed: int, size: int = 64) -> Image.Image:
    """A picture of random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8))


@pytest.fixture(scope="session")
def lesson(student: Any) -> Any:
    from tuning import Captioned, letter_lesson

    shown = [Captioned(picture(n), f"a picture of {n}") for n in range(6)]
    return letter_lesson(student, shown, batch=3, seed=1, size=(64, 64))


@pytest.fixture(scope="session")
def pack(host: Any) -> Any:
    """A pack whose second and third sites carry something; the last site matters least."""
    from steering import Choice, Pack, Window

    names = tuple(s.name for s in host.sites)
    return Pack(
        concept="character/pip", host=host.fingerprint, sites=names[1:3], wider=names[:3], site_names=names,
        scores=torch.tensor([[0.2], [0.9], [0.8], [0.1]]), bins=(Window(0, 1),), evidence={"kind": "measured"},
        choice=Choice(k=2, share=0.9, low=0.8, high=1.0), phrases=("pip",), neutral="a character",
    )  # fmt: skip
