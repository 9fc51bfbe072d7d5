"""One use of a pipeline: the session watches it encode, start its scheduler, call its denoiser and step, and writes the
device tables before each denoiser call.

Everything is learned from the call itself: the texts from what `encode_prompt` returned, the rows of each denoiser call
by comparison with them, the position in the trajectory from the scheduler, and the way of encoding donors from the
arguments that the pipeline gave its own encoder. At the end the counters are read once and compared with the plans. A
difference raises an error, because a silent no-op is the worst fault of a safety system.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput

from steering.attach import replaced, watched
from steering.batch.device_tables import DeviceTables
from steering.batch.donors import Encoding, fit_text, missing_tokens
from steering.batch.layout import Layout, Layouts
from steering.batch.recorded_text import TextRecorder
from steering.batch.row_program import COUNTED, RowProgram, RowSetting
from steering.errors import BadDonor, BadLayout, BadPlan, NotFired, NotSupported
from steering.families.description import PooledRule
from steering.families.spans import Picture
from steering.plans import Edit, Plan
from steering.run.call import CallFacts, PipelineRun, SessionExtras, as_rows
from steering.run.checks import check_finite, check_scale
from steering.run.clock import StepClock
from steering.run.prepared import PreparedPipeline, bank_capacity
from steering.sentinel import encoded_texts
from steering.values import Donor

__all__ = ["Session"]


class Session:
    """The calls of the pipeline between enter and exit. `plans`: one entry a prompt; `finished`: facts of the calls,
    in order; `layout` and `picture` (its tokens in a sequence): of the denoiser call that is under way; `pooled`: how
    wide pooled text is, if it is encoded."""

    def __init__(
        self,
        prepared: PreparedPipeline,
        plans: Sequence[Plan | None],
        on_step: Callable[[int, int], None] | None,
        extras: SessionExtras | None = None,
        *,
        watch: bool = False,
    ) -> None:
        self.prepared, self.plans, self.on_step = prepared, tuple(plans), on_step
        self.extras = extras or SessionExtras()
        self.clock = StepClock()
        self.finished: list[CallFacts] = []
        self.run: PipelineRun | None = None
        self.layout: Layout | None = None
        self.pooled: int | None = None
        self.picture, self._encoded, self._is_aside = Picture(), 0, False
        self._steered = bool(self.extras.sentinels) or any(
            p is not None and set(p.sites) & set(prepared.names) for p in self.plans
        )
        extras = self.extras
        self._watch = watch or self._steered or bool(extras.recorder or extras.keeper or extras.added.lockstep)
        forward = list(inspect.signature(prepared.denoiser.forward).parameters)
        self._latents, self._text_position = forward[0], forward.index(prepared.family.inputs.text)

    @contextmanager
    def attached(self) -> Iterator[Session]:
        """The session, with the pipeline watched and the sites hooked; nothing is left of it afterwards, whatever
        happens."""
        prepared = self.prepared
        pipe, scheduler = prepared.pipe, prepared.pipe.scheduler
        with ExitStack() as stack:
            stack.callback(self._reset)
            stack.enter_context(replaced(pipe, prepared.family.encode.method, self._encode))
            if self._watch or self.on_step is not None:
                stack.enter_context(replaced(scheduler, "set_timesteps", self._set_timesteps))
                if hasattr(scheduler, "set_begin_index"):
                    stack.enter_context(replaced(scheduler, "set_begin_index", self._set_begin_index))
                stack.enter_context(replaced(scheduler, "step", self._step))
            if self._watch:
                for component in prepared.denoisers:
                    look = partial(self._denoise, component)
                    stack.enter_context(watched(getattr(pipe, component), look))
            if self._steered:
                stack.enter_context(prepared.hooked_sites(self._program(self.plans)))
            prepared.active.armed = self._steered
            yield self
            self._close_run()

    def _reset(self) -> None:
        self.prepared.active.clear()
        self.run = None

    # what the pipeline does, in the order in which it does it

    def _encode(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        self._encoded += 1
        if self._encoded % self.prepared.family.encode.calls:
            return result
        if self._is_uncond_of_this_run():
            assert self.run is not None
            self.run.layouts.uncond = self.prepared.family.encode.named(result)["text"]
            return result
        self._close_run()  # an earlier call of the pipeline inside `host.steer`
        result = self._with_given_texts(result)
        encoder = (
            getattr(self.prepared.encoder, self.prepared.family.encode.method) if self._borrows_encoder() else original
        )
        if self.extras.on_encoded is not None:
            self.extras.on_encoded(encoded_texts(self.prepared.family.encode.named(result), len(self.plans)))
        encoding = Encoding(self.prepared.family.encode, encoder, _arguments(original, args, kwargs))
        result = self._with_room(result, encoding)
        self._open_run(encoding, result)
        return result

    def _set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        timesteps = self.prepared.pipe.scheduler.timesteps.tolist()
        self.clock.start(timesteps[: len(timesteps) - self.prepared.family.spare_timesteps])
        if self.extras.keeper is not None:
            self.extras.keeper.start(self.clock.timesteps)
        return result

    def _set_begin_index(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        self.clock.start(self.clock.timesteps, int(self.prepared.pipe.scheduler.begin_index or 0))
        return result

    def _denoise(self, component: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run, inputs = self.run, self.prepared.family.inputs
        if self._is_aside:
            return None
        if run is None or not self.clock.running:
            raise BadLayout("the denoiser was called before the pipeline encoded its prompts and set its timesteps")
        text = kwargs.get(inputs.text, args[self._text_position] if self._text_position < len(args) else None)
        if not isinstance(text, torch.Tensor | list | tuple):
            raise BadLayout(
                f"the denoiser was called without `{inputs.text}`, so its rows cannot be assigned to pictures"
            )
        layout = self.layout = run.layouts.of(text, run.ordinal)
        run.seen.add(layout)
        place = (self.clock.evaluation, run.ordinal)
        run.ordinal += 1
        if self.extras.keeper is not None and self.extras.keeper.skips(self.clock.step):
            latents = kwargs[self._latents] if self._latents in kwargs else args[0]
            return _unasked(self.prepared.denoiser, latents, as_tuple=not kwargs.get("return_dict", True))
        run.calls += 1
        named = self.prepared.by_name(args, kwargs)
        self.picture = self.prepared.picture(named, run.encoding)
        if self.extras.recorder is not None:
            self._aim_recorder(self.extras.recorder, layout, place)
            self.prepared.keep_beside(kwargs, self.extras.recorder)
        if run.program is not None:
            check_scale(self.prepared, kwargs)
            skipped = (kwargs.get(inputs.skips) if inputs.skips else None) or ()
            silent = self.prepared.sites_beside(component, skipped)
            cached = inputs.cached is not None and kwargs.get(inputs.cached[0]) == inputs.cached[1]
            self._show(run, run.program, layout, place, silent, named, whole=not skipped, cached=cached)
            self.prepared.put_beside(kwargs)
        return None

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        run, step = self.run, self.clock.step
        if run is not None and run.program is not None:
            self._check_calls(run, run.program)
        call = inspect.signature(original).bind(*args, **kwargs)
        result = self._locked(self._kept_step(original, call))
        self.clock.advance(self.prepared.pipe.scheduler, call.arguments["timestep"])
        if run is not None:
            run.ordinal = 0
        if self.clock.step != step:
            if run is not None:
                run.steps += 1
            if self.on_step is not None:
                self.on_step(step, self.clock.steps)
        return result

    # one call of the pipeline

    def _is_uncond_of_this_run(self) -> bool:
        """True when the pipeline encodes a second time before it has called its denoiser: the negative prompts."""
        run = self.run
        return (
            "negative_text" not in self.prepared.family.encode.returns
            and run is not None
            and run.calls == run.steps == 0
            and run.layouts.uncond is None
        )

    def _borrows_encoder(self) -> bool:
        return self.prepared.encoder is not self.prepared.pipe

    def _open_run(self, encoding: Encoding, result: Sequence[Any]) -> None:
        rule, named = encoding.rule, encoding.rule.named(result)
        text, images = named["text"], int(encoding.arguments[rule.images]) if rule.images else 1
        self.pooled = int(named["pooled"].shape[-1]) if "pooled" in named else None
        if len(text) != len(self.plans) * images:
            raise BadPlan(
                f"plans must have one entry a prompt: {len(text) // images} prompts, got {len(self.plans)} plans"
            )
        family = self.prepared.family
        layouts = Layouts(text, family.guidance, compared=family.inputs.compared)
        run = self.run = PipelineRun(layouts, images, encoding)
        if rule.guidance is not None and bool(encoding.arguments[rule.guidance]):
            run.layouts.uncond = named.get("negative_text")
        self.clock = StepClock()
        self.prepared.active.show(None)
        if self._steered:
            run.program = self._program([p for p in self.plans for _ in range(images)])
            self._check_pooled(named)
            run.banks = self.prepared.banks(run.program, encoding, run.text)

    def _program(self, plans: Sequence[Plan | None]) -> RowProgram:
        return self.prepared.program(plans, self.extras.added, self.extras.sentinels)

    def _check_pooled(self, named: Mapping[str, Any]) -> None:
        edits = [act for plan in self.plans if plan for act in plan.interventions if isinstance(act, Edit)]
        for placed in self.prepared.globals:
            assert isinstance(placed.rule, PooledRule)
            want = int(as_rows(named[placed.rule.encoded]).shape[-1])
            for edit in edits:
                if placed.name in edit.sites and edit.operator.e.shape[1] != want:
                    raise BadPlan(f"operator must be {want} wide for pooled text here, got {edit.operator.e.shape[1]}")

    def _show(
        self,
        run: PipelineRun,
        program: RowProgram,
        layout: Layout,
        place: tuple[int, int],
        silent: Sequence[int],
        named: Mapping[str, Any],
        *,
        whole: bool,
        cached: bool,
    ) -> None:
        if cached:
            program.check_cached(self.clock.steps)
        setting = program.at(self.clock.step, self.clock.steps, layout, whole=whole, cached=cached)
        text = named[self.prepared.family.inputs.text]
        kept = self.prepared.family.joint and program.encoded and isinstance(text, torch.Tensor)
        if kept and text.shape[1] != run.text.shape[1]:
            self._pass_by(setting)
            return
        if layout.batch not in run.tables:
            banks = run.banks | self._stream_banks(program, run.text)
            banks |= self._aside(self.prepared.static_banks, program, run.encoding, run.text, named, self.picture)
            tables = self.prepared.device_tables(program, layout.batch, run.text, banks, self.picture)
            run.tables[layout.batch] = tables, np.zeros_like(setting.hits, np.int64)
            run.watched[layout.batch] = np.zeros_like(setting.watch)
        tables, expected = run.tables[layout.batch]
        tables.common.picture = self.picture
        self._load_streams(tables, program, place)
        tables.write(setting)
        hits = setting.hits.astype(np.int64)
        hits[:, list(silent)] = 0
        expected += hits
        run.watched[layout.batch] += setting.watch
        run.acted |= program.acting(self.clock.step, self.clock.steps, layout, silent)
        self.prepared.active.show(tables)

    def _pass_by(self, setting: RowSetting) -> None:
        """Leaves a call alone whose text has another length than the donors were brought to: that of uncond rows.
        Raises: NotSupported, when plans say something for it."""
        if setting.hits.any():
            raise NotSupported(
                "the uncond text of this call is longer or shorter than its prompts', so a donor cannot be shown to"
                " both; use rows `cond`, or source `twin`"
            )
        self.prepared.active.pause()

    def _aside(self, call: Callable[..., Any], *args: Any) -> Any:
        """The result of a call in which the denoiser is asked for something that is no part of the run."""
        self._is_aside = True
        try:
            return call(*args)
        finally:
            self._is_aside = False

    def _check_calls(self, run: PipelineRun, program: RowProgram) -> None:
        if run.ordinal == 0:
            raise NotFired("the scheduler took a step without a call of the denoiser that was seen")
        if program.needs_uncond and not any(layout.rows(0, "uncond") for layout in run.seen):
            raise BadPlan(
                "a plan steers the uncond rows, and this call has none: guidance_scale must be above 1, or rows `cond`"
            )

    def _kept_step(self, original: Callable[..., Any], call: inspect.BoundArguments) -> Any:
        """The scheduler's result, with what rows keep of other trajectories in it."""
        keeper, evaluation, step, given = self.extras.keeper, self.clock.evaluation, self.clock.step, call.arguments
        if keeper is None:
            return original(*call.args, **call.kwargs)
        given["model_output"], given["sample"] = keeper.before(evaluation, step, given["model_output"], given["sample"])
        result = original(*call.args, **call.kwargs)
        return _with_latents(result, keeper.after(self.prepared.pipe, evaluation, step, _latents_in(result)))

    def _locked(self, result: Any) -> Any:
        """The scheduler's result, in which each picture in lockstep has its recipient's latents."""
        pairs = self.extras.added.lockstep
        if not pairs:
            return result
        latents = _latents_in(result).clone()
        latents[[a for a, _ in pairs]] = latents[[b for _, b in pairs]]
        return _with_latents(result, latents)

    def _close_run(self) -> None:
        run, self.run = self.run, None
        if run is None:
            return
        fired = dose = moved = read = None
        program = run.program
        if program is not None:
            if not any(layout.rows(0, "cond") for layout in run.seen):
                raise NotFired("the pipeline ended without a step for which a plan could be carried out")
            program.check_acted(run.acted, self.clock.steps)
            shape = (len(COUNTED), len(self.prepared.placed), run.layouts.pictures)
            fired, dose, moved = np.zeros(shape, np.int64), np.zeros(shape[1:]), np.zeros(shape[1:])
            said = np.zeros((shape[2], program.watch.room))
            counted = np.zeros_like(said)
            for rows, (tables, expected) in run.tables.items():
                got, size, way, heard = tables.read()
                check_finite(heard, self.prepared.names)
                self.prepared.check_counts(got, expected)
                fired += _by_picture(got, shape[2])
                dose += _by_picture(size, shape[2])
                moved += _by_picture(way, shape[2])
                said += _by_picture(heard.sum(0).T, shape[2]).T
                counted += _by_picture(run.watched[rows].T, shape[2]).T
            read = self._means(said, counted)
        text = run.text
        self.finished.append(
            CallFacts(
                pictures=run.layouts.pictures,
                images=run.images,
                batch=max((layout.batch for layout in run.seen), default=0),
                calls=run.calls,
                text_tokens=int(text.shape[1]),
                dtype=str(text.dtype).removeprefix("torch."),
                device=str(text.device),
                steps=run.steps,
                fired=fired,
                dose=dose,
                moved=moved,
                read=read,
            )
        )

    def _means(self, said: np.ndarray, counted: np.ndarray) -> np.ndarray:
        """What each sentinel read of each picture, the mean over the calls that counted [R, sentinels]."""
        sentinels = self.extras.sentinels
        unread = [s for k, s in enumerate(sentinels) if not counted[:, k].all()]
        if unread:
            raise NotFired(f"no step of this run lies in the window of the sentinel of `{unread[0].concept}`")
        return said[:, : len(sentinels)] / counted[:, : len(sentinels)]

    # texts that are given, and streams that were recorded

    def _with_given_texts(self, result: Any) -> Any:
        """The encoder's result, with the rows of given donors replaced."""
        if not self.extras.donors:
            return result
        beside = self.prepared.family.inputs.beside
        if beside:
            raise BadDonor(
                f"donor must be a prompt for {self.prepared.family.name}, whose denoiser is given more of its text than"
                f" a `Donor` holds (`{beside[0]}`)"
            )
        fresh = self.prepared.family.encode.named(result)
        images = len(fresh["text"]) // len(self.plans)
        fresh |= {k: fresh[k].clone() for k in ("text", "mask", "pooled") if isinstance(fresh.get(k), torch.Tensor)}
        for prompt, donor in self.extras.donors:
            for row in range(prompt * images, (prompt + 1) * images):
                _give(fresh, row, donor)
        rule = self.prepared.family.encode
        if rule.listed:
            return fresh["text"]
        return tuple(fresh.get(n, v) for n, v in zip(rule.returns, result, strict=False))

    def _with_room(self, result: Any, encoding: Encoding) -> Any:
        """The encoder's result, with hidden tokens behind it where it is only as long as the longest prompt and a donor
        is longer; and with a mask, where it has none yet and a donor needs one."""
        donors = self._program(self.plans).texts if encoding.rule.longest else ()
        if not donors:
            return result
        named = encoding.rule.named(result)
        own, given = as_rows(named["text"]), [self.prepared.encoded(d, encoding) for d in donors]
        missing = missing_tokens(given, own)
        if not missing and all(len(d.text) == own.shape[1] for d in given):
            return result
        if named.get("mask", own) is None:  # the encoder hides nothing
            named["mask"] = own.new_ones(own.shape[:2], dtype=torch.bool)
        for name, value in named.items():
            has_tokens = isinstance(value, torch.Tensor) and value.shape[1] == own.shape[1]
            if has_tokens and not name.endswith("pooled"):  # [b, l, d] or [b, l]
                sides = (0, 0, 0, missing) if name.endswith("text") else (0, missing)
                named[name] = torch.nn.functional.pad(value, sides)
        return tuple(named.get(n, v) for n, v in zip(encoding.rule.returns, result, strict=True))

    def _stream_banks(self, program: RowProgram, own: torch.Tensor) -> dict[str, torch.Tensor]:
        """Room for the recorded rows of each site; `_bring_streams` fills it before each call."""
        streams = [stream for donor, stream in self.extras.streams.items() if donor in program.texts]
        rows = {name: row for stream in streams for name, row in stream.rows[0, 0].items()}
        capacity = bank_capacity(len(program.texts), own)
        return {name: row.new_zeros(capacity, *row.shape) for name, row in rows.items()}

    def _load_streams(self, tables: DeviceTables, program: RowProgram, place: tuple[int, int]) -> None:
        for n, donor in enumerate(program.texts):
            stream = self.extras.streams.get(donor)
            rows = stream.rows if stream is not None else {}
            for name, row in (rows.get(place) or rows.get((place[0], 0)) or {}).items():
                if name in tables.banks:
                    tables.banks[name][n].copy_(row)

    def _aim_recorder(self, recorder: TextRecorder, layout: Layout, place: tuple[int, int]) -> None:
        rows = layout.rows(0, "cond")
        recorder.place, recorder.picture = place if rows else None, self.picture
        recorder.row = rows[0] if rows else 0


def _give(texts: dict[str, Any], row: int, donor: Donor) -> None:
    """Puts a given donor into one row of encoded texts. Raises: BadDonor."""
    if isinstance(texts["text"], torch.Tensor):
        masks = texts.get("mask") is not None
        text, mask = fit_text(donor, texts["text"], masks=masks)
        texts["text"][row] = text
        if masks:
            texts["mask"][row] = mask.to(texts["mask"])
    else:  # a list, in which each row has its own length
        shown = slice(None) if donor.mask is None else donor.mask.bool()
        texts["text"] = [donor.text[shown].to(t) if n == row else t for n, t in enumerate(texts["text"])]
    if "pooled" in texts:
        if donor.pooled is None:
            raise BadDonor("a twin of a `Donor` needs its pooled text; give `Donor(text, mask, pooled)`")
        texts["pooled"][row] = donor.pooled.to(texts["pooled"])


def _latents_in(result: Any) -> torch.Tensor:
    return result[0] if isinstance(result, tuple) else result.prev_sample


def _with_latents(result: Any, latents: torch.Tensor) -> Any:
    """A scheduler's result with other latents."""
    if isinstance(result, tuple):
        return (latents, *result[1:])
    result.prev_sample = latents
    return result


def _unasked(denoiser: Any, latents: torch.Tensor, *, as_tuple: bool) -> Any:
    """A prediction of zeros, in the form of the denoiser's, for a call that it is spared."""
    wide = getattr(denoiser.config, "out_channels", None) if latents.dim() > 3 else None
    zeros = latents.new_zeros(latents.shape[0], wide or latents.shape[1], *latents.shape[2:])
    return (zeros,) if as_tuple else BaseOutput(sample=zeros)


def _by_picture(values: np.ndarray, pictures: int) -> np.ndarray:
    """Counts by row [..., B] as counts by picture [..., R]: its cond and uncond rows together."""
    return values.reshape(*values.shape[:-1], values.shape[-1] // pictures, pictures).sum(-2)


def _arguments(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a call by name, defaults included."""
    signature = inspect.signature(method)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    named = dict(bound.arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= named.pop(parameter.name)
    return named
