"""Who answers cells is no matter: the same cells, the same answers, and a worker that dies is made up for.

| law | mutation that turned it red |
|---|---|
| a key names all that an answer depends on | `steps` left out of the cell |
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from localization import Cell, KeptExecutor, LocalExecutor, LocalizationError, Treatment, Worker, lettering_contrasts
from localization.measure.ray_executor import RayExecutor
from tests.tiny import save_pixart

POINTS = ((1.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.5, 0.5))


def worker_on(folder: Path) -> Worker:
    """A worker on the tiny model in a folder."""
    from steering import Host

    return Worker(Host.load(folder, self_test=False))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pixart(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def here(folder: Path) -> LocalExecutor:
    return LocalExecutor(worker_on(folder))


@pytest.fixture(scope="module")
def cells(here: LocalExecutor) -> list[Cell]:
    units = len(here.worker.host.units)
    points = tuple(tuple((p * units)[:units]) for p in POINTS)
    pairs = lettering_contrasts(3, seed=1)
    made = [Cell(kind, (c,), (0.1, 0.6), 3, points) for kind in ("effects", "slopes") for c in pairs]  # type: ignore[arg-type]
    made += [Cell("writes", (c,), (0.1,), 3) for c in pairs]
    site = here.worker.host.sites[0].name
    return [*made, Cell("pictures", tuple(pairs[:2]), treatment=Treatment((site,)), keep=1)]


@pytest.fixture(scope="module")
def ray_workers(folder: Path, here: LocalExecutor) -> Iterator[RayExecutor]:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    executor = RayExecutor(
        partial(worker_on, folder), digest=here.digest, workers=1, environment={"PYTHONPATH": os.getcwd()}
    )
    yield executor
    executor.close()


def all_of(executor: Any, cells: list[Cell]) -> list[Any]:
    told = dict(executor.answers(cells))
    return [told[n] for n in range(len(cells))]


def test_a_worker_with_another_model_is_refused(folder: Path) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with pytest.raises(LocalizationError, match="another model"):
        RayExecutor(partial(worker_on, folder), digest="another", workers=1, environment={"PYTHONPATH": os.getcwd()})
    assert not ray.is_initialized()


@pytest.mark.slow
def test_ray_says_what_this_process_says(here: LocalExecutor, ray_workers: RayExecutor, cells: list[Cell]) -> None:
    assert all_of(ray_workers, cells) == all_of(here, cells)


@pytest.mark.slow
def test_a_killed_worker_is_made_up_for(here: LocalExecutor, ray_workers: RayExecutor, cells: list[Cell]) -> None:
    import ray

    expected = all_of(here, cells)
    victim = ray.get(ray_workers.workers[0].process.remote())
    answers = ray_workers.answers(cells)
    first = next(answers)
    os.kill(victim, signal.SIGKILL)
    told = dict([first, *answers])
    assert [told[n] for n in range(len(cells))] == expected
    assert ray.get(ray_workers.workers[0].process.remote()) != victim


def test_workers_without_room_are_given_up(ray_workers: RayExecutor, folder: Path) -> None:
    with pytest.raises(LocalizationError, match=r"0 of 1 workers began within 2 s; each needs a free CPU"):
        RayExecutor(partial(worker_on, folder), digest=ray_workers.digest, workers=1, patience=2)


def test_a_key_names_all_that_an_answer_depends_on(cells: list[Cell]) -> None:
    cell = cells[0]
    others = [
        replace(cell, kind="slopes"),
        replace(cell, contrasts=cells[1].contrasts),
        replace(cell, levels=(0.1,)),
        replace(cell, steps=4),
        replace(cell, points=cell.points[:1]),
        replace(cell, published=True),
        replace(cell, treatment=Treatment(("x",))),
        replace(cell, keep=2),
        replace(cell, witness="ocr"),
    ]
    keys = {c.key("host") for c in [cell, *others]} | {cell.key("another host")}
    assert len(keys) == len(others) + 2
    assert replace(cell).key("host") == cell.key("host")


def test_what_was_kept_is_not_asked_again(here: LocalExecutor, cells: list[Cell], tmp_path: Path) -> None:
    first = KeptExecutor(here, tmp_path)
    told = all_of(first, cells[:4])
    again = KeptExecutor(LocalExecutor(worker_of_nothing(here)), tmp_path)
    assert all_of(again, cells[:4]) == told
    assert (first.asked, again.found, again.asked) == (4, 4, 0)


def worker_of_nothing(here: LocalExecutor) -> Worker:
    """A worker that may name its host and nothing else."""

    class Silent(Worker):
        def answer(self, cell: Cell) -> Any:
            raise AssertionError("asked although it was kept")

    return Silent(here.worker.host)
