"""The loop: a resumed run ends in the same numbers, nothing that goes wrong loses what was there, and the model stays.

| law | mutation that turned it red |
|---|---|
| a resumed run gives the same weights | optimizer, schedule or averages not restored |
| the model is afterwards what it was | adapters not unloaded; gradients left on |
| a loss that is no number ends the run | the check left out |
| located sites keep fewer bytes than all | gradients for frozen weights |
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

SCHEDULE: dict[str, Any] = {"steps": 8, "rate": 1e-2, "warmup": 1, "every": 2}


def _trained(student: Any, lesson: Any, modules: Any, work: Path, *, stop: int | None = None, **more: Any) -> Any:
    from tuning import Schedule, adapters, fit, trained

    class Stopped(Exception):
        pass

    def progress(step: int, steps: int, loss: float) -> None:
        if step == stop:
            raise Stopped

    schedule = Schedule(**{**SCHEDULE, **more})
    with adapters(student.denoiser, modules, 4, seed=5) as parameters:
        try:
            losses = fit(student, lesson, parameters, schedule, work=work, name="run", progress=progress)
        except Stopped:
            return None
        return losses, trained(parameters)


def test_a_stopped_run_goes_on_and_ends_in_the_same_weights(
    student: Any, lesson: Any, pack: Any, host: Any, tmp_path: Path
) -> None:
    from tuning import arm_of

    modules = arm_of(host, "located", pack=pack, side="both").modules
    before = {n: p.detach().clone() for n, p in student.denoiser.named_parameters()}
    whole, lora = _trained(student, lesson, modules, tmp_path / "whole")
    assert _trained(student, lesson, modules, tmp_path / "halves", stop=5) is None
    again, resumed = _trained(student, lesson, modules, tmp_path / "halves")
    assert again == whole
    assert len(whole) == 8
    assert set(resumed) == set(modules)
    assert all(torch.equal(resumed[m].a, lora[m].a) and torch.equal(resumed[m].b, lora[m].b) for m in modules)
    assert any(lora[m].b.abs().max() > 1e-3 for m in modules), "something was learned"
    after = dict(student.denoiser.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert not student.denoiser.training


def test_a_run_of_another_schedule_does_not_take_its_checkpoint(
    student: Any, lesson: Any, pack: Any, host: Any, tmp_path: Path
) -> None:
    from tuning import NotKept, arm_of

    modules = arm_of(host, "located", pack=pack).modules
    _trained(student, lesson, modules, tmp_path)
    with pytest.raises(NotKept, match="of another run"):
        _trained(student, lesson, modules, tmp_path, rate=1e-3)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_checkpoint(
    student: Any, lesson: Any, pack: Any, host: Any, tmp_path: Path
) -> None:
    from tuning import Diverged, arm_of

    class Broken:
        def rows(self, step: int) -> Any:
            rows = lesson.rows(step)
            return replace(rows, target=rows.target * float("nan")) if step == 5 else rows

    modules = arm_of(host, "located", pack=pack).modules
    with pytest.raises(Diverged, match=r"nan at step 6 of 8.*lower `rate`"):
        _trained(student, Broken(), modules, tmp_path)
    assert len(torch.load(tmp_path / "run.pt", weights_only=True)["losses"]) == 4
    losses, _ = _trained(student, lesson, modules, tmp_path)
    assert len(losses) == 8


def test_a_full_disk_is_told_and_the_checkpoint_before_is_kept(
    student: Any, lesson: Any, pack: Any, host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuning import NotKept, arm_of

    modules, save, calls = arm_of(host, "located", pack=pack).modules, torch.save, []

    def full(value: Any, file: Any) -> None:
        calls.append(file)
        if len(calls) == 2:
            Path(file).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(value, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(NotKept, match=r"No space left.*the one before it is kept"):
        _trained(student, lesson, modules, tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["run.pt"]
    assert len(torch.load(tmp_path / "run.pt", weights_only=True)["losses"]) == 2


def test_what_a_step_costs_falls_with_the_sites(student: Any, lesson: Any, pack: Any, host: Any) -> None:
    from tuning import adapters, arm_of, count_cost, parameters_of

    names = [s.name for s in host.sites]
    arms = [arm_of(host, ",".join(names[n:])) for n in (0, 1, 3)] + [arm_of(host, "attention")]
    costs = []
    for arm in arms:
        with adapters(student.denoiser, arm.modules, 4) as parameters:
            costs.append(count_cost(student, lesson, parameters))
            assert all(p.grad is None for p in parameters.values())
        assert costs[-1].parameters == parameters_of(host.denoiser, arm.modules, 4)
    saved, work = [c.saved for c in costs], [c.operations for c in costs]
    assert saved[0] > saved[1] > saved[2]
    assert work[0] > work[1] > work[2]
    assert saved[3] > saved[0]
    assert work[3] > work[0]
    assert saved[2] < 0.6 * saved[0], "nothing below the lowest trained block is kept"


def test_arms_name_exactly_their_modules(host: Any, pack: Any) -> None:
    from tuning import BadArm, arm_of, matched_rank, parameters_of

    names = [s.name for s in host.sites]
    located = arm_of(host, "located", pack=pack)
    assert located.modules == tuple(f"{s}.{part}" for s in names[1:3] for part in ("to_k", "to_v"))
    image = arm_of(host, "located", pack=pack, side="image").modules
    assert image == tuple(f"{s}.{part}" for s in names[1:3] for part in ("to_q", "to_out.0"))
    assert set(arm_of(host, "located", pack=pack, side="both").modules) == {*located.modules, *image}
    assert arm_of(host, "least", pack=pack).sites == (names[0], names[3])
    assert set(arm_of(host, "random", pack=pack, seed=1).sites) == {names[0], names[3]}
    block = arm_of(host, names[2], side="block").modules
    assert f"{names[2].removesuffix('.attn2')}.attn1.to_q" in block
    assert not any(names[1][:-6] + "." in m for m in block)
    whole = arm_of(host, "attention")
    assert len(whole.modules) == 4 * 2 * 4
    budget = parameters_of(host.denoiser, located.modules, 8)
    rank = matched_rank(host.denoiser, whole, budget)
    assert abs(parameters_of(host.denoiser, whole.modules, rank) - budget) <= parameters_of(
        host.denoiser, whole.modules, 1
    )
    with pytest.raises(BadArm, match=f"nearest: `{names[0]}`"):
        arm_of(host, "transformer_blocks.0.attn")
    with pytest.raises(BadArm, match="needs a pack"):
        arm_of(host, "located")


def test_a_model_in_half_precision_is_trained_and_its_adapters_are_whole(tmp_path: Path) -> None:
    from steering import Host
    from tests.tiny import save_pixart
    from tests.tuning.conftest import picture
    from tuning import Captioned, Student, arm_of, learn_lesson

    host = Host.load(save_pixart(tmp_path / "model"), dtype=torch.bfloat16, self_test=False)
    student = Student(host)
    shown = [Captioned(picture(n), f"zev {n}") for n in range(2)]
    made = learn_lesson(student, shown, shown, batch=4, seed=0, size=(64, 64))
    modules = arm_of(host, host.sites[1].name, side="both").modules

    class Same:
        def rows(self, step: int) -> Any:
            return made.rows(0)

    losses, lora = _trained(student, Same(), modules, tmp_path)
    assert losses[-1] < losses[0]
    assert all(own.b.abs().max() > 0 for own in lora.values())
    assert host.denoiser.dtype == torch.bfloat16
