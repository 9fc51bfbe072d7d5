"""Runs the pipelines of a host one after the other: what each is called with, and what it hands on.

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

from steering.attach import after, before
from steering.batch.extra_rows import ExtendedBatch
from steering.batch.recorded_text import CANONICAL_SEED, TextRecorder, TextStream
from steering.editing.trajectory import PathKeeper
from steering.errors import BadPlan
from steering.families.description import SiteRule
from steering.families.discovery import Placed
from steering.families.spans import Span
from steering.plans import Plan, Swap
from steering.run.call import CallFacts, SessionExtras
from steering.run.finite import check_finite, finite_pictures
from steering.run.prepared import PreparedPipeline
from steering.run.session import Session
from steering.run.weight_versions import weight_version
from steering.sentinel import EncodedText, Sentinel
from steering.values import Donor

__all__ = ["GenerateCall", "run_stages", "uncompiled"]

# arguments of the first stage only: later ones take their size from the picture that they are given
_FIRST = ("height", "width", "latents", "image")
# arguments with an entry a row: rows that are added would have none
_PER_ROW = ("latents", "image", "ip_adapter_image", "ip_adapter_image_embeds")


@dataclass(frozen=True, slots=True)
class GenerateCall:
    """One call of `Host.generate`, checked: `asked` prompts of the caller, `count` pictures of each; `own` arguments
    for single stages. The first pipeline is watched by `sentinels`, its texts go to `on_encoded`, and its pictures'
    ways are kept by `keeper`."""

    batch: ExtendedBatch
    asked: int
    count: int
    arguments: Mapping[str, Any]
    own: Sequence[Mapping[str, Any]]
    on_step: Callable[[int, int], None] | None
    sentinels: tuple[Sentinel, ...] = ()
    on_encoded: Callable[[tuple[EncodedText, ...]], None] | None = None
    keeper: PathKeeper | None = None


def run_stages(pipelines: Sequence[PreparedPipeline], job: GenerateCall) -> tuple[Any, list[CallFacts]]:
    """The last pipeline's pictures, those of added rows included, and the facts of each stage. Raises: BrokenPicture,
    and what `Session` raises."""
    facts: list[CallFacts] = []
    images: Any = None
    for n, prepared in enumerate(pipelines):
        arguments = _arguments(pipelines, n, job, images)
        count = job.count if n == 0 and prepared.family.pictures else 1
        plans = [p for p in job.batch.plans for _ in range(job.count // count)]
        extras = SessionExtras(
            job.batch.pictures(job.count),
            job.batch.donors if n == 0 else (),
            _streams(prepared, job, arguments),
            sentinels=job.sentinels if n == 0 else (),
            on_encoded=job.on_encoded if n == 0 else None,
            keeper=job.keeper if n == 0 else None,
        )
        with Session(prepared, plans, job.on_step, extras).attached() as session, finite_pictures(prepared.pipe):
            if prepared.family.pictures:
                arguments[prepared.family.pictures] = count
            given = prepared.pipe(generator=_generators(job), **arguments)
            images = getattr(given, prepared.family.result)
        check_finite(images, "latents" if arguments.get("output_type") == "latent" else "decoded")
        facts.append(session.finished[-1])
    return images, facts


def _generators(job: GenerateCall) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(s + k) for s in job.batch.seeds for k in range(job.count)]


def _arguments(pipelines: Sequence[PreparedPipeline], n: int, job: GenerateCall, images: Any) -> dict[str, Any]:
    """The arguments of a stage's pipeline, without seeds and number of pictures."""
    prepared, last = pipelines[n], len(pipelines) - 1
    taken = inspect.signature(prepared.pipe.__call__).parameters
    arguments = {k: v for k, v in job.arguments.items() if k in taken and (n == 0 or k not in _FIRST)}
    if n < last:
        arguments["output_type"] = prepared.family.handed_on
    arguments |= job.own[n]
    repeat = 1 if n == 0 and prepared.family.pictures else job.count
    prompts = [p for p in job.batch.prompts for _ in range(repeat)]
    negatives = [q for q in job.batch.negatives for _ in range(repeat)]
    if n > 0:
        arguments["image"] = images
    if n == 0 and len(job.batch.prompts) > job.asked:
        _refuse_per_row(arguments)
    return arguments | _texts(prepared, prompts, negatives, arguments)


def _texts(
    prepared: PreparedPipeline, prompts: Sequence[str], negatives: Sequence[str | None], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Prompts as the pipeline takes them: as strings, or encoded by the stage that has the text encoder."""
    texts: dict[str, Any] = {"prompt": list(prompts)}
    if any(q is not None for q in negatives):
        texts["negative_prompt"] = _negatives(prepared, negatives, arguments)
    if prepared.encoder is prepared.pipe:
        return texts
    how = inspect.signature(prepared.encoder.encode_prompt).parameters
    with torch.no_grad():
        encoded = prepared.encoder.encode_prompt(**texts, **{k: v for k, v in arguments.items() if k in how})
    named = dict(zip(prepared.family.encode.returns, encoded, strict=False))
    return {"prompt_embeds": named["text"], "negative_prompt_embeds": named["negative_text"]}


def _negatives(prepared: PreparedPipeline, negatives: Sequence[str | None], arguments: Mapping[str, Any]) -> list[str]:
    taken = inspect.signature(prepared.pipe.__call__).parameters
    if "negative_prompt" not in taken:
        raise BadPlan(f"`{type(prepared.pipe).__name__}` takes no negative prompt")
    scale = prepared.family.negative_scale
    if scale != "guidance_scale" and not float(arguments.get(scale, taken[scale].default) or 0) > 1.0:
        raise BadPlan(f"negative_prompts need a `{scale}` above 1 on `{type(prepared.pipe).__name__}`, or are ignored")
    if None in negatives and getattr(prepared.pipe.config, "force_zeros_for_empty_prompt", False):
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


def _streams(
    prepared: PreparedPipeline, job: GenerateCall, arguments: Mapping[str, Any]
) -> dict[str | Donor, TextStream]:
    """The streams of the plans' canonical donors, recorded now or kept from before; both are the same."""
    sites: dict[str | Donor, set[str]] = {}
    for plan in job.batch.plans:
        for act in plan.interventions if plan else ():
            if isinstance(act, Swap) and act.source == "canonical" and act.strength:
                sites.setdefault(act.donor, set()).update(set(act.sites) & set(prepared.names))
    if not sites:
        return {}
    ours = {"prompt", "negative_prompt", "output_type", *_PER_ROW}
    plain = {k: v for k, v in arguments.items() if k not in ours and not k.startswith(("prompt_", "negative_prompt_"))}
    weights = tuple(weight_version(getattr(prepared.encoder, e, None)) for e in prepared.family.encode.encoders)
    how = (repr(sorted(plain.items())), weight_version(prepared.denoiser), weights)
    return {
        donor: prepared.streams.get(
            (donor, frozenset(names), how),
            lambda d=donor, s=names: _record(prepared, d, s, plain),  # type: ignore[misc]
        )
        for donor, names in sites.items()
        if names
    }


def _record(
    prepared: PreparedPipeline, donor: str | Donor, names: set[str], arguments: Mapping[str, Any]
) -> TextStream:
    recorder = TextRecorder()
    given = ((0, donor),) if isinstance(donor, Donor) else ()
    no_plan: list[Plan | None] = [None]
    session = Session(prepared, no_plan, None, SessionExtras(donors=given, recorder=recorder))
    with uncompiled(prepared), session.attached(), _recording(prepared, names, recorder):
        prepared.pipe(
            prompt=[donor if isinstance(donor, str) else ""],
            generator=[torch.Generator("cpu").manual_seed(CANONICAL_SEED)],
            output_type="latent",
            **arguments,
        )
    return recorder.stream()


@contextmanager
def _recording(prepared: PreparedPipeline, names: set[str], recorder: TextRecorder) -> Iterator[None]:
    with ExitStack() as stack:
        for index, placed in enumerate(prepared.placed):
            if placed.name not in names:
                continue
            for what, (module, span) in placed.readers().items():

                def keep(
                    m: Any, a: Any, output: torch.Tensor, name: str = f"{what}.{index}", span: Span = span
                ) -> None:
                    recorder.add(name, span.take(output, recorder.picture))

                stack.enter_context(after(module, keep))
            for argument in placed.rule.companions if isinstance(placed.rule, SiteRule) else ():

                def keep_beside(
                    m: Any, args: Any, kwargs: Any, argument: str = argument, placed: Placed = placed, at: int = index
                ) -> None:
                    position = placed.position(argument)
                    value = kwargs.get(argument, args[position] if position < len(args) else None)
                    for n, part in enumerate(value if isinstance(value, tuple | list) else [value]):
                        if part is not None:
                            recorder.add(f"{argument}.{n}.{at}", part)

                stack.enter_context(before(placed.module, keep_beside))
        yield


@contextmanager
def uncompiled(prepared: PreparedPipeline) -> Iterator[None]:
    """Runs the denoiser eagerly inside: a graph takes no notice of hooks that come for one call."""
    component = prepared.component
    compiled = [(m, m._compiled_call_impl) for m in prepared.denoiser.modules() if m._compiled_call_impl is not None]
    for module, _ in compiled:
        module._compiled_call_impl = None
    if component is not prepared.denoiser:
        setattr(prepared.pipe, prepared.family.denoiser, prepared.denoiser)
    try:
        yield
    finally:
        for module, call in compiled:
            module._compiled_call_impl = call
        if component is not prepared.denoiser:
            setattr(prepared.pipe, prepared.family.denoiser, component)
