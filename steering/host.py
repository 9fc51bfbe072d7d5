"""`Host`: one or more loaded diffusers pipelines that are steered as one, with their sites, lock and self-test.

The pipelines stay what they are: nothing of them is copied, subclassed or rewritten. A call without a plan puts no hook
on any module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from steering.batch.extra_rows import extended_batch, needs_rows
from steering.editing.latents import latents_of
from steering.editing.masks import check_mask, paste, scaled
from steering.editing.trajectory import Kept, PathKeeper, Trajectory
from steering.errors import BadModel, BadPlan, NeedsRows, NotSupported, Untrusted
from steering.families.defaults import Defaults, parse_defaults
from steering.families.description import Family
from steering.families.facts import NegativePrompts, fewest_steps, native_size, negative_prompts
from steering.families.fingerprint import Fingerprint, combined
from steering.families.guesses import possible_families
from steering.families.loading import load_pipeline
from steering.families.modular import as_pipeline
from steering.measure.blends import Blend, blend_call
from steering.measure.contributions import contributions_of
from steering.measure.inversion import inverted
from steering.measure.predictor import Predictor
from steering.measure.replay import Call, capture_calls, replay_call, reworded_calls
from steering.measure.selftest import SelfTest, run_self_test
from steering.measure.tokens import differing_tokens
from steering.plans import Plan, Source
from steering.run.call import CallFacts
from steering.run.checks import (
    check_arguments,
    check_caches,
    check_count,
    check_lengths,
    check_plan,
    check_values,
    check_watched,
    find_site,
)
from steering.run.judged_text import OnRewritten, rewriter_switches
from steering.run.locks import HostLock, claim, release
from steering.run.loras import LoraFile, load_lora, switched
from steering.run.prepared import PreparedPipeline, uncompiled
from steering.run.report import Edited, Output, reports, with_readings
from steering.run.session import Session
from steering.run.stages import GenerateCall, judged_run, run_stages
from steering.sentinel import EncodedText, Sentinel, check_sentinels
from steering.sites import Site
from steering.values import Projected

__all__ = ["Host"]


class Host:
    """Loaded diffusers pipelines that are steered as one: `Host(pipe)`, `Host(stage1, stage2)`, `Host.load(folder)`.

    * `name` (the model's folder, or the pipeline's class), `pipe` (the first), `pipes`, `defaults`;
    * `sites` in execution order; `global_sites`, where pooled text enters the timestep modulation (see `Swap.pooled`);
      those of the second pipeline begin with `stage2/`, and so on;
    * `tested`: the last self-test's findings, None before the first. A host that failed refuses every plan
      (`Untrusted`); so does the service, which then replaces whole prompts.

    `families` describes pipeline classes that the table of families does not have (`steering.families.description`). A
    class that neither describes is probed: the host looks in a small call for the places where text enters, and the
    self-test decides whether it is steered; `self_test=False` is an error then.

    A host owns the pipelines' modules and schedulers until `close()`, or until it is garbage collected: a second host
    on one of them is refused. One call at a time; a second waits on the lock.

    A denoiser that was compiled (`torch.compile`, `.compile()`, `compile_repeated_blocks`) gets its hooks once and
    keeps them until `close()`; without a running plan they do nothing. The reason: torch does not look for new hooks
    when it chooses a graph, so a graph that was traced without them takes no notice of a plan. Compile, make the host,
    then call; a graph that came too early is found out by the counters (`NotFired`), and `torch._dynamo.reset()`
    drops it.

    Raises: NotSupported (family), BadFamily, HostShared.
    """

    def __init__(
        self,
        *pipes: Any,
        defaults: Defaults | Mapping[str, Any] | None = None,
        name: str | None = None,
        self_test: bool = True,
        families: Sequence[Family] = (),
    ) -> None:
        if not pipes:
            raise NotSupported("a host needs at least one pipeline, got none")
        self.pipes = pipes = tuple(as_pipeline(pipe) for pipe in pipes)
        self.pipe = pipes[0]
        self.name = name or type(self.pipe).__name__
        self.defaults = defaults if isinstance(defaults, Defaults) else parse_defaults(defaults or {})
        if self.defaults.call:
            try:
                check_arguments(self.defaults.call, pipes)
            except BadPlan as error:
                raise BadModel(f"`call` in the model's defaults: {error}") from None
        self.tested: SelfTest | None = None
        self._lock = HostLock(self.name)
        self._fingerprint: tuple[Any, Fingerprint] | None = None
        claim(self, [part for pipe in pipes for part in _parts(pipe).items()])
        try:
            self._find_family(possible_families(self.pipe, families, tested=self_test), families, tested=self_test)
        except Exception:
            release(self)
            raise

    def _find_family(self, guesses: Iterator[Family], families: Sequence[Family], *, tested: bool) -> None:
        """Takes the first family as which the host passes its self-test; if there is none, the first that it can be
        prepared as. Raises: NotSupported, when there is none of these either."""
        usable: list[tuple[Family, SelfTest]] = []
        reason: NotSupported | None = None
        while True:
            try:
                family = next(guesses)
                self._take(family, families, tested=tested)
            except StopIteration:
                break
            except NotSupported as error:
                reason = error
                continue
            if not tested or self.self_test().passed:
                return
            assert self.tested is not None  # INVARIANT: it has just been tested
            usable.append((family, self.tested))
        if not usable:
            assert reason is not None  # INVARIANT: a family or a reason, at least one
            raise reason
        self._take(usable[0][0], families, tested=tested)
        self.tested = usable[0][1]

    def _take(self, family: Family, families: Sequence[Family], *, tested: bool) -> None:
        """Prepares the pipelines, the first of them as one of this family."""
        self._prepared = _prepare(self.pipes, family, families, tested=tested)
        self.sites: tuple[Site, ...] = tuple(p.site for prepared in self._prepared for p in prepared.sites)
        self.global_sites: tuple[Site, ...] = tuple(p.site for prepared in self._prepared for p in prepared.globals)

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = torch.float32,
        revision: str | None = None,
        variant: str | None = None,
        base: str | Path | None = None,
        place: Callable[[Any], None] | None = None,
        self_test: bool = True,
        digests: str | Path | None = None,
        families: Sequence[Family] = (),
    ) -> Host:
        """A host from a diffusers folder, from a hub id and its `revision` (a commit that was fetched before: nothing
        is downloaded), or from a checkpoint in one file; only safetensors, every component in `dtype`.

        `dtype`: None takes that of the denoiser's weights, but float16 becomes float32 on a CPU. `variant`: the weight
        files that are read where a component has them, such as `fp16`. `base`: for a checkpoint, the diffusers folder
        that has the configurations, the tokenizers, and what the file lacks. `place`: called with the pipeline in place
        of moving it to `device`; it may quantize it or offload its parts. `digests`: a JSON file that keeps weights'
        digests by path, size and mtime; without it they are computed when first asked for. `families`: as in `Host`.
        Raises: BadModel, NotSupported, BadFamily, and what `place` raises.
        """
        loaded = load_pipeline(
            model,
            device=device,
            dtype=dtype,
            revision=revision,
            variant=variant,
            base=None if base is None else Path(base),
            place=place,
        )
        host = cls(loaded.pipe, defaults=loaded.defaults, name=loaded.name, self_test=self_test, families=families)
        prepared = host._prepared[0]
        if digests is not None and len(prepared.denoisers) == 1:  # of several, each has files of its own
            known = loaded.weights_digest(Path(digests), prepared.denoiser, prepared.family.denoiser)
            prepared.fingerprint(known)
        return host

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {type(self.pipe).__name__}, {len(self.sites)} sites)"

    @property
    def joint(self) -> bool:
        """True when text is a stream that evolves with the picture, so that swaps need a `source` other than `text`."""
        return self._prepared[0].family.needs_twin

    @property
    def usual_source(self) -> Source:
        """The `source` of a swap whose donor is another prompt: `text`, or on joint hosts `twin`."""
        return "twin" if self.joint else "text"

    @property
    def family(self) -> Family:
        """The description of the first pipeline: from the table, from `families`, or probed."""
        return self._prepared[0].family

    @property
    def denoiser(self) -> nn.Module:
        """The first pipeline's denoiser, without a compiler's wrapper."""
        return self._prepared[0].denoiser

    @property
    def prepared(self) -> PreparedPipeline:
        """The first pipeline's parts as the engine holds them: for rooms that call its denoiser themselves."""
        return self._prepared[0]

    @property
    def fewest_steps(self) -> int:
        """The fewest denoising steps that a call may have: by the model's defaults and by the first pipeline."""
        return max(self.defaults.min_inference_steps, fewest_steps(self._prepared[0].family, self.pipe))

    @property
    def negative_prompts(self) -> NegativePrompts:
        """Whether negative prompts can have an effect on the first pipeline, and above which guidance scale."""
        return negative_prompts(self._prepared[0].family, self.pipe, self.denoiser, self.defaults.call)

    @property
    def rewriter_off(self) -> dict[str, Any]:
        """The arguments that keep the first pipeline from rewriting prompts; empty where it has no such arguments."""
        return rewriter_switches(inspect.signature(self.pipe.__call__).parameters)

    @property
    def native_size(self) -> tuple[int, int] | None:
        """Rows and columns, in pixels, of the first pipeline's pictures unless a call says otherwise; None: unknown."""
        if self.defaults.height and self.defaults.width:
            return self.defaults.height, self.defaults.width
        return native_size(self.pipe, self.denoiser)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint that packs for this host are bound to, with the weights and adapters as they are now."""
        now = tuple(prepared.weights for prepared in self._prepared)
        if self._fingerprint is None or self._fingerprint[0] != now:
            self._fingerprint = (now, combined([g.fingerprint() for g in self._prepared]))
        return self._fingerprint[1]

    def load_lora(self, name: str, path: str | Path, *, timeout: float | None = None) -> LoraFile:
        """An ordinary LoRA, a safetensors file or the folder with it, loaded on the first pipeline under a name, and
        off: the host, its fingerprint and its pictures stay what they are. `lora` switches it on.

        Raises: BadLora, when the file is no LoRA, or for another model; HostBusy.
        """
        with self._lock.held(timeout):
            return load_lora(self._prepared[0], name, path)

    @contextmanager
    def lora(self, name: str, scale: float = 1.0, *, timeout: float | None = None) -> Iterator[None]:
        """A loaded LoRA is on in this block, alone; other threads wait. In the block the host has another fingerprint,
        which names the LoRA, so packs and sentinels of the host without it do not fit.

        Raises: BadLora for an unknown name or a scale that is not finite; HostBusy.
        """
        with self._lock.kept(timeout), switched(self.pipe, name, scale):
            yield

    def self_test(self) -> SelfTest:
        """The findings of the laws of steering on this host's own weights, from small quick calls; also kept in
        `tested`."""
        self.tested = None
        self.tested = run_self_test(self, self._prepared)
        return self.tested

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
        stages: Sequence[Mapping[str, Any]] | None = None,
        sentinels: Sequence[Sentinel] = (),
        on_text: Callable[[Sequence[Mapping[str, float]]], None] | None = None,
        on_rewritten: OnRewritten | None = None,
        kept: Sequence[Kept | None] | None = None,
        record: bool = False,
        **pipeline_kwargs: Any,
    ) -> Output:
        """Pictures of `prompts`, each under its plan, from one call of each unmodified pipeline, and a report for each.

        A prompt's k-th picture has the seed `seed + k` (a generator on the CPU, so that a seed means the same on every
        device) and its prompt's plan. `pipeline_kwargs` go over the model's defaults to the pipeline; an unknown name
        is an error. With several pipelines they go to each that has them, sizes and latents to the first only, and
        `stages` gives each one its own. `on_step(i, n)` is called after step `i` of `n`; an exception from it ends the
        call and is passed on; the pipeline is left clean. Rows that plans add to the batch are removed.

        `sentinels` watch every picture of the first pipeline, steered or not, and change none; what they read is in the
        reports. `on_text` is called once the prompts are encoded, before the denoiser is called for them, with each
        prompt's scores by concept; an exception from it ends the call like one from `on_step`.

        Where a pipeline puts a language model's words in place of the prompts, `on_rewritten` is called with them
        before they are used, in the order of the prompts; an exception from it ends the call. Without it, they are not
        drawn; `rewriter_off` has the arguments with which a pipeline writes none.

        `kept`, one entry a prompt: what the first pipeline keeps of a trajectory for it, so that only a part of the
        picture is drawn anew. Steps that all prompts keep cost no call of the denoiser. `record`: the output also has
        the first pipeline's trajectories.

        Raises: BadPlan, UnknownSite, NotSupported, Untrusted before the call; HostBusy after `timeout` seconds of
        waiting; NotFired when a site did not do what the plans say; NotFinite when what a sentinel reads is nan or inf;
        BrokenPicture when latents or decoded values are not finite; UnjudgedText when the pipeline would read a text
        that is none of the call's. Then no pictures are returned.
        """
        count = check_count(num_images_per_prompt)
        check_lengths(prompts, plans=plans, seeds=seeds, negative_prompts=negative_prompts, kept=kept)
        check_values(prompts, seeds, negative_prompts)
        self._check_plans(plans)
        if stages is not None and len(stages) != len(self.pipes):
            raise BadPlan(f"stages must have one entry a pipeline, {len(self.pipes)}, got {len(stages)}")
        own = [
            check_arguments(given, [pipe])
            for given, pipe in zip(stages or [{}] * len(self.pipes), self.pipes, strict=True)
        ]
        arguments = self._arguments(pipeline_kwargs)
        negatives = self._guided_away(negative_prompts or [None] * len(prompts), arguments)
        batch = extended_batch(prompts, plans, seeds, negatives, joint=self.family.joint)
        watching = self._checked_sentinels(sentinels)
        texts: list[Mapping[str, float]] = []

        def encoded(rows: Sequence[EncodedText]) -> None:
            texts[:] = [{s.concept: s.text_score(row) for s in watching} for row in rows[: len(prompts)]]
            if on_text is not None:
                on_text(tuple(texts))

        keeper = _keeper(kept, len(prompts), count, record=record)
        job = GenerateCall(batch, len(prompts), count, arguments, own, on_step, watching, encoded, keeper, on_rewritten)
        with self._lock.held(timeout):
            self._install_hooks()
            images, facts = run_stages(self._prepared, job)
        kernels = "compiled" if any(prepared.keeps_hooks for prepared in self._prepared) else "eager"
        per_picture = [(p, s + k) for p, s in zip(plans, seeds, strict=True) for k in range(count)]
        account = reports(
            list(zip(facts, (g.placed for g in self._prepared), strict=True)),
            [p for p, _ in per_picture],
            [s for _, s in per_picture],
            batch.pictures(count),
            kernels,
        )
        if watching:
            assert facts[0].read is not None
            account = with_readings(account, facts[0].read, watching, texts)
        return Output(images[: len(per_picture)], account, keeper.trajectories() if keeper is not None else ())

    def invert(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[str],
        *,
        first: int = 1,
        refine: int = 2,
        controller: float = 0.0,
        seed: int = 0,
        timeout: float | None = None,
        on_step: Callable[[int, int], None] | None = None,
        **pipeline_kwargs: Any,
    ) -> tuple[Trajectory, ...]:
        """The ways on which the first pipeline would come to given pictures, each under what its prompt says it shows;
        for `generate(kept=...)`.

        The pictures are scaled to the call's `width` and `height`, by default the model's own; a picture of another
        shape is stretched, as its mask is. `first`: the step at which the way back ends, 1 at the least; `refine`:
        iterations of each step; `controller`: in [0, 1), how much of the noise is that of `seed` (see
        `steering.measure.inversion`). Costs `refine + 1` evaluations of a row for each step and picture. `on_step` is
        called as by `generate`, after each step back.

        Raises: BadPlan; NotSupported, for a scheduler whose steps cannot be gone back, or several pipelines; HostBusy.
        """
        check_lengths(prompts, images=images)
        check_values(prompts, [seed])
        if len(self.pipes) > 1:
            raise NotSupported(f"host `{self.name}` has {len(self.pipes)} pipelines; a way back is known for one")
        height, width = self.native_size or (0, 0)
        size = int(pipeline_kwargs.get("width", width)), int(pipeline_kwargs.get("height", height))
        if 0 in size:
            raise BadPlan(f"width and height must be given for `{self.name}`, whose own size is not known")
        prepared = self._prepared[0]
        with self._lock.kept(timeout), uncompiled(prepared):
            calls = self.capture(prompts[0], seed=seed, at=[0.0, 0.5], **pipeline_kwargs)
            predictor = Predictor(prepared, *calls)
            whole = [i.convert("RGB").resize(size, Image.Resampling.LANCZOS) for i in images]
            clean = latents_of(self.pipe, whole, predictor.shape, size)
            how: dict[str, Any] = {"first": first, "refine": refine, "controller": controller, "seed": seed}
            return inverted(predictor, clean, prompts, on_step=on_step, **how)

    def edit(
        self,
        source: Image.Image | tuple[str, int],
        plan: Plan,
        *,
        prompt: str | None = None,
        mask: np.ndarray | None = None,
        start: int = 1,
        refine: int = 2,
        controller: float = 0.0,
        timeout: float | None = None,
        **pipeline_kwargs: Any,
    ) -> Edited:
        """The source under a plan, with everything outside of `mask` kept: its latents while it is drawn, and its
        pixels, bit for bit, in the finished picture.

        source: a prompt and a seed, whose picture is drawn first; or any picture, with the `prompt` that says what it
        shows, whose way is found by `invert`. mask: [h, w] of the source, above 0 where it may change; None: anywhere.
        start: the first step that is drawn anew; those before are the source's and cost nothing.

        Raises: like `generate` and `invert`.
        """
        with self._lock.kept(timeout):
            if isinstance(source, tuple):
                prompt, seed = source
                first = self.generate([prompt], plans=[None], seeds=[seed], record=True, **pipeline_kwargs)
                picture, way = first.images[0], first.trajectories[0]
            else:
                if prompt is None:
                    raise BadPlan("prompt must say what a given picture shows, got None")
                given: dict[str, Any] = {"first": max(1, start), "refine": refine, "controller": controller}
                picture, seed = source.convert("RGB"), 0
                way = self.invert([picture], [prompt], **given, **pipeline_kwargs)[0]
            return self.redraw(picture, way, plan, prompt=prompt, seed=seed, mask=mask, start=start, **pipeline_kwargs)

    def redraw(
        self,
        picture: Image.Image,
        way: Trajectory,
        plan: Plan | None,
        *,
        prompt: str,
        seed: int = 0,
        mask: np.ndarray | None = None,
        start: int = 1,
        timeout: float | None = None,
        **pipeline_kwargs: Any,
    ) -> Edited:
        """A picture whose way is known, drawn anew under a plan as `edit` does: for callers that look at the picture
        before they say which part may change. The way may be of another size than the picture, as an inversion's is.

        Raises: like `generate`.
        """
        small = mask
        if mask is not None:
            check_mask(mask, picture.size)
            height, width = self.native_size or (picture.height, picture.width)
            size = int(pipeline_kwargs.get("width", width)), int(pipeline_kwargs.get("height", height))
            small = scaled(mask, size)
        kept = [Kept(way, small, start)]
        made = self.generate([prompt], plans=[plan], seeds=[seed], kept=kept, timeout=timeout, **pipeline_kwargs)
        drawn = made.images[0]
        image = drawn if mask is None else paste(picture, drawn, mask)
        return Edited(image, picture, drawn, way, made.report[0])

    @contextmanager
    def steer(self, plans: Sequence[Plan | None], *, timeout: float | None = None) -> Iterator[list[CallFacts]]:
        """Steers the calls of `host.pipe` made inside the block; for callers that drive the pipeline themselves.

        `plans` has one entry a prompt of each call. The model's defaults are not applied. Gives a list to which the
        facts of each call are added when it is over: at the next call, or at the block's end. Of a host of several
        pipelines the first is steered. Whether the pictures are finite is for the caller to check.

        Raises: like `generate`; NeedsRows for a plan that needs rows of its own in the batch, or a run before it.
        """
        self._check_plans(plans)
        if any(needs_rows(plan, joint=self.family.joint) for plan in plans):
            raise NeedsRows(
                "a swap on this host needs rows added to the batch, or a recorded stream, and here the caller calls"
                " the pipeline; use `host.generate`"
            )
        prepared = self._prepared[0]
        with self._lock.held(timeout):
            self._install_hooks()
            with Session(prepared, plans, None, watch=prepared.family.guidance == "sequential").attached() as session:
                yield session.finished

    def capture(
        self,
        prompt: str,
        *,
        seed: int,
        at: Sequence[float] = (0.1, 0.35, 0.6),
        negative_prompt: str | None = None,
        timeout: float | None = None,
        **pipeline_kwargs: Any,
    ) -> tuple[Call, ...]:
        """Arguments and result of the first pipeline's denoiser for the cond row, at fractions `at` of one stock run;
        for `replay`. A compiled denoiser runs eagerly here.

        The fraction of a step is the one that windows go by; each entry of `at` takes the step that it lies in. Raises:
        UnjudgedText, when the pipeline rewrites the prompt (see `rewriter_off`).
        """
        check_values([prompt], [seed])
        arguments = self._arguments(pipeline_kwargs)
        arguments |= {"prompt": [prompt], "output_type": "latent"}
        if (away := self._guided_away([negative_prompt], arguments)[0]) is not None:
            arguments["negative_prompt"] = [away]
        prepared = self._prepared[0]

        def run() -> tuple[Call, ...]:
            given = {
                k: list(v) if isinstance(v, list) else v for k, v in arguments.items()
            }  # some pipelines write in it
            given["generator"] = [torch.Generator("cpu").manual_seed(seed)]
            return capture_calls(Session(prepared, [None], None, watch=True), prompt, given, at)

        with self._lock.held(timeout), uncompiled(prepared):
            return judged_run(prepared, arguments, run)

    def replay(
        self, call: Call, plans: Sequence[Plan | None], *, rows_at_once: int = 32, timeout: float | None = None
    ) -> torch.Tensor:
        """The denoiser's raw predictions, float32 [len(plans), ...], for a captured call under each plan.

        The call's row is repeated, `rows_at_once` in one evaluation beside the rows that plans add, each row under its
        plan; windows are judged at the call's own step. This is the cheap way to an exact sweep over sites: one
        evaluation of a row instead of a picture.

        Raises: like `generate`; BadPlan for a plan of uncond rows.
        """
        self._check_plans(plans)
        if type(rows_at_once) is not int or rows_at_once < 1:
            raise BadPlan(f"rows_at_once must be a whole number of at least 1, got `{rows_at_once}`")
        with self._lock.held(timeout):
            self._install_hooks()
            chunks = [plans[i : i + rows_at_once] for i in range(0, len(plans), rows_at_once)]
            parts = [replay_call(self._prepared[0], call, chunk) for chunk in chunks]
        return torch.cat(parts) if parts else call.prediction.new_zeros(0, *call.prediction.shape)

    def reword(self, calls: Sequence[Call], prompts: Sequence[str], *, timeout: float | None = None) -> torch.Tensor:
        """The denoiser's predictions, float32 [calls, prompts, ...], for captured calls of one run that say each of
        `prompts` instead of their own. No plan is applied, and gradients reach the encoders' embeddings.
        """
        check_values(prompts, [0] * len(prompts))
        prepared = self._prepared[0]
        with self._lock.held(timeout), uncompiled(prepared):
            return reworded_calls(prepared, calls, prompts)

    def projections(self, site: str) -> dict[Projected, str]:
        """The linear modules of a site's projections, by their names in the denoiser of the site's pipeline.

        `keys` and `values` of text, the picture's `queries`, and the `result` of attention; what a site lacks is left
        out. In FLUX's single blocks, where text and picture are one sequence, keys and values are of both. Raises:
        UnknownSite.
        """
        prepared, placed = find_site(site, self._prepared, self.name)
        module = site.removeprefix(prepared.prefix)
        return {where: f"{module}.{name}" for where, name in placed.projections().items()}

    @property
    def units(self) -> tuple[str, ...]:
        """Names of the places that `blend` mixes on the first pipeline: its sites, then where pooled text enters."""
        return self._prepared[0].names

    def blend(
        self,
        call: Call,
        donor: str,
        shares: torch.Tensor,
        *,
        direction: torch.Tensor | None = None,
        timeout: float | None = None,
    ) -> Blend:
        """A captured call under mixtures of its text and a donor's: `shares` [rows, units] in [0, 1], in one
        evaluation.

        A row of zeros and ones is a `Swap` at the units of one, pooled text among them. With a `direction` [...] the
        slopes of `<prediction, direction>` come along, from one backward pass. Of joint hosts the twin counts as a row.
        """
        self._check_trust()
        with self._lock.held(timeout):
            return blend_call(self._prepared[0], call, donor, shares, direction=direction)

    def contributions(
        self, call: Call, donor: str, *, published: bool = False, timeout: float | None = None
    ) -> torch.Tensor:
        """How much the prompt's own words, those that the donor prompt lacks, write into the picture at each site.

        float64 [sites of the first pipeline], from one evaluation of one row; `published`: as the paper's code does
        (see `measure.contributions`). Raises: NotSupported, BadPlan.
        """
        prepared = self._prepared[0]
        # the published code (arXiv 2505.18832) indexes FLUX's text by the tokens of the encoder of pooled text
        slip = (
            "text_encoder"
            if published and prepared.family.joint and prepared.family.encode.encoders[0] != "text_encoder"
            else None
        )
        with self._lock.held(timeout):
            tokens = differing_tokens(prepared, call, donor, encoder=slip)
            return contributions_of(prepared, call, tokens, published=published)

    def close(self) -> None:
        """Releases the modules for other hosts; the pipelines are as they were before."""
        for prepared in self._prepared:
            prepared.remove_hooks()
        release(self)

    def _install_hooks(self) -> None:
        for prepared in self._prepared:
            prepared.install_hooks()

    def _arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The model's defaults under what a call is given. Raises: BadPlan."""
        arguments = self.defaults.arguments() | check_arguments(given, self.pipes)
        least = self.defaults.min_inference_steps
        if arguments.get("num_inference_steps", least) < least:
            raise BadPlan(
                f"num_inference_steps must be at least {least} for `{self.name}`,"
                f" got {arguments['num_inference_steps']}"
            )
        return arguments

    def _guided_away(self, negatives: Sequence[str | None], arguments: Mapping[str, Any]) -> list[str | None]:
        """What each prompt is guided away from. Where the model's defaults set a scale that counts only beside a
        negative prompt (`true_cfg_scale`), that is the empty prompt when nothing else is given.
        """
        scale, least = self.family.negative_scale, self.family.guided_above
        always = scale != "guidance_scale" and scale in self.defaults.call and float(arguments.get(scale) or 0) > least
        return ["" if always and q is None else q for q in negatives]

    def _check_plans(self, plans: Sequence[Plan | None]) -> None:
        for plan in plans:
            if plan is not None and not isinstance(plan, Plan):
                raise BadPlan(f"plans must hold `Plan` or None, got `{type(plan).__name__}`")
        steered = [p for p in dict.fromkeys(plans) if p is not None]
        if not steered:
            return
        self._check_trust()
        self._check_made_for([p for p in steered if p.made_for is not None])
        for plan in steered:
            check_plan(plan, self._prepared, self.name)

    def _checked_sentinels(self, sentinels: Sequence[Sentinel]) -> tuple[Sentinel, ...]:
        """The sentinels, when they may watch this host. Raises: like `generate`."""
        check_sentinels(sentinels)
        if sentinels:
            self._check_trust()
            check_watched(sentinels, self._prepared[0], self.name, self.fingerprint.digest)
        return tuple(sentinels)

    @property
    def trusted(self) -> bool:
        """Whether its self-test passed, or was not asked for: only then it is steered and watched."""
        return self.tested is None or self.tested.passed

    def _check_trust(self) -> None:
        if not self.trusted:
            assert self.tested is not None  # INVARIANT: by `trusted`
            raise Untrusted(f"host `{self.name}` failed its self-test, so it is not steered: {self.tested.failures()}")
        for prepared in self._prepared:
            for denoiser in prepared.denoisers.values():
                check_caches(denoiser)

    def _check_made_for(self, bound: Sequence[Plan]) -> None:
        mine = self.fingerprint.digest if bound else None
        for plan in bound:
            if plan.made_for != mine:
                short = plan.digest[:12]
                raise BadPlan(f"plan `{short}` was made for another host than `{self.name}`; use a pack for this one")


def _keeper(kept: Sequence[Kept | None] | None, prompts: int, count: int, *, record: bool) -> PathKeeper | None:
    """What keeps and records the ways of a call's pictures. Raises: BadPlan."""
    if kept is not None:
        if count > 1 and any(kept):
            raise BadPlan(f"num_images_per_prompt must be 1 where a prompt keeps a trajectory, got {count}")
    elif not record:
        return None
    return PathKeeper(kept or (), record=prompts * count if record else 0)


def _prepare(
    pipes: Sequence[Any], first: Family, families: Sequence[Family], *, tested: bool
) -> tuple[PreparedPipeline, ...]:
    pipelines: list[PreparedPipeline] = []
    for n, pipe in enumerate(pipes):
        family = next(possible_families(pipe, families, tested=tested)) if n else first
        if n and family.joint:
            raise NotSupported(f"`{type(pipe).__name__}` cannot be a later stage: its text is a stream of its own")
        encoder = pipe
        if (
            getattr(pipe, family.encode.encoders[0], None) is None
            and pipelines
            and pipelines[0].family.encode == family.encode
        ):
            encoder = pipelines[0].pipe  # a later stage is often loaded without a text encoder of its own
        pipelines.append(PreparedPipeline(pipe, family, prefix=f"stage{n + 1}/" if n else "", encoder=encoder))
    return tuple(pipelines)


def _parts(pipe: Any) -> dict[str, Any]:
    """What a host claims: modules (behind a compiler's wrapper) and the scheduler, which keeps its place between
    steps."""
    parts = {name: getattr(part, "_orig_mod", part) for name, part in getattr(pipe, "components", {}).items()}
    return {name: part for name, part in parts.items() if isinstance(part, nn.Module) or name == "scheduler"}
