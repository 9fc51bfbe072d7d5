"""Owns one pass through the pipelines of a host, one after the other: who is called with what, and what is handed on.

A host of one pipeline is the common case. In a host of several (DeepFloyd IF's stages, SDXL and its refiner) each later
pipeline gets the pictures of the one before it as `image`, and the same prompts and seeds.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from steering.attach import after
from steering.batch.extra_rows import Batch
from steering.batch.recorded_text import CANONICAL_SEED, Recorder, Stream
from steering.errors import BadPlan
from steering.plans import Plan, Swap
from steering.run.call import Extras, Facts
from steering.run.prepared import Gear
from steering.run.session import Session
from steering.run.weight_versions import stamp
from steering.values import Donor

__all__ = ["Pass", "run_stages", "uncompiled"]

# what belongs to the first stage only: later ones take their size from the picture that they are given
_FIRST = ("height", "width", "latents", "image")
# arguments with an entry a row: rows that are added would have none
_PER_ROW = ("latents", "image", "ip_adapter_image", "ip_adapter_image_embeds")


@dataclass(frozen=True, slots=True)
class Pass:
    """One call of `Host.generate`, checked: `asked` prompts of the caller, `count` pictures of each; `own` arguments
    for single stages."""

    batch: Batch
    asked: int
    count: int
    arguments: Mapping[str, Any]
    own: Sequence[Mapping[str, Any]]
    on_step: Callable[[int, int], None] | None


def run_stages(gears: Sequence[Gear], job: Pass) -> tuple[Any, list[Facts]]:
    """The last pipeline's pictures, those of added rows included, and the facts of each stage."""
    facts: list[Facts] = []
    images: Any = None
    for n, gear in enumerate(gears):
        arguments = _arguments(gears, n, job, images)
        count = job.count if n == 0 else 1
        plans = [p for p in job.batch.plans for _ in range(1 if n == 0 else job.count)]
        extras = Extras(
            job.batch.pictures(job.count), job.batch.donors if n == 0 else (), _streams(gear, job, arguments)
        )
        with Session(gear, plans, job.on_step, extras).attached() as session:
            images = gear.pipe(num_images_per_prompt=count, generator=_generators(job), **arguments).images
        facts.append(session.finished[-1])
    return images, facts


def _generators(job: Pass) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(s + k) for s in job.batch.seeds for k in range(job.count)]


def _arguments(gears: Sequence[Gear], n: int, job: Pass, images: Any) -> dict[str, Any]:
    """What a stage's pipeline is called with, beside seeds and number of pictures."""
    gear, last = gears[n], len(gears) - 1
    taken = inspect.signature(gear.pipe.__call__).parameters
    arguments = {k: v for k, v in job.arguments.items() if k in taken and (n == 0 or k not in _FIRST)}
    if n < last:
        arguments["output_type"] = gear.family.handed_on
    arguments |= job.own[n]
    repeat = 1 if n == 0 else job.count
    prompts = [p for p in job.batch.prompts for _ in range(repeat)]
    negatives = [q for q in job.batch.negatives for _ in range(repeat)]
    if n > 0:
        arguments["image"] = images
    if n == 0 and len(job.batch.prompts) > job.asked:
        _refuse_per_row(arguments)
    return arguments | _texts(gear, prompts, negatives, arguments)


def _texts(
    gear: Gear, prompts: Sequence[str], negatives: Sequence[str | None], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Prompts as the pipeline takes them: as strings, or encoded by the stage that has the text encoder."""
    texts: dict[str, Any] = {"prompt": list(prompts)}
    if any(q is not None for q in negatives):
        texts["negative_prompt"] = _negatives(gear, negatives, arguments)
    if gear.encoder is gear.pipe:
        return texts
    how = inspect.signature(gear.encoder.encode_prompt).parameters
    with torch.no_grad():
        encoded = gear.encoder.encode_prompt(**texts, **{k: v for k, v in arguments.items() if k in how})
    named = dict(zip(gear.family.encode.returns, encoded, strict=False))
    return {"prompt_embeds": named["text"], "negative_prompt_embeds": named["negative_text"]}


def _negatives(gear: Gear, negatives: Sequence[str | None], arguments: Mapping[str, Any]) -> list[str]:
    if "negative_prompt" not in inspect.signature(gear.pipe.__call__).parameters:
        raise BadPlan(f"`{type(gear.pipe).__name__}` takes no negative prompt")
    if gear.family.guidance == "sequential" and not float(arguments.get("true_cfg_scale", 1.0)) > 1.0:
        raise BadPlan(
            f"negative_prompts need a `true_cfg_scale` above 1 on `{type(gear.pipe).__name__}`, or are ignored"
        )
    if None in negatives and getattr(gear.pipe.config, "force_zeros_for_empty_prompt", False):
        raise BadPlan(
            "negative_prompts must be strings for all or none: without one this pipeline shows zeros, which is not the"
            " empty prompt, and one call cannot do both"
        )
    return [q or "" for q in negatives]


def _refuse_per_row(arguments: Mapping[str, Any]) -> None:
    lists = [k for k, v in arguments.items() if k.startswith(("prompt_", "negative_prompt_")) and isinstance(v, list)]
    for name in (*lists, *(k for k in _PER_ROW if arguments.get(k) is not None)):
        raise BadPlan(f"`{name}` has an entry a row, and this plan adds rows; leave it out, or use source `canonical`")


# recorded streams


def _streams(gear: Gear, job: Pass, arguments: Mapping[str, Any]) -> dict[str | Donor, Stream]:
    """The streams of the plans' canonical donors, recorded now or kept from before; which of them is no matter."""
    sites: dict[str | Donor, set[str]] = {}
    for plan in job.batch.plans:
        for act in plan.interventions if plan else ():
            if isinstance(act, Swap) and act.source == "canonical" and act.strength:
                sites.setdefault(act.donor, set()).update(set(act.sites) & set(gear.names))
    if not sites:
        return {}
    ours = {"prompt", "negative_prompt", "output_type", *_PER_ROW}
    plain = {k: v for k, v in arguments.items() if k not in ours and not k.startswith(("prompt_", "negative_prompt_"))}
    weights = tuple(stamp(getattr(gear.encoder, e, None)) for e in gear.family.encode.encoders)
    how = (repr(sorted(plain.items())), stamp(gear.denoiser), weights)
    return {
        donor: gear.streams.get(
            (donor, frozenset(names), how),
            lambda d=donor, s=names: _record(gear, d, s, plain),  # type: ignore[misc]
        )
        for donor, names in sites.items()
        if names
    }


def _record(gear: Gear, donor: str | Donor, names: set[str], arguments: Mapping[str, Any]) -> Stream:
    recorder = Recorder()
    given = ((0, donor),) if isinstance(donor, Donor) else ()
    no_plan: list[Plan | None] = [None]
    session = Session(gear, no_plan, None, Extras(donors=given, recorder=recorder))
    with uncompiled(gear), session.attached(), _recording(gear, names, recorder):
        gear.pipe(
            prompt=[donor if isinstance(donor, str) else ""],
            generator=[torch.Generator("cpu").manual_seed(CANONICAL_SEED)],
            output_type="latent",
            **arguments,
        )
    return recorder.stream()


@contextmanager
def _recording(gear: Gear, names: set[str], recorder: Recorder) -> Iterator[None]:
    with ExitStack() as stack:
        for index, placed in enumerate(gear.placed):
            if placed.name not in names:
                continue
            for module, what in zip(placed.projections(), ("keys", "values"), strict=True):
                leading = getattr(placed.rule, "leading", False)

                def keep(
                    m: Any, a: Any, output: torch.Tensor, name: str = f"{what}.{index}", leading: bool = leading
                ) -> None:
                    recorder.add(name, output[:, : recorder.tokens] if leading else output)

                stack.enter_context(after(module, keep))
        yield


@contextmanager
def uncompiled(gear: Gear) -> Iterator[None]:
    """Runs the denoiser eagerly inside: a graph takes no notice of hooks that come for one call."""
    component = gear.component
    compiled = [(m, m._compiled_call_impl) for m in gear.denoiser.modules() if m._compiled_call_impl is not None]
    for module, _ in compiled:
        module._compiled_call_impl = None
    if component is not gear.denoiser:
        setattr(gear.pipe, gear.family.denoiser, gear.denoiser)
    try:
        yield
    finally:
        for module, call in compiled:
            module._compiled_call_impl = call
        if component is not gear.denoiser:
            setattr(gear.pipe, gear.family.denoiser, component)
