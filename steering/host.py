"""Owns `Host`: loaded pipelines that are steered as one (surface first; the body follows in the next commits)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .plans import Plan
from .sites import Site

__all__ = ["Check", "Defaults", "Fingerprint", "Host", "Output", "PictureReport", "SelfTest", "Shape"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a pack is bound to: `weights` is a sha256 of the denoiser's weights rounded to bfloat16, or None for `any`."""

    pipeline: str
    denoiser: str
    config: str
    weights: str | None
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """The execution shape of one picture: identity is promised within one shape (DESIGN 4, untouched)."""

    batch: int
    row: int
    text_tokens: int
    dtype: str
    device: str
    kernels: str


@dataclass(frozen=True, slots=True)
class PictureReport:
    """What was done to one picture. `plan` is the plan's digest or None; `fired` counts denoiser evaluations replaced at each site."""

    seed: int
    plan: str | None
    fired: Mapping[str, int]
    dose: Mapping[str, float] | None
    source: str | None
    shape: Shape
    extra_rows: int


@dataclass(frozen=True, slots=True)
class Output:
    """Pictures in the order of prompts (a prompt's `num_images_per_prompt` pictures side by side) and a report for each."""

    images: Any
    report: tuple[PictureReport, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One law of the self-test on the real weights."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The self-test's findings; `passed` when all checks passed."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True when every check passed."""
        return all(c.passed for c in self.checks)


@dataclass(frozen=True, slots=True)
class Defaults:
    """Call arguments that belong to a model: `defaults.json` beside `model_index.json`."""

    height: int | None = None
    width: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    call: Mapping[str, Any] | None = None
    sizes: tuple[str, ...] = ()


class Host:
    """One or more loaded diffusers pipelines that we steer as one, with their sites discovered."""

    name: str
    pipe: Any
    sites: tuple[Site, ...]
    defaults: Defaults

    def __init__(
        self,
        *pipes: Any,
        defaults: Defaults | Mapping[str, Any] | None = None,
        name: str | None = None,
        self_test: bool = True,
    ) -> None:
        raise NotImplementedError

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        offline: bool = True,
        revision: str | None = None,
        self_test: bool = True,
    ) -> Host:
        """A host from a diffusers folder or a hub id with a pinned revision; only safetensors."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> Fingerprint:
        """What packs for this host are bound to, as the weights are now."""
        raise NotImplementedError

    def self_test(self) -> SelfTest:
        """The laws of steering, tried on this host's weights; also stored in `host.tested`."""
        raise NotImplementedError

    def generate(
        self,
        prompts: Sequence[str],
        *,
        plans: Sequence[Plan | None],
        seeds: Sequence[int],
        num_images_per_prompt: int = 1,
        negative_prompts: Sequence[str | None] | None = None,
        timeout: float | None = None,
        on_step: Callable[[int, int], None] | None = None,
        **pipeline_kwargs: Any,
    ) -> Output:
        """Pictures of `prompts`, each under its plan, from one call of the unmodified pipeline."""
        raise NotImplementedError

    @contextmanager
    def steer(self, plans: Sequence[Plan | None], *, timeout: float | None = None) -> Iterator[None]:
        """Steers the calls of the pipeline made inside the block; for callers that drive the pipeline."""
        raise NotImplementedError
        yield

    def close(self) -> None:
        """Gives the modules back, so that another host may take them."""
        raise NotImplementedError
