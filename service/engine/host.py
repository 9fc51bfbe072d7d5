"""Loads the model that the settings name, and derives the request limits from it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest_base.plugins import BadPlugin, load_plugins
from service.model_names import resolve_model
from service.order import Limits
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from service.engine.adapters import Adapter
    from steering import Host

__all__ = ["device_of", "limits_of", "load_host", "threads_of"]

_Parameters = Mapping[str, inspect.Parameter]


def load_host(settings: Settings) -> Host:
    """The host that the settings name, on its device and after its self-test. Sites that fail the self-test are not
    steered. Raises `SettingsError` for a model that cannot be used.
    """
    import torch

    from steering import Host, SteeringError

    torch.set_num_threads(threads_of(settings))
    where, revision = resolve_model(settings.model)
    try:
        families = tuple(load_plugins("palimpsest.families", settings.plugins).values())
    except BadPlugin as error:
        raise SettingsError(str(error)) from error
    try:
        host = Host.load(
            where,
            device=device_of(settings),
            dtype=getattr(torch, settings.dtype),
            revision=revision,
            variant=settings.variant,
            digests=_kept(settings),
            families=families,
        )
    except SteeringError as error:
        raise SettingsError(f"`model`: {error}") from error
    if host.family.result == "frames":
        raise SettingsError(
            f"`model`: `{type(host.pipe).__name__}` draws films, and the service answers with pictures; steer it from"
            " Python with `steering.Host`"
        )
    _keep_prompts_out_of_logs()
    return host


def _keep_prompts_out_of_logs() -> None:
    """Silences diffusers' warnings, because the warning about a long prompt quotes the part that was cut off."""
    from diffusers.utils import logging

    logging.set_verbosity_error()


def threads_of(settings: Settings) -> int:
    """The number of CPU threads of a worker. On a CPU, the last bits of a picture depend on it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return settings.threads or max(1, cores // settings.workers)


def _kept(settings: Settings) -> Path:
    """The file that caches weight digests, so that a large model is not hashed at every start."""
    settings.state_folder.mkdir(parents=True, exist_ok=True)
    return settings.state_folder / "digests.json"


def device_of(settings: Settings) -> str:
    """The torch device of this worker. Workers are assigned to GPUs round-robin."""
    import bentoml
    import torch

    if settings.device not in ("auto", "cuda"):
        return settings.device
    if not torch.cuda.is_available():
        if settings.device == "cuda":
            raise SettingsError("`device` is `cuda`, but torch finds no GPU; use `auto` or `cpu`")
        return "cpu"
    # the index grows when workers are replaced, and is None outside `bentoml serve`
    worker = bentoml.server_context.worker_index or 1
    return f"cuda:{(worker - 1) % torch.cuda.device_count()}"


def limits_of(host: Host, settings: Settings, adapters: Mapping[str, Adapter] | None = None) -> Limits:
    """The request limits of `host`, from its `defaults.json` or else from its pipeline."""
    defaults = host.defaults
    call = inspect.signature(type(host.pipe).__call__).parameters
    rows, columns = _size(host)
    size = f"{columns}x{rows}"
    negative = host.negative_prompts
    return Limits(
        models=tuple(dict.fromkeys((host.name, *settings.model_aliases))),
        sizes=tuple(defaults.sizes) or (size,),
        default_size=size,
        default_steps=defaults.num_inference_steps or int(call["num_inference_steps"].default),
        default_guidance=_guidance(host, call),
        urls=settings.picture_urls != "off",
        nearest_size=settings.sizes == "nearest",
        max_n=settings.max_n,
        max_steps=settings.max_steps,
        max_prompt=settings.max_prompt,
        max_pixels=settings.max_pixels,
        adapters={name: adapter.lora for name, adapter in (adapters or {}).items()},
        min_steps=host.fewest_steps,
        negative=negative.possible,
        negative_above=negative.above,
    )


def _guidance(host: Host, call: _Parameters) -> float | None:
    """The default guidance scale, or None for a pipeline without one."""
    if "guidance_scale" not in call:
        return None
    given = host.defaults.guidance_scale
    return float(call["guidance_scale"].default or 0.0) if given is None else given


def _size(host: Host) -> tuple[int, int]:
    """The default height and width in pixels. Raises: SettingsError."""
    size = host.native_size
    if size is None:
        raise SettingsError(
            f"`{type(host.pipe).__name__}` does not say how large its pictures are; write `height` and `width` into"
            " `defaults.json` beside `model_index.json`"
        )
    return size
