"""Single calls of the denoiser: captured from a stock run, and repeated under many plans at once.

Localization measures in the model's own output; a whole trajectory for each site would cost far more. A captured call
is one row of one evaluation with all its arguments, so nothing here depends on what a family passes to its denoiser
beside text.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from steering.batch.donors import Encoding, fit_text, missing_tokens
from steering.batch.extra_rows import ExtendedBatch, extended_batch
from steering.batch.layout import Layout
from steering.errors import BadDonor, BadPlan, NotFired, NotSupported
from steering.families.description import Inputs
from steering.plans import Plan, Swap
from steering.run.arguments import arguments_of_row, by_name, repeated_arguments, with_texts
from steering.run.prepared import PreparedPipeline
from steering.run.session import Session
from steering.values import Donor

__all__ = [
    "Call",
    "asked_of",
    "capture_calls",
    "prediction_of",
    "repeated_call",
    "replay_call",
    "reworded_calls",
    "with_room",
]


class _Enough(Exception):
    """Ends a run of the pipeline when all that was wanted of it is there."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One row of one call of the denoiser in a stock run.

    `kwargs`: the denoiser's arguments of this row, by name; `prompt`, `text`: what it says, and its encoded text
    [1, l, d]; `encoding`: how, so that donors get the same; `prediction`: what the denoiser gave for the row [...],
    float32; `step` of `steps`, at `fraction` of the trajectory; `spent`: the denoiser's evaluations of one row in that
    run until then; `component`: the pipeline's denoiser that was called.
    """

    kwargs: dict[str, Any]
    step: int
    steps: int
    timestep: float
    prompt: str
    text: torch.Tensor
    encoding: Encoding
    prediction: torch.Tensor
    spent: int = 0
    component: str = ""

    @property
    def fraction(self) -> float:
        """Where in the trajectory the call stood, in [0, 1)."""
        return self.step / self.steps


def capture_calls(session: Session, prompt: str, arguments: Mapping[str, Any], at: Sequence[float]) -> tuple[Call, ...]:
    """The calls at fractions `at` of one run of the pipeline, in that order; the run ends with the last of them.

    Raises: BadPlan, for a fraction outside [0, 1); NotSupported, for a family whose calls cannot be reworded.
    """
    family = session.prepared.family
    if family.inputs.beside:
        names = ", ".join(f"`{name}`" for name in family.inputs.beside)
        raise NotSupported(
            f"single calls of {family.name} cannot be captured: its denoiser is given more of a prompt's text than"
            f" `{family.inputs.text}`, in {names}, and a donor's would be missing"
        )
    for fraction in at:
        if not 0.0 <= fraction < 1.0:
            raise BadPlan(f"fractions of the trajectory must be in [0, 1), got `{fraction}`")
    found: dict[int, Call] = {}
    spent = 0
    inputs, first = family.inputs, next(iter(inspect.signature(session.prepared.denoiser.forward).parameters))
    uncached = {} if inputs.cached is None else {inputs.cached[0]: None, inputs.cached[2]: None}

    def keep(component: str, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        nonlocal spent
        clock, run, layout = session.clock, session.run, session.layout
        spent += layout.batch if layout is not None else 0
        wanted = {min(int(f * clock.steps + 1e-9), clock.steps - 1) for f in at}
        if run is None or layout is None or clock.step not in wanted or clock.step in found:
            return
        rows, batch = layout.rows(0, "cond"), layout.batch
        if not rows:  # a call of uncond rows alone
            return
        named = by_name(module, args, kwargs)
        found[clock.step] = Call(
            kwargs=arguments_of_row(inputs, named, rows[0], batch) | uncached,
            step=clock.step,
            steps=clock.steps,
            timestep=clock.timesteps[clock.evaluation],
            prompt=prompt,
            text=run.text[:1],
            encoding=run.encoding,
            prediction=prediction_of(output, named[first])[rows[0]].float(),
            spent=spent,
            component=component,
        )
        if set(found) == wanted:
            raise _Enough

    with session.attached(), ExitStack() as stack:
        for name, denoiser in session.prepared.denoisers.items():
            handle = denoiser.register_forward_hook(partial(keep, name), with_kwargs=True)
            stack.callback(handle.remove)
        with suppress(_Enough):
            session.prepared.pipe(**arguments)
    if not found:
        raise NotFired("the pipeline ended without a call of its denoiser that could be captured")
    steps = next(iter(found.values())).steps
    return tuple(found[min(int(f * steps + 1e-9), steps - 1)] for f in at)


def replay_call(prepared: PreparedPipeline, call: Call, plans: Sequence[Plan | None]) -> torch.Tensor:
    """The denoiser's predictions for one captured call under each plan, [len(plans), ...], in one evaluation.

    Twins are rows of the same call with the donor's text: at one evaluation they share the recipient's latents, as in
    lockstep.
    """
    _refuse_recorded(plans)
    rows, call = len(plans), with_room(prepared, call, plans)
    with ExitStack() as stack, torch.no_grad():
        batch, kwargs = repeated_call(prepared, call, plans)
        total = len(batch.prompts)
        if not any(plans):
            return asked_of(prepared.denoisers[call.component], kwargs)
        program = prepared.program(batch.plans, batch.added)
        if program.needs_uncond:
            raise BadPlan("a plan steers the uncond rows, and a captured call has none: use rows `cond`")
        layout = Layout(total, "cond-only")
        setting = program.at(call.step, call.steps, layout)
        own = call.text.expand(total, -1, -1)
        picture = prepared.picture(kwargs, call.encoding)
        banks = prepared.banks(program, call.encoding, own)
        banks |= prepared.static_banks(program, call.encoding, own, kwargs, picture)
        tables = prepared.device_tables(program, total, own, banks, picture)
        tables.write(setting)
        stack.enter_context(prepared.hooked_sites(program))
        stack.callback(prepared.active.clear)
        prepared.active.show(tables)
        prediction = asked_of(getattr(prepared.pipe, call.component), kwargs)
        expected = setting.hits.astype("int64")
        expected[:, prepared.sites_beside(call.component)] = 0
        prepared.check_counts(tables.read()[0], expected)
    return prediction[:rows]


def repeated_call(
    prepared: PreparedPipeline, call: Call, plans: Sequence[Plan | None]
) -> tuple[ExtendedBatch, dict[str, Any]]:
    """The batch of a captured call repeated under `plans`, added rows last, and the denoiser's arguments for it."""
    rows = len(plans)
    batch = extended_batch(
        [call.prompt] * rows, plans, [0] * rows, [None] * rows, joint=prepared.family.joint, one_call=True
    )
    total = len(batch.prompts)
    kwargs = repeated_arguments(prepared.family.inputs, call.kwargs, total)
    with torch.no_grad():
        _give_texts(prepared, call, batch, rows, kwargs)
    return batch, kwargs


def reworded_calls(prepared: PreparedPipeline, calls: Sequence[Call], prompts: Sequence[str]) -> torch.Tensor:
    """The denoiser's predictions for captured calls that say each of `prompts` instead, [calls, prompts, ...].

    The prompts are encoded together, once for all calls, which must be of one run. Gradients, where torch keeps them,
    reach back to the encoders' embeddings.
    """
    texts, inputs = calls[0].encoding.texts(prompts), prepared.family.inputs
    predictions = []
    for call in calls:
        kwargs = with_texts(inputs, repeated_arguments(inputs, call.kwargs, len(prompts)), texts)
        predictions.append(asked_of(prepared.denoisers[call.component], kwargs))
    return torch.stack(predictions)


def with_room(prepared: PreparedPipeline, call: Call, plans: Sequence[Plan | None]) -> Call:
    """The call with hidden tokens behind its text, where that is only as long as its prompt and a donor is longer; and
    with a mask, where it has none and a donor needs one."""
    inputs, family = prepared.family.inputs, prepared.family
    swaps = [i for plan in plans if plan for i in plan.interventions if isinstance(i, Swap)]
    if inputs.mask is None or not swaps or not (family.joint or family.encode.longest):
        return call
    donors = [prepared.encoded(donor, call.encoding) for donor in {swap.donor for swap in swaps}]
    missing, mask = missing_tokens(donors, call.text), call.kwargs.get(inputs.mask)
    if not missing and (mask is not None or all(len(d.text) == call.text.shape[1] for d in donors)):
        return call
    if mask is None:
        mask = call.text.new_ones(call.text.shape[:2], dtype=torch.bool)
    pad = torch.nn.functional.pad
    longer = {inputs.text: pad(call.kwargs[inputs.text], (0, 0, 0, missing)), inputs.mask: pad(mask, (0, missing))}
    longer |= {name: pad(call.kwargs[name], (missing, 0)) for name in inputs.along}
    return replace(call, kwargs=call.kwargs | longer, text=pad(call.text, (0, 0, 0, missing)))


def _refuse_recorded(plans: Sequence[Plan | None]) -> None:
    swaps = [i for plan in plans if plan for i in plan.interventions if isinstance(i, Swap)]
    if any(s.source == "canonical" for s in swaps):
        raise NotSupported("a replay has one evaluation, and a canonical donor a run of its own; use source `twin`")


def _give_texts(
    prepared: PreparedPipeline, call: Call, batch: ExtendedBatch, first: int, kwargs: dict[str, Any]
) -> None:
    """Puts the added rows' own texts into a call's arguments, from row `first` on."""
    inputs = prepared.family.inputs
    given = dict(batch.donors)
    donors = [prepared.encoded(given.get(i, batch.prompts[i]), call.encoding) for i in range(first, len(batch.prompts))]
    if not donors:
        return
    if isinstance(kwargs[inputs.text], list):  # each row has its own length
        texts = list(kwargs[inputs.text])
        for n, donor in enumerate(donors, first):
            texts[n] = (donor.text if donor.mask is None else donor.text[donor.mask.bool()]).to(texts[n])
        kwargs[inputs.text] = texts
        return
    text, mask = kwargs[inputs.text].clone(), kwargs.get(inputs.mask or "")
    mask = None if mask is None else mask.clone()
    for n, donor in enumerate(donors, first):
        row, shown = fit_text(donor, call.text, masks=mask is not None)
        text[n] = row.to(text)
        if mask is not None:
            mask[n] = shown.to(mask)
    kwargs[inputs.text] = text
    if inputs.mask is not None and mask is not None:
        kwargs[inputs.mask] = mask
    if inputs.pooled is not None:
        _give_pooled(inputs, donors, first, kwargs)


def _give_pooled(inputs: Inputs, donors: Sequence[Donor], first: int, kwargs: dict[str, Any]) -> None:
    assert inputs.pooled is not None
    argument, *path = inputs.pooled
    held = kwargs[argument]
    pooled = (held[path[0]] if path else held).clone()
    for n, donor in enumerate(donors, first):
        if donor.pooled is None:
            raise BadDonor("a twin of a `Donor` needs its pooled text; give `Donor(text, mask, pooled)`")
        pooled[n] = donor.pooled.to(pooled)
    kwargs[argument] = {**held, path[0]: pooled} if path else pooled


def asked_of(denoiser: Any, kwargs: Mapping[str, Any]) -> torch.Tensor:
    """A denoiser's prediction for arguments by name, float32."""
    latents = next(iter(kwargs.values()))  # arguments by name stand in the order in which it takes them
    return prediction_of(denoiser(**kwargs), latents).float()


def prediction_of(output: Any, latents: Any) -> torch.Tensor:
    """A denoiser's prediction for latents in what its forward returned. Of a list, which has one a row, they are
    joined; of a sequence that holds text too, the picture's tokens are the last."""
    told = output[0] if isinstance(output, tuple) else output.sample
    if isinstance(told, list):
        return torch.stack(told)
    if told.dim() == 3 and isinstance(latents, torch.Tensor) and told.shape[1] > latents.shape[1]:
        return told[:, -latents.shape[1] :]
    return told
