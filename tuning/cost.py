"""What a training step costs, counted exactly: parameters, bytes that autograd keeps, floating-point operations."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from tuning.lessons import Lesson
from tuning.student import Student

__all__ = ["Cost", "count_cost"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one step: `parameters` with gradients, bytes of different tensors that are `saved` for the backward pass and
    of the `optimizer`'s state (AdamW: two numbers a parameter), and `operations`, forward and backward."""

    parameters: int
    saved: int
    optimizer: int
    operations: int


def count_cost(student: Student, lesson: Lesson, parameters: dict[str, Tensor]) -> Cost:
    """The cost of the lesson's first step; gradients are empty afterwards.

    Weights that are kept for the backward pass count only when they are trained: the others are there anyway.
    """
    from torch.utils.flop_counter import FlopCounterMode

    held = {p.untyped_storage().data_ptr() for p in student.denoiser.parameters() if not p.requires_grad}
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    rows = lesson.rows(0)
    counter = FlopCounterMode(display=False)
    with counter:
        with saved_tensors_hooks(pack, lambda t: t):
            told = student.predict(rows.x, rows.timesteps, rows.texts)
            loss = (told - rows.target.to(told)).square().mean()
        loss.backward()
    trained = list(parameters.values())
    for p in trained:
        p.grad = None
    size = sum(p.numel() for p in trained)
    width = sum(p.numel() * p.element_size() for p in trained)
    return Cost(size, sum(kept.values()), 2 * width, int(counter.get_total_flops()))
