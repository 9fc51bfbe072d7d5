"""Loads the model that the settings name, and derives the request limits from it."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from palimpsest_base.plugins import BadPlugin, load_plugins
from service.loading.factory import call_factory, check_factory
from service.loading.placing import check_placing, check_tiles, facts_of, place
from service.loading.source import Source, source_of
from service.order import Limits
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from service.engine.adapters import Adapter
    from steering import Host
    from steering.families.description import Family

__all__ = ["check_model", "device_of", "limits_of", "load_host", "threads_of"]

log = logging.getLogger("bentoml.palimpsest.host")
_Parameters = Mapping[str, inspect.Parameter]


def check_model(settings: Settings) -> None:
    """Checks the model and what the settings ask of it, as far as this is possible without reading weights. Raises
    `SettingsError`.
    """
    source = source_of(settings)
    if source.kind == "factory":
        check_factory(source.where, settings.app_folder)
    # not before: they import torch, which takes seconds
    from steering import SteeringError
    from steering.families.checkpoint import check_checkpoint
    from steering.families.folder import check_folder, pipeline_class
    from steering.families.table import refuse_by_name

    try:
        if source.folder is not None:
            refuse_by_name(pipeline_class(source.folder))
            check_folder(source.folder, settings.variant)
        if source.kind == "file":
            check_checkpoint(Path(source.where))
    except SteeringError as error:
        raise SettingsError(f"`model`: {error}") from error
    check_placing(settings, device_of(settings))


def load_host(settings: Settings) -> Host:
    """The host that the settings name, on its device and after its self-test. Sites that fail the self-test are not
    steered. Raises `SettingsError` for a model that cannot be used.
    """
    import torch

    from steering import SteeringError

    torch.set_num_threads(threads_of(settings))
    source, device = source_of(settings), device_of(settings)
    check_placing(settings, device)
    try:
        families = tuple(load_plugins("palimpsest.families", settings.plugins).values())
    except BadPlugin as error:
        raise SettingsError(str(error)) from error
    try:
        host = _open(source, settings, device, families)
    except SteeringError as error:
        raise SettingsError(f"`model`: {error}") from error
    if host.family.result == "frames":
        raise SettingsError(
            f"`model`: `{type(host.pipe).__name__}` draws films, and the service answers with pictures; steer it from"
            " Python with `steering.Host`"
        )
    _check_call(host)
    if settings.vae_tiling:
        check_tiles(host, _sizes(host))
    _keep_prompts_out_of_logs()
    if settings.compile:
        _compile_now(host)
    log.info("model `%s`: %s", host.name, facts_of(host, settings))
    return host


def _check_call(host: Host) -> None:
    """Refuses a pipeline that cannot draw what a request asks for. Raises `SettingsError`."""
    name, call = type(host.pipe).__name__, inspect.signature(type(host.pipe).__call__).parameters
    image = call.get("image")
    # an image that may be left out: of Qwen-Image-Edit its call without one fails, FLUX.2 draws from words
    failed = host.tested is not None and not all(check.passed for check in host.tested.checks if check.name == "runs")
    needed = image is not None and (image.default is image.empty or failed)
    if image is not None and (needed or "strength" in call or "mask_image" in call):
        raise SettingsError(f"`model`: `{name}` starts from a picture (`image`), and requests have words alone")
    lacking = [n for n in ("prompt", "height", "width", "num_inference_steps") if n not in call]
    if lacking:
        said = ", ".join(f"`{n}`" for n in lacking)
        raise SettingsError(f"`model`: the call of `{name}` must take {said} by name, and does not")


def _open(source: Source, settings: Settings, device: str, families: Sequence[Family]) -> Host:
    """The host of a source. Raises: SettingsError, SteeringError."""
    import torch

    from steering import Host
    from steering.families.loading import quiet

    placed = partial(place, settings=settings, device=device)
    if source.kind == "factory":
        with quiet():
            pipe = call_factory(source.where, settings.app_folder)
        placed(pipe)
        pipe.set_progress_bar_config(disable=True)
        return Host(pipe, name=source.where, families=families)
    return Host.load(
        source.where,
        device=device,
        dtype=None if settings.dtype == "auto" else getattr(torch, settings.dtype),
        revision=source.revision,
        variant=settings.variant,
        base=source.base,
        place=placed,
        # of quantized weights the file's digest says nothing
        digests=None if settings.quantization else _kept(settings),
        families=families,
    )


def _compile_now(host: Host) -> None:
    """Draws one picture, so that the compiler does not run while the first request waits. Raises `SettingsError`."""
    rows, columns = _size(host)
    try:
        host.generate(
            ["a"], plans=[None], seeds=[0], height=rows, width=columns, num_inference_steps=max(2, host.fewest_steps)
        )
    except Exception as error:  # of the compiler
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SettingsError(f"`compile` does not work for this model: {said}") from error


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
        sizes=_sizes(host),
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


def _sizes(host: Host) -> tuple[str, ...]:
    """The sizes that requests may ask for. Raises: SettingsError."""
    rows, columns = _size(host)
    return tuple(host.defaults.sizes) or (f"{columns}x{rows}",)


def _size(host: Host) -> tuple[int, int]:
    """The default height and width in pixels. Raises: SettingsError."""
    size = host.native_size
    if size is None:
        raise SettingsError(
            f"`{type(host.pipe).__name__}` does not say how large its pictures are; write `height` and `width` into"
            " `defaults.json` beside `model_index.json`"
        )
    return size
