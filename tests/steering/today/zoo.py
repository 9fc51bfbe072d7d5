"""All tiny pipelines of today's families by name: how each is built, and the arguments of a small call of it."""

from __future__ import annotations

from typing import Any

import torch

from palimpsest_base import torchvision

torchvision.install()  # before the first import of diffusers

from tests.steering.today import (  # noqa: E402
    cross,
    several_encoders,
    shared_projections,
    single_sequence,
    two_streams,
    video,
)

__all__ = ["CALL", "NAMES", "build"]

_FILES = (cross, several_encoders, shared_projections, single_sequence, two_streams, video)
_BUILD = {name: make for file in _FILES for name, make in file.BUILD.items()}
CALL: dict[str, dict[str, Any]] = {name: call for file in _FILES for name, call in file.CALL.items()}
NAMES = tuple(_BUILD)


def build(name: str, *, seed: int = 0) -> Any:
    """A pipeline of the family, on the CPU in float32; the same for the same seed. Leaves torch's generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe = _BUILD[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe
