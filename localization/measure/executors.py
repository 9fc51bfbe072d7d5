"""Owns who answers cells: this process, or what was kept of an earlier run; `ray_executor` asks other machines.

Answers come as they are ready, with the number of their cell. Whoever answers, they are the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from localization.errors import NotKept
from localization.measure.cells import Answer, Cell
from localization.measure.worker import Worker

__all__ = ["Executor", "KeptExecutor", "LocalExecutor"]


class Executor(Protocol):
    """Answers cells; `digest` names the host on which it does."""

    digest: str

    def answers(self, cells: Sequence[Cell]) -> Iterator[tuple[int, Answer]]:
        """Each cell's number and answer, in any order."""
        ...

    def close(self) -> None:
        """Gives back what was taken."""
        ...


class LocalExecutor:
    """Answers one cell after the other in this process."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.digest = worker, worker.digest

    def answers(self, cells: Sequence[Cell]) -> Iterator[tuple[int, Answer]]:
        """Each cell's number and answer, in order."""
        for n, cell in enumerate(cells):
            yield n, self.worker.answer(cell)

    def close(self) -> None:
        """Nothing was taken."""


class KeptExecutor:
    """Answers from files where there are any, asks `inner` for the rest, and keeps what it says at once.

    One JSON file a cell, named by the cell's key, moved into place when it is whole: a run that was killed goes on
    where it was. A file that is damaged is asked for again.
    """

    def __init__(self, inner: Executor, folder: Path) -> None:
        self.inner, self.folder, self.digest = inner, folder, inner.digest
        self.found = self.asked = 0

    def answers(self, cells: Sequence[Cell]) -> Iterator[tuple[int, Answer]]:
        """Each cell's number and answer: those that were kept first."""
        missing = []
        for n, cell in enumerate(cells):
            answer = self._load(cell)
            if answer is None:
                missing.append(n)
            else:
                self.found += 1
                yield n, answer
        for m, answer in self.inner.answers([cells[n] for n in missing]):
            self._keep(cells[missing[m]], answer)
            self.asked += 1
            yield missing[m], answer

    def close(self) -> None:
        """Closes the one who was asked."""
        self.inner.close()

    def _file(self, cell: Cell) -> Path:
        key = cell.key(self.digest)
        return self.folder / key[:2] / f"{key}.json"

    def _load(self, cell: Cell) -> Answer | None:
        try:
            answer = json.loads(self._file(cell).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return answer if isinstance(answer, dict) else None

    def _keep(self, cell: Cell, answer: Answer) -> None:
        file = self._file(cell)
        fresh = file.with_suffix(f".{os.getpid()}.new")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as out:
                json.dump(answer, out)
                out.flush()
                os.fsync(out.fileno())
            fresh.replace(file)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink()
            raise NotKept(
                f"cannot keep an answer in `{self.folder}`: {error.strerror}; what was answered before is kept, so"
                " make room and run the same command again"
            ) from error
