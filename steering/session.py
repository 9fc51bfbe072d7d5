"""Owns one use of a host's pipeline: watches it encode, start its scheduler and step, and keeps the board in step with
it.

Everything is learned from the call itself: the rows from what `encode_prompt` returned, the place in the trajectory
from the scheduler, the way of encoding donors from the arguments that the pipeline gave its own encoder. At the end
the counters are read once and compared with what the plans said; a difference raises, because a silent no-op is the
worst that a safety system can do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from .attach import hooked, replaced
from .board import Board, Slate, after_hook, before_hook, to_tables
from .clock import Clock
from .donors import DonorCache, Encoding, to_bank
from .errors import BadPlan, NotFired
from .families import Family, Placed
from .plans import Donor, Edit, Plan
from .program import COUNTED, Ints, Layout, Program
from .stamps import stamp

__all__ = ["Facts", "Gear", "Session"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What one call of the pipeline was: `fired` [3, L, B] and `dose` [L, B] are None when it carried no plan."""

    layout: Layout
    images: int  # per prompt
    text_tokens: int
    dtype: str
    device: str
    steps: int
    fired: Ints | None
    dose: np.ndarray | None


class Gear:
    """What a host keeps between calls: the pipeline's parts, hooks made once, donors, and a board to use again."""

    def __init__(self, pipe: Any, family: Family, denoiser: nn.Module, placed: tuple[Placed, ...]) -> None:
        self.pipe, self.family, self.denoiser, self.placed = pipe, family, denoiser, placed
        self.slate = Slate()
        self.donors = DonorCache()
        self.board: Board | None = None
        self.before = tuple(before_hook(self.slate, i, p) for i, p in enumerate(placed))
        self.after = tuple(after_hook(self.slate, i) for i in range(len(placed)))

    def names(self) -> tuple[str, ...]:
        """The sites' names in execution order."""
        return tuple(p.site.name for p in self.placed)


class _Run:
    """One call of the pipeline inside a session."""

    def __init__(self, layout: Layout, images: int, text: torch.Tensor) -> None:
        self.layout, self.images, self.text = layout, images, text
        self.program: Program | None = None
        self.board: Board | None = None
        self.expected = np.zeros(0, np.int64)
        self.steps = 0


class Session:
    """The calls of the pipeline between enter and exit. `plans`: one entry a prompt; `finished`: facts of the calls,
    in order."""

    def __init__(
        self, gear: Gear, plans: Sequence[Plan | None], on_step: Callable[[int, int], None] | None, *, resident: bool
    ) -> None:
        self.gear, self.plans, self.on_step, self.resident = gear, tuple(plans), on_step, resident
        self.clock = Clock()
        self.finished: list[Facts] = []
        self._run: _Run | None = None
        self._steered = any(self.plans)

    @contextmanager
    def attached(self) -> Iterator[Session]:
        """The session, with the pipeline watched and the sites hooked; nothing is left of it afterwards, whatever
        happens."""
        pipe, family = self.gear.pipe, self.gear.family
        with ExitStack() as stack:
            stack.callback(self._lay_down)
            stack.enter_context(replaced(pipe, family.encode.method, self._encode))
            if self._steered or self.on_step is not None:
                stack.enter_context(replaced(pipe.scheduler, "set_timesteps", self._set_timesteps))
                if hasattr(pipe.scheduler, "set_begin_index"):
                    stack.enter_context(replaced(pipe.scheduler, "set_begin_index", self._set_begin_index))
                stack.enter_context(replaced(pipe.scheduler, "step", self._step))
            if self._steered and not self.resident:
                for module, before, after in self._wanted_hooks():
                    stack.enter_context(hooked(module, before, after))
            self.gear.slate.armed = self._steered
            yield self
            self._close_run()

    def _lay_down(self) -> None:
        self.gear.slate.board = None
        self.gear.slate.armed = False
        self._run = None

    def _wanted_hooks(self) -> Iterator[tuple[nn.Module, Callable[..., Any] | None, Callable[..., Any] | None]]:
        acts = [i for plan in self.plans if plan for i in plan.interventions]
        outputs = {n for i in acts if isinstance(i, Edit) and i.operator.where == "output" for n in i.sites}
        texts = {n for i in acts if not (isinstance(i, Edit) and i.operator.where == "output") for n in i.sites}
        for k, placed in enumerate(self.gear.placed):
            before = self.gear.before[k] if placed.site.name in texts else None
            after = self.gear.after[k] if placed.site.name in outputs else None
            if before or after:
                yield placed.module, before, after

    # what the pipeline does, in the order in which it does it

    def _encode(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._close_run()  # an earlier call of the pipeline inside `host.steer`
        result = original(*args, **kwargs)
        self._open_run(Encoding(self.gear.family.encode, original, _arguments(original, args, kwargs)), result)
        return result

    def _set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        self.clock.start(self.gear.pipe.scheduler.timesteps.tolist())
        self._show()
        return result

    def _set_begin_index(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        self.clock.start(self.clock.timesteps, int(self.gear.pipe.scheduler.begin_index or 0))
        self._show()
        return result

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        run, step = self._run, self.clock.step
        if run is not None and run.program is not None:
            run.expected += run.program.at(step, self.clock.steps).hits
        result = original(*args, **kwargs)
        self.clock.advance(self.gear.pipe.scheduler, kwargs["timestep"] if "timestep" in kwargs else args[1])
        self._show()
        if self.clock.step != step:
            if run is not None:
                run.steps += 1
            if self.on_step is not None:
                self.on_step(step, self.clock.steps)
        return result

    # one call of the pipeline

    def _open_run(self, encoding: Encoding, result: Sequence[Any]) -> None:
        rule = encoding.rule
        named = dict(zip(rule.returns, result, strict=False))
        text, images = named["text"], int(encoding.arguments[rule.images])
        guided = bool(encoding.arguments[rule.guidance]) and named.get("negative_text") is not None
        if text.shape[0] != len(self.plans) * images:
            raise BadPlan(
                f"plans must have one entry a prompt: {text.shape[0] // images} prompts, got {len(self.plans)} plans"
            )
        order = self.gear.family.guidance if guided else "cond-only"
        run = self._run = _Run(Layout(text.shape[0], order), images, text)
        self.clock = Clock()
        self.gear.slate.board = None
        if self._steered:
            run.program = Program(self.gear.names(), run.layout, [p for p in self.plans for _ in range(images)])
            run.board = self._board(run, run.program, [self._donor(d, encoding) for d in run.program.donors])
            run.expected = np.zeros((len(COUNTED), len(self.gear.placed), run.layout.batch), np.int64)

    def _donor(self, donor: str | Donor, encoding: Encoding) -> Donor:
        if isinstance(donor, Donor):
            return donor
        key = (donor, encoding.key, stamp(getattr(self.gear.pipe, encoding.rule.encoder, None)))
        return self.gear.donors.get(key, lambda: encoding.encode(donor))

    def _board(self, run: _Run, program: Program, donors: Sequence[Donor]) -> Board:
        gear, first = self.gear, self.gear.placed[0]
        pictures = run.layout.pictures
        bank = to_bank(
            donors,
            pictures * max(1, -(-len(donors) // pictures)),  # one shape for most plans: what is compiled stays
            run.text,
            projection=getattr(gear.denoiser, gear.family.projection or "", None),
            masked=first.rule.mask.masked if first.rule.mask else 0.0,
            width=first.text_width,
        )
        wheres: list[str] = sorted({o.where for o in program.operators})
        widths = {"text": first.text_width, "output": first.output_width}
        tables = {w: to_tables(program.operators, w, widths[w], bank.text.device) for w in wheres}
        if gear.board is None or not gear.board.fits(len(gear.placed), run.layout.batch, bank, wheres):
            gear.board = Board(len(gear.placed), run.layout.batch, bank, wheres)
        gear.board.load(bank, tables)
        return gear.board

    def _show(self) -> None:
        run = self._run
        if run is not None and run.board is not None and run.program is not None and self.clock.running:
            run.board.write(run.program.at(self.clock.step, self.clock.steps))
            self.gear.slate.board = run.board

    def _close_run(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        fired = dose = None
        if run.board is not None:
            fired, dose = run.board.read()
            self._refuse_silence(run, fired)
        device, dtype = str(run.text.device), str(run.text.dtype).removeprefix("torch.")
        facts = Facts(run.layout, run.images, int(run.text.shape[1]), dtype, device, run.steps, fired, dose)
        self.finished.append(facts)

    def _refuse_silence(self, run: _Run, fired: Ints) -> None:
        if run.steps == 0:
            raise NotFired("the pipeline ended without a step of its scheduler, so no plan was carried out")
        wrong = np.argwhere((fired != run.expected).any(axis=2))
        if len(wrong):
            kind, site = wrong[0]
            got, want = int(fired[kind, site].sum()), int(run.expected[kind, site].sum())
            raise NotFired(
                f"site `{self.gear.placed[site].site.name}` replaced {got} rows where the plans say {want}"
                f" ({len(wrong)} such sites); the picture must not be used. A cause may be a module that was compiled,"
                " wrapped or cached after the host was made"
            )


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
