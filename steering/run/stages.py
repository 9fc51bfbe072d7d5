"""Runs the pipelines of a host one after the other: what each is called with, and what it hands on.

A host of one pipeline is the common case. In a host of several (DeepFloyd IF's stages, SDXL and its refiner) each later
pipeline gets the pictures of the one before it as `image`, and the same prompts and seeds.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch

from steering.attach import watched
from steering.batch.extra_rows import ExtendedBatch
from steering.batch.recorded_text import CANONICAL_SEED, TextRecorder, TextStream
from steering.editing.trajectory import PathKeeper
from steering.errors import BadPlan
from steering.plans import Plan, Swap
from steering.run.call import CallFacts, SessionExtras
from steering.run.finite import check_finite, finite_pictures
from steering.run.judged_text import Asked, Judged, OnRewritten, judged_call
from steering.run.prepared import PreparedPipeline
from steering.run.session import Session
from steering.run.weight_versions import weight_version
from steering.sentinel import EncodedText, Sentinel
from steering.values import Donor

__all__ = ["GenerateCall", "judged_run", "run_stages"]

T = TypeVar("T")

# arguments of the first stage only: later ones take their size from the picture that they are given
_FIRST = ("height", "width", "latents", "image")
# arguments with an entry a row: rows that are added would have none
_FURTHER = re.compile(r"(negative_)?prompt_\d+")  # texts for one of several encoders
_PER_ROW = ("latents", "image", "ip_adapter_image", "ip_adapter_image_embeds")


@dataclass(frozen=True, slots=True)
class GenerateCall:
    """One call of `Host.generate`, checked: `asked` prompts of the caller, `count` pictures of each; `own` arguments
    for single stages. The first pipeline is watched by `sentinels`, its texts go to `on_encoded`, and its pictures'
    ways are kept by `keeper`. What a rewriter writes goes to `on_rewritten`."""

    batch: ExtendedBatch
    asked: int
    count: int
    arguments: Mapping[str, Any]
    own: Sequence[Mapping[str, Any]]
    on_step: Callable[[int, int], None] | None
    sentinels: tuple[Sentinel, ...] = ()
    on_encoded: Callable[[tuple[EncodedText, ...]], None] | None = None
    keeper: PathKeeper | None = None
    on_rewritten: OnRewritten | None = None


def run_stages(pipelines: Sequence[PreparedPipeline], job: GenerateCall) -> tuple[Any, list[CallFacts]]:
    """The last pipeline's pictures, those of added rows included, and the facts of each stage. Raises: BrokenPicture,
    and what `Session` raises."""
    facts: list[CallFacts] = []
    images: Any = None
    for n in range(len(pipelines)):
        images, told = _judged_stage(pipelines, n, job, images)
        facts.append(told)
    return images, facts


def _stage(pipelines: Sequence[PreparedPipeline], n: int, job: GenerateCall, images: Any) -> tuple[Any, CallFacts]:
    """The pictures of one pipeline, from those of the one before it, and the facts of its call."""
    prepared, arguments = pipelines[n], _arguments(pipelines, n, job, images)
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
    return images, session.finished[-1]


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
    if prepared.family.negatives_each or any(q is not None for q in negatives):
        texts["negative_prompt"] = _negatives(prepared, negatives, arguments)
    if prepared.encoder is prepared.pipe:
        return texts
    how = inspect.signature(prepared.encoder.encode_prompt).parameters
    with torch.no_grad():
        encoded = prepared.encoder.encode_prompt(**texts, **{k: v for k, v in arguments.items() if k in how})
    named = prepared.family.encode.named(encoded)
    return {"prompt_embeds": named["text"], "negative_prompt_embeds": named["negative_text"]}


def _negatives(prepared: PreparedPipeline, negatives: Sequence[str | None], arguments: Mapping[str, Any]) -> list[str]:
    taken = inspect.signature(prepared.pipe.__call__).parameters
    if "negative_prompt" not in taken:
        raise BadPlan(f"`{type(prepared.pipe).__name__}` takes no negative prompt")
    scale = prepared.family.negative_scale
    least = prepared.family.guided_above
    if scale != "guidance_scale" and not float(arguments.get(scale, taken[scale].default) or 0) > least:
        raise BadPlan(
            f"negative_prompts need a `{scale}` above {least:g} on `{type(prepared.pipe).__name__}`, or are ignored"
        )
    if None in negatives and getattr(prepared.pipe.config, "force_zeros_for_empty_prompt", False):
        raise BadPlan(
            "negative_prompts must be strings for all or none: without one this pipeline shows zeros, which is not the"
            " empty prompt, and one call cannot do both"
        )
    return [q or "" for q in negatives]


def _refuse_per_row(arguments: Mapping[str, Any]) -> None:
    texts = [k for k, v in arguments.items() if k.startswith(("prompt_", "negative_prompt_")) and isinstance(v, list)]
    texts += [k for k, v in arguments.items() if _FURTHER.fullmatch(k) and isinstance(v, str) and v]
    for name in (*texts, *(k for k in _PER_ROW if arguments.get(k) is not None)):
        raise BadPlan(f"`{name}` has an entry a row, and this plan adds rows; leave it out, or use source `canonical`")


# texts of a call


def judged_run(prepared: PreparedPipeline, arguments: Mapping[str, Any], call: Callable[[], T]) -> T:
    """What `call` gives, a call of the pipeline with these arguments, which reads no text but theirs. Raises:
    UnjudgedText."""

    def ask(prompt: str, negative: str) -> None:
        other = {"prompt": prompt, "negative_prompt": negative}
        texts = {k: [text] * len(arguments[k]) for k, text in other.items() if k in arguments}
        _until_denoiser(prepared, {**arguments, **texts, "generator": torch.Generator("cpu").manual_seed(0)})

    judged = Judged(frozenset(_texts_in(arguments)))
    return judged_call([prepared.pipe], judged, Asked(_how(arguments), ask), prepared.wrappings, call)


def _judged_stage(
    pipelines: Sequence[PreparedPipeline], n: int, job: GenerateCall, images: Any
) -> tuple[Any, CallFacts]:
    """`_stage`, which reads no text but the caller's: prompts, negative prompts, donors, texts among the arguments."""
    prepared, batch = pipelines[n], job.batch
    acts = [act for plan in batch.plans if plan for act in plan.interventions]
    donors = [act.donor for act in acts if isinstance(act, Swap) and isinstance(act.donor, str)]
    given = {**job.arguments, **job.own[n]}
    negatives = [q for q in batch.negatives if q is not None]
    texts = frozenset([*batch.prompts, *negatives, *donors, *_texts_in(given)])

    def ask(prompt: str, negative: str) -> None:
        others = tuple(None if q is None else negative for q in batch.negatives)
        other = replace(job, batch=replace(batch, prompts=(prompt,) * len(batch.prompts), negatives=others))
        _until_denoiser(prepared, {**_arguments(pipelines, n, other, images), "generator": _generators(other)})

    return judged_call(
        list({id(pipe): pipe for pipe in (prepared.pipe, prepared.encoder)}.values()),
        Judged(texts, job.on_rewritten),
        Asked((_how(given), bool(negatives)), ask),
        prepared.wrappings,
        partial(_stage, pipelines, n, job, images),
    )


def _texts_in(arguments: Mapping[str, Any]) -> list[str]:
    values = [value for name, value in arguments.items() if "prompt" in name]
    lists = [value if isinstance(value, list | tuple) else [value] for value in values]
    return [each for texts in lists for each in texts if isinstance(each, str)]


def _how(arguments: Mapping[str, Any]) -> Hashable:
    """Equal for arguments that are equal, but for prompts and what has an entry a row."""
    texts = [k for k, v in arguments.items() if "prompt" in k and not isinstance(v, int | float | None)]
    left = {"generator", *_PER_ROW, *texts}
    return repr(sorted((k, v) for k, v in arguments.items() if k not in left))


def _until_denoiser(prepared: PreparedPipeline, arguments: Mapping[str, Any]) -> None:
    """A call of the pipeline, up to the first call of its denoiser."""
    with suppress(_Enough), ExitStack() as stack:
        for name in prepared.denoisers:
            stack.enter_context(watched(getattr(prepared.pipe, name), _stop))
        prepared.pipe(**arguments)


class _Enough(Exception):
    """The prompts of a call are encoded."""


def _stop(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise _Enough


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
    texts = {
        k for k, v in arguments.items() if k.startswith(("prompt_", "negative_prompt_")) and not isinstance(v, dict)
    }
    plain = {k: v for k, v in arguments.items() if k not in ours | texts}
    weights = tuple(weight_version(getattr(prepared.encoder, e, None)) for e in prepared.family.encode.encoders)
    how = (repr(sorted(plain.items())), prepared.weights, weights)
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
    at = [index for index, placed in enumerate(prepared.placed) if placed.name in names]
    with prepared.recording(at, recorder), session.attached():
        prepared.pipe(
            prompt=[donor if isinstance(donor, str) else ""],
            generator=[torch.Generator("cpu").manual_seed(CANONICAL_SEED)],
            output_type="latent",
            **arguments,
        )
    return recorder.stream()
