"""Executors answer cells: in this process, or from the files of an earlier run. `ray_executor` uses other machines.

Answers come as they are ready, with the number of their cell. Every executor gives the same answers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from localization.errors import NotKept
from localization.measure.cells import Cell, CellAnswer
from localization.measure.worker import Worker

__all__ = ["Executor", "KeptExecutor", "LocalExecutor"]


class Executor(Protocol):
    """Answers cells; `digest` names the host on which it does."""

    digest: str

    def answers(self, cells: Sequence[Cell]) -> Iterator[tuple[int, CellAnswer]]:
        """Each cell's number and answer, in any order."""
        ...

    def close(self) -> None:
        """Releases processes and connections."""
        ...


class LocalExecutor:
    """Answers one cell after the other in this process."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.digest = worker, worker.digest

    def answers(self, cells: Sequence[Cell]) -> Iterator[tuple[int, CellAnswer]]:
        """Each cell's number and answer, in order."""
        for n, cell in enumerate(cells):
            yield n, self.worker.answer(cell)

    def close(self) -> None:
        """Nothing has to be released."""


class KeptExecutor:
    """Answers from files where there are any, asks `inner` for the rest, and keeps its answers at once.

    One JSON file a cell, named by the cell's key, moved into place when it is whole: a run that was killed goes on
    where it was. A file that is damaged is asked for again.
    """

    def __init__(self, inner: Executor, folder: Path) -> None:
        self.inner, self.folder, self.digest = inner, folder, inner.digest
        self.found = self.asked = 0

    def answers(self, cells: Sequence[Cell]) -> Iterator[tuple[int, CellAnswer]]:
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
        """Closes the inner executor."""
        self.inner.close()

    def _file(self, cell: Cell) -> Path:
        key = cell.key(self.digest)
        return self.folder / key[:2] / f"{key}.json"

    def _load(self, cell: Cell) -> CellAnswer | None:
        try:
            answer = json.loads(self._file(cell).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return answer if isinstance(answer, dict) else None

    def _keep(self, cell: Cell, answer: CellAnswer) -> None:
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
                f"cannot write an answer into `{self.folder}`: {error.strerror}; earlier answers are kept, so make room"
                " and run the same command again"
            ) from error
