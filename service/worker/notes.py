"""Notes between the worker processes of one server: each worker keeps its state in one small file.

BentoML's workers have no channel between them, and a request reaches only one of them. Notes of dead processes are
skipped and removed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["WorkerNotes", "notes_folder"]


def notes_folder() -> Path:
    """A folder that all workers of this server, and no other server, know."""
    prometheus = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(prometheus).parent / "workers" if prometheus else Path(tempfile.mkdtemp(prefix="palimpsest-notes-"))


class WorkerNotes:
    """The notes in `folder`: `publish` replaces the one of this process, `read` returns those of all live workers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own = folder / f"{os.getpid()}.json"

    def publish(self, note: Mapping[str, Any]) -> None:
        """Writes this process's note in place of the one before, atomically."""
        fresh = self._own.with_suffix(".fresh")
        fresh.write_text(json.dumps({"pid": os.getpid(), **note}), encoding="utf-8")
        fresh.replace(self._own)

    def read(self) -> list[dict[str, Any]]:
        """The notes of live workers, oldest process first."""
        notes = []
        for file in sorted(self._folder.glob("*.json"), key=lambda f: int(f.stem)):
            if not _alive(int(file.stem)):
                file.unlink(missing_ok=True)
                continue
            try:
                notes.append(json.loads(file.read_text(encoding="utf-8")))
            except FileNotFoundError:  # it left just now
                continue
        return notes

    def withdraw(self) -> None:
        """Removes this process's note."""
        self._own.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
