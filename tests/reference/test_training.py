"""The training loop: a stopped run goes on where it was, and what its optimizer and its schedule do."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from torch import nn

from reference.loop import Muon, Schedule, fit


def _run(folder: Path, *, stops: tuple[int, ...]) -> torch.Tensor:
    for stop in stops:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

        def loss(step: int, model: nn.Module = model) -> torch.Tensor:
            x = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
            return (model(x)[:, 0] - x[:, 0] * x[:, 1]).square().mean()

        class Stop(Exception): ...

        def until(step: int, stop: int = stop) -> None:
            if step == stop:
                raise Stop

        schedule = Schedule(steps=40, lr=1e-2, muon_lr=1e-2, average=0.9)
        try:
            fit(
                {"m": model}, loss, schedule, folder=folder, name="m", every=10, on_checkpoint=until, log=lambda _: None
            )
        except Stop:
            continue
        return torch.cat([p.detach().flatten() for p in model.parameters()])
    raise AssertionError("the last run must end")


def test_a_resumed_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = _run(tmp_path / "a", stops=(0,))
    resumed = _run(tmp_path / "b", stops=(10, 30, 0))
    assert torch.equal(whole, resumed)
    untrained = _run_untrained()
    assert (whole - untrained).abs().max() > 1e-2


def _run_untrained() -> torch.Tensor:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_muon_moves_in_all_directions_alike() -> None:
    weight = nn.Parameter(torch.zeros(6, 4))
    weight.grad = torch.diag(torch.tensor([1.0, 1e-1, 1e-2, 1e-2])).repeat(2, 1)[:6]
    Muon([weight], lr=1.0, weight_decay=0.0).step()
    values = torch.linalg.svdvals(weight.detach())
    assert values.max() / values.min() < 2.5  # the gradient's own ratio is over 50


def test_a_schedule_warms_up_stays_and_cools_down() -> None:
    factors = [Schedule(steps=100, lr=1.0, warmup=0.1, cooldown=0.5).factor(s) for s in range(100)]
    assert factors[0] < factors[5] < 1
    assert factors[10:50] == [1.0] * 40
    assert all(a > b for a, b in itertools.pairwise(factors[50:]))
