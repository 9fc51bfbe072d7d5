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

from .attach import replaced
from .board import Board
from .clock import Clock
from .donors import Encoding
from .errors import BadPlan, NotFired
from .gear import Gear
from .plans import Plan
from .program import COUNTED, Ints, Layout, Program

__all__ = ["Facts", "Run", "Session"]


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


class Run:
    """One call of the pipeline inside a session."""

    def __init__(self, layout: Layout, images: int, text: torch.Tensor, encoding: Encoding) -> None:
        self.layout, self.images, self.text, self.encoding = layout, images, text, encoding
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
        self.run: Run | None = None
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
            if not self.resident:
                stack.enter_context(self.gear.on_sites_of(self.plans))
            self.gear.slate.armed = self._steered
            yield self
            self._close_run()

    def _lay_down(self) -> None:
        self.gear.slate.clear()
        self.run = None

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
        run, step = self.run, self.clock.step
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
        run = self.run = Run(Layout(text.shape[0], order), images, text, encoding)
        self.clock = Clock()
        self.gear.slate.board = None
        if self._steered:
            run.program = Program(self.gear.names, run.layout, [p for p in self.plans for _ in range(images)])
            run.board = self.gear.board(run.program, encoding, text)
            run.expected = np.zeros((len(COUNTED), len(self.gear.placed), run.layout.batch), np.int64)

    def _show(self) -> None:
        run = self.run
        if run is not None and run.board is not None and run.program is not None and self.clock.running:
            run.board.write(run.program.at(self.clock.step, self.clock.steps))
            self.gear.slate.board = run.board

    def _close_run(self) -> None:
        run, self.run = self.run, None
        if run is None:
            return
        fired = dose = None
        if run.board is not None:
            fired, dose = run.board.read()
            if run.steps == 0:
                raise NotFired("the pipeline ended without a step of its scheduler, so no plan was carried out")
            self.gear.refuse_silence(fired, run.expected)
        device, dtype = str(run.text.device), str(run.text.dtype).removeprefix("torch.")
        facts = Facts(run.layout, run.images, int(run.text.shape[1]), dtype, device, run.steps, fired, dose)
        self.finished.append(facts)


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
