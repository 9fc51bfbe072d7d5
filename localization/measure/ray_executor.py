"""Answers cells on many processes or machines, through Ray (extra `ray`): the same cells, the same answers.

Each worker holds a host of its own, made by `build`. Cells of one contrast go to one worker, which keeps the captured
calls. A worker that dies is started again and its cells are asked again: answers depend on nothing but the cell.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from localization.errors import LocalizationError
from localization.measure.cells import Cell, CellAnswer
from localization.measure.worker import Worker

__all__ = ["RayExecutor"]


class _Actor:
    def __init__(self, build: Callable[[], Worker], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)  # sums are split among threads, so their number decides the last bits
        self.worker = build()

    def answer(self, cell: Cell) -> CellAnswer:
        return self.worker.answer(cell)

    def digest(self) -> str:
        return self.worker.digest

    def process(self) -> int:
        import os

        return os.getpid()


class RayExecutor:
    """Answers cells on `workers` Ray actors; a cluster that is there is used, otherwise one is started here.

    `build` must be found by import on every machine, or be picklable. `gpus`: of each worker. `patience`:
    seconds in which all must have begun and loaded the model.

    Raises: LocalizationError, without Ray, without room for the workers, or when their host is another one than
    `digest` says.
    """

    def __init__(
        self,
        build: Callable[[], Worker],
        *,
        digest: str,
        workers: int = 2,
        gpus: float = 0.0,
        address: str | None = None,
        environment: dict[str, str] | None = None,
        patience: float = 900.0,
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise LocalizationError("the executor `ray` needs Ray; install the extra: `palimpsest[ray]`") from error
        import torch

        self._ray, self.digest = ray, digest
        self._started = not ray.is_initialized()
        if self._started:
            ray.init(
                address=address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                num_cpus=None if address else max(workers, 1),
                runtime_env={"env_vars": environment} if environment else None,
            )
        actor: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(_Actor)
        self.workers: list[Any] = [actor.remote(build, torch.get_num_threads()) for _ in range(workers)]
        asked = [w.digest.remote() for w in self.workers]
        ready, late = ray.wait(asked, num_returns=workers, timeout=patience)
        if late:
            self.close()
            raise LocalizationError(
                f"{len(ready)} of {workers} workers began within {patience:g} s; each needs a free CPU"
                + (f" and {gpus:g} GPUs" if gpus else "")
            )
        for got in ray.get(asked):
            if got != digest:
                self.close()
                raise LocalizationError("a worker holds another model than this process; give all the same one")

    def answers(self, cells: Sequence[Cell]) -> Iterator[tuple[int, CellAnswer]]:
        """Each cell's number and answer, as they come."""
        waiting = {self._worker_of(cell).answer.remote(cell): n for n, cell in enumerate(cells)}
        while waiting:
            done, _ = self._ray.wait(list(waiting), num_returns=1)
            for ref in done:
                yield waiting.pop(ref), self._ray.get(ref)

    def close(self) -> None:
        """Ends the workers, and Ray if it was started here."""
        for worker in self.workers:
            self._ray.kill(worker)
        if self._started:
            self._ray.shutdown()

    def _worker_of(self, cell: Cell) -> Any:
        name = repr(cell.contrasts).encode()
        return self.workers[int.from_bytes(hashlib.sha256(name).digest()[:4], "big") % len(self.workers)]
