"""Owns single calls of the denoiser: captured from a stock run, repeated under many plans at once.

Localization measures in the model's own output; for that a whole trajectory a site would be waste. A captured call is
one row of one evaluation with all its arguments, so nothing here knows what a family passes to its denoiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from .donors import Encoding
from .errors import BadPlan, NotFired
from .gear import Gear
from .plans import Plan
from .program import Layout, Program
from .session import Session

__all__ = ["Call", "capture_calls", "replay_call"]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One row of one call of the denoiser in a stock run.

    `args`, `kwargs`: with a batch of one; `text`: the prompt's encoded text [1, l, d]; `encoding`: how, so that donors
    get the same; `prediction`: what the denoiser gave for the row [c, h, w], float32; `step` of `steps`, at `fraction`
    of the trajectory.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    step: int
    steps: int
    timestep: float
    text: torch.Tensor
    encoding: Encoding
    prediction: torch.Tensor

    @property
    def fraction(self) -> float:
        """Where in the trajectory the call stood, in [0, 1)."""
        return self.step / self.steps


def capture_calls(session: Session, pipe: Any, arguments: dict[str, Any], at: Sequence[float]) -> tuple[Call, ...]:
    """The calls at fractions `at` of one run of the pipeline, in that order. Raises: BadPlan, for a fraction outside
    [0, 1)."""
    for fraction in at:
        if not 0.0 <= fraction < 1.0:
            raise BadPlan(f"fractions of the trajectory must be in [0, 1), got `{fraction}`")
    found: dict[int, Call] = {}

    def keep(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        clock, run = session.clock, session.run
        wanted = {min(int(f * clock.steps + 1e-9), clock.steps - 1) for f in at}
        if run is None or clock.step not in wanted or clock.step in found:
            return
        row, batch = run.layout.rows(0, "cond")[0], run.layout.batch
        found[clock.step] = Call(
            args=tuple(_row(a, row, batch) for a in args),
            kwargs={k: _row(v, row, batch) for k, v in kwargs.items()},
            step=clock.step,
            steps=clock.steps,
            timestep=clock.timesteps[clock.evaluation],
            text=run.text[:1],
            encoding=run.encoding,
            prediction=_prediction(output)[row].float(),
        )

    with session.attached(), ExitStack() as stack:
        handle = session.gear.denoiser.register_forward_hook(keep, with_kwargs=True)
        stack.callback(handle.remove)
        pipe(**arguments)
    if not found:
        raise NotFired("the pipeline ended without a call of its denoiser that could be captured")
    steps = next(iter(found.values())).steps
    return tuple(found[min(int(f * steps + 1e-9), steps - 1)] for f in at)


def replay_call(gear: Gear, call: Call, plans: Sequence[Plan | None], *, resident: bool) -> torch.Tensor:
    """The denoiser's predictions for one captured call under each plan, [len(plans), c, h, w], in one evaluation."""
    rows = len(plans)
    args = tuple(_repeated(a, rows) for a in call.args)
    kwargs = {k: _repeated(v, rows) for k, v in call.kwargs.items()}
    with ExitStack() as stack, torch.no_grad():
        if not any(plans):
            return _prediction(gear.denoiser(*args, **kwargs)).float()
        program = Program(gear.names, Layout(rows, "cond-only"), plans)
        setting = program.at(call.step, call.steps)
        board = gear.board(program, call.encoding, call.text)
        board.write(setting)
        if not resident:
            stack.enter_context(gear.on_sites_of(plans))
        stack.callback(gear.slate.clear)
        gear.slate.board = board
        prediction = _prediction(getattr(gear.pipe, gear.family.denoiser)(*args, **kwargs)).float()
        gear.refuse_silence(board.read()[0], setting.hits.astype("int64"))
    return prediction


def _prediction(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output.sample


def _row(value: Any, row: int, batch: int) -> Any:
    """The part of an argument that belongs to one row; what has no batch axis stays as it is."""
    if isinstance(value, torch.Tensor):
        return value[row : row + 1].clone() if value.dim() and value.shape[0] == batch else value
    if isinstance(value, dict):
        return {k: _row(v, row, batch) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_row(v, row, batch) for v in value)
    return value


def _repeated(value: Any, rows: int) -> Any:
    if isinstance(value, torch.Tensor):
        return value.repeat(rows, *[1] * (value.dim() - 1)) if value.dim() and value.shape[0] == 1 else value
    if isinstance(value, dict):
        return {k: _repeated(v, rows) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_repeated(v, rows) for v in value)
    return value
