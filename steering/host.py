"""Owns `Host`: a loaded diffusers pipeline that is steered, with its sites, its lock and its self-test.

The pipeline stays what it is: nothing of it is copied, subclassed or rewritten. A call without a plan puts no hook on
any module.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .defaults import Defaults, parse_defaults
from .errors import BadPlan, NotSupported, UnknownSite, Untrusted
from .families import Placed, family_of, find_sites
from .fingerprint import Fingerprint, fingerprint_of
from .gear import Gear
from .loading import load_pipeline
from .plans import Edit, Plan, Swap
from .replay import Call, capture_calls, replay_call
from .report import Output, reports
from .selftest import SelfTest, run_self_test
from .session import Facts, Session
from .sites import Site
from .stamps import stamp
from .turns import Turn, claim, release

__all__ = ["Host"]

# arguments of pipelines that `generate` fills itself, and what to write instead
_OURS = {
    "prompt": "write `prompts`, the first argument",
    "negative_prompt": "write `negative_prompts`, one entry a prompt",
    "generator": "write `seeds`, one entry a prompt",
    "callback": "write `on_step`",
    "callback_steps": "write `on_step`, which is called after every step",
    "callback_on_step_end": "write `on_step`",
    "return_dict": "`generate` always returns an `Output`",
    "prompt_embeds": "`generate` encodes `prompts`; to drive the pipeline with embeddings use `host.steer`",
    "negative_prompt_embeds": "`generate` encodes `negative_prompts`; to drive the pipeline use `host.steer`",
    "prompt_attention_mask": "`generate` encodes `prompts`; to drive the pipeline with embeddings use `host.steer`",
    "negative_prompt_attention_mask": "`generate` encodes `negative_prompts`; to drive the pipeline use `host.steer`",
}


class Host:
    """A loaded diffusers pipeline that is steered: `Host(pipe)`, or `Host.load(folder)`.

    * `name` (the model's folder, or the pipeline's class), `pipe`, `defaults`, `sites` in execution order;
    * `tested`: the last self-test's findings, None before the first. A host that failed refuses every plan
      (`Untrusted`); so does the service, which then replaces whole prompts.

    A host claims the pipeline's modules and scheduler until `close()`, or until it is collected: a second host on one
    of them is refused. One call at a time; a second waits on the lock.

    A denoiser that was compiled (`torch.compile`, `.compile()`, `compile_repeated_blocks`) gets its hooks once and
    keeps them until `close()`; without a running plan they do nothing. The reason: torch does not look for new hooks
    when it chooses a graph, so a graph that was traced without them takes no notice of a plan. Compile, make the host,
    then call; a graph that came too early is found out by the counters (`NotFired`), and `torch._dynamo.reset()`
    forgets it.

    Raises: NotSupported (family), HostShared.
    """

    def __init__(
        self,
        *pipes: Any,
        defaults: Defaults | Mapping[str, Any] | None = None,
        name: str | None = None,
        self_test: bool = True,
    ) -> None:
        if len(pipes) != 1:
            raise NotSupported(f"a host of {len(pipes)} pipelines is not supported yet; give one pipeline")
        self.pipe = pipes[0]
        family = family_of(type(self.pipe).__name__)
        component = getattr(self.pipe, family.denoiser)
        denoiser: nn.Module = getattr(component, "_orig_mod", component)
        self._gear = Gear(self.pipe, family, denoiser, find_sites(family, denoiser))
        self.sites: tuple[Site, ...] = tuple(p.site for p in self._gear.placed)
        self.defaults = defaults if isinstance(defaults, Defaults) else parse_defaults(defaults or {})
        self.name = name or type(self.pipe).__name__
        self.tested: SelfTest | None = None
        self._turn = Turn(self.name)
        self._resident = ExitStack()
        self._is_resident = False
        self._fingerprint: tuple[Any, Fingerprint] | None = None
        claim(self, _parts(self.pipe))
        if self_test:
            self.self_test()

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
        digests: str | Path | None = None,
    ) -> Host:
        """A host from a diffusers folder, or a hub id with a pinned revision; only safetensors, every component in
        `dtype`.

        `digests`: a JSON file that keeps weights' digests by path, size and mtime; without it they are computed when
        first asked for. Raises: BadModel, NotSupported.
        """
        loaded = load_pipeline(model, device=device, dtype=dtype, offline=offline, revision=revision)
        host = cls(loaded.pipe, defaults=loaded.defaults, name=loaded.name, self_test=self_test)
        if digests is not None:
            known = loaded.weights_digest(Path(digests), host._gear.denoiser, host._gear.family.denoiser)
            host._fingerprint = (stamp(host._gear.denoiser), fingerprint_of(host.pipe, host._gear.denoiser, known))
        return host

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {type(self.pipe).__name__}, {len(self.sites)} sites)"

    @property
    def fingerprint(self) -> Fingerprint:
        """What packs for this host are bound to, as the weights and adapters are now."""
        now = stamp(self._gear.denoiser)
        if self._fingerprint is None or self._fingerprint[0] != now:
            self._fingerprint = (now, fingerprint_of(self.pipe, self._gear.denoiser))
        return self._fingerprint[1]

    def self_test(self) -> SelfTest:
        """The laws of steering, tried on this host's own weights with a small quick call; also kept in `tested`."""
        self.tested = None
        self.tested = run_self_test(self, self._gear.family, self._gear.pipe)
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
        **pipeline_kwargs: Any,
    ) -> Output:
        """Pictures of `prompts`, each under its plan, from one call of the unmodified pipeline, and a report for each.

        A prompt's k-th picture has the seed `seed + k` (a generator on the CPU, so that a seed means the same on every
        device) and its prompt's plan. `pipeline_kwargs` go over the model's defaults to the pipeline; a name that it
        does not have is an error. `on_step(i, n)` is called after step `i` of `n`; what it raises ends the call and
        comes out of here, with nothing left behind.

        Raises: BadPlan, UnknownSite, NotSupported, Untrusted before the call; HostBusy after `timeout` seconds of
        waiting; NotFired when a site did not do what the plans say: the pictures are lost on purpose.
        """
        count = _checked_count(num_images_per_prompt)
        _check_lengths(prompts, plans=plans, seeds=seeds, negative_prompts=negative_prompts)
        _check_values(prompts, seeds)
        self._check_plans(plans)
        arguments = self.defaults.arguments() | self._checked_kwargs(pipeline_kwargs)
        if arguments.get("num_inference_steps", self.defaults.min_inference_steps) < self.defaults.min_inference_steps:
            raise BadPlan(
                f"num_inference_steps must be at least {self.defaults.min_inference_steps} for `{self.name}`, got"
                f" {arguments['num_inference_steps']}"
            )
        picture_seeds = [seed + k for seed in seeds for k in range(count)]
        if negative_prompts is not None and any(n is not None for n in negative_prompts):
            arguments["negative_prompt"] = [n or "" for n in negative_prompts]
        with self._turn.taken(timeout), self._session(plans, on_step).attached() as session:
            images = self.pipe(
                prompt=list(prompts),
                num_images_per_prompt=count,
                generator=[torch.Generator("cpu").manual_seed(s) for s in picture_seeds],
                **arguments,
            ).images
        kernels = "compiled" if self._is_resident else "eager"
        names = self._gear.names
        return Output(images, reports(session.finished[-1], plans, picture_seeds, names, kernels))

    @contextmanager
    def steer(self, plans: Sequence[Plan | None], *, timeout: float | None = None) -> Iterator[list[Facts]]:
        """Steers the calls of `host.pipe` made inside the block; for callers that drive the pipeline themselves.

        `plans` has one entry a prompt of each call. The model's defaults are not applied. Gives a list to which the
        facts of each call are added when it is over: at the next call, or at the block's end.

        Raises: like `generate`; NeedsRows for a plan that needs rows of its own in the batch.
        """
        self._check_plans(plans)
        with self._turn.taken(timeout), self._session(plans, None).attached() as session:
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
        """What the denoiser was called with, and gave, for the cond row at fractions `at` of one stock run; for
        `replay`.

        The fraction of a step is the one that windows go by; each entry of `at` takes the step that it lies in.
        """
        _check_values([prompt], [seed])
        arguments = self.defaults.arguments() | self._checked_kwargs(pipeline_kwargs)
        arguments |= {
            "prompt": [prompt],
            "generator": [torch.Generator("cpu").manual_seed(seed)],
            "output_type": "latent",
        }
        if negative_prompt is not None:
            arguments["negative_prompt"] = [negative_prompt]
        with self._turn.taken(timeout):
            session = self._session([None], lambda step, steps: None)
            if self._is_resident:
                raise NotSupported(
                    "a compiled denoiser cannot be captured from: a graph takes no notice of the capturing hook"
                )
            return capture_calls(session, self.pipe, arguments, at)

    def replay(
        self, call: Call, plans: Sequence[Plan | None], *, rows_at_once: int = 32, timeout: float | None = None
    ) -> torch.Tensor:
        """The denoiser's raw predictions, float32 [len(plans), c, h, w], for a captured call under each plan.

        The call's row is repeated, `rows_at_once` in one evaluation, each row under its plan; windows are judged at
        the call's own step. This is the cheap way to an exact sweep over sites: one evaluation of a row instead of a
        picture.

        Raises: like `generate`; BadPlan for a plan of uncond rows.
        """
        self._check_plans(plans)
        if type(rows_at_once) is not int or rows_at_once < 1:
            raise BadPlan(f"rows_at_once must be a whole number of at least 1, got `{rows_at_once}`")
        with self._turn.taken(timeout):
            self._settle_in()
            chunks = [plans[i : i + rows_at_once] for i in range(0, len(plans), rows_at_once)]
            parts = [replay_call(self._gear, call, chunk, resident=self._is_resident) for chunk in chunks]
        return torch.cat(parts) if parts else call.prediction.new_zeros(0, *call.prediction.shape)

    def close(self) -> None:
        """Gives the modules back, so that another host may take them; the pipeline is as it was before."""
        self._resident.close()
        self._is_resident = False
        release(self)

    def _session(self, plans: Sequence[Plan | None], on_step: Callable[[int, int], None] | None) -> Session:
        self._settle_in()
        return Session(self._gear, plans, on_step, resident=self._is_resident)

    def _settle_in(self) -> None:
        """Puts hooks on a compiled denoiser once and for all; its graphs must have been traced with them."""
        component = getattr(self.pipe, self._gear.family.denoiser)
        if not self._is_resident and _is_compiled(component, self._gear.denoiser):
            self._resident.enter_context(self._gear.on_all_sites())
            self._is_resident = True

    def _check_plans(self, plans: Sequence[Plan | None]) -> None:
        for plan in plans:
            if plan is not None and not isinstance(plan, Plan):
                raise BadPlan(f"plans must hold `Plan` or None, got `{type(plan).__name__}`")
        steered = [p for p in dict.fromkeys(plans) if p is not None]
        if not steered:
            return
        if self.tested is not None and not self.tested.passed:
            raise Untrusted(f"host `{self.name}` failed its self-test, so it is not steered: {self.tested.failures()}")
        if getattr(self._gear.denoiser, "is_cache_enabled", False):
            raise NotSupported(
                "a step cache skips blocks for the whole batch at once, so rows would couple; disable it to steer"
            )
        self._refuse_strangers([p for p in steered if p.made_for is not None])
        for plan in steered:
            self._check_plan(plan)

    def _refuse_strangers(self, bound: Sequence[Plan]) -> None:
        mine = self.fingerprint.digest if bound else None
        for plan in bound:
            if plan.made_for != mine:
                short = plan.digest[:12]
                raise BadPlan(f"plan `{short}` was made for another host than `{self.name}`; use a pack for this one")

    def _check_plan(self, plan: Plan) -> None:
        for name in plan.sites:
            if name not in self._gear.names:
                raise UnknownSite(self._unknown_site(name))
        for act in plan.interventions:
            if isinstance(act, Swap) and act.source != "text":
                raise NotSupported(
                    f"source `{act.source}` needs a host whose text evolves with the picture; host `{self.name}` has"
                    " cross-attention, where `text` computes the same: use `text`"
                )
            if isinstance(act, Edit):
                _check_width(act, self._gear.placed)

    def _unknown_site(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._gear.names, 1, cutoff=0.0)
        return f"unknown site `{name}` for host `{self.name}`; nearest: `{near[0]}`"

    def _checked_kwargs(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        known = [
            p.name for p in inspect.signature(self.pipe.__call__).parameters.values() if p.kind is not p.VAR_KEYWORD
        ]
        for name in kwargs:
            if name in _OURS:
                raise BadPlan(f"`{name}` is not for `generate`: {_OURS[name]}")
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; nearest: `{near[0]}`" if near else ""
                raise BadPlan(f"unknown argument `{name}` for `{type(self.pipe).__name__}`{hint}")
        return dict(kwargs)


def _parts(pipe: Any) -> dict[str, Any]:
    """What a host claims: modules (behind a compiler's wrapper) and the scheduler, which keeps its place between
    steps."""
    parts = {name: getattr(part, "_orig_mod", part) for name, part in pipe.components.items()}
    return {name: part for name, part in parts.items() if isinstance(part, nn.Module) or name == "scheduler"}


def _is_compiled(component: Any, denoiser: nn.Module) -> bool:
    if component is not denoiser:
        return True
    return any(getattr(m, "_compiled_call_impl", None) is not None for m in denoiser.modules())


def _checked_count(count: int) -> int:
    if type(count) is not int or count < 1:
        raise BadPlan(f"num_images_per_prompt must be a whole number of at least 1, got `{count}`")
    return count


def _check_lengths(prompts: Sequence[str], **others: Sequence[Any] | None) -> None:
    if isinstance(prompts, str):
        raise BadPlan("prompts must be a sequence of prompts, got one string; write `[prompt]`")
    if not prompts:
        raise BadPlan("prompts must have at least one entry")
    for name, values in others.items():
        if values is not None and (isinstance(values, str) or len(values) != len(prompts)):
            got = "a string" if isinstance(values, str) else f"{len(values)}"
            raise BadPlan(f"{name} must have one entry a prompt, {len(prompts)}, got {got}")


def _check_values(prompts: Sequence[str], seeds: Sequence[int]) -> None:
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise BadPlan(f"prompts must hold strings, got `{type(prompt).__name__}`")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise BadPlan(f"seeds must hold whole numbers in [0, 2**63), got `{seed}`")


def _check_width(edit: Edit, placed: Sequence[Placed]) -> None:
    width = edit.operator.e.shape[1]
    for p in placed:
        want = p.text_width if edit.operator.where == "text" else p.output_width
        if p.site.name in edit.sites and width != want:
            raise BadPlan(
                f"operator must be {want} wide for the {edit.operator.where} of site `{p.site.name}`, got {width}"
            )
