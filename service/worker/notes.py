"""Notes that the worker processes of one server share: each worker keeps one small file with its state.

BentoML's workers have no channel between them, and a request reaches only one of them. Notes of dead processes are
ignored and removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest_base.scratch import scratch_folder

__all__ = ["WATCHED", "WorkerNotes", "notes_folder"]

WATCHED = "_PALIMPSEST_WATCHED"  # set where `palimpsest serve` reads the notes and says what they say


def notes_folder() -> Path:
    """The folder that the workers of this server share, and no other server uses."""
    prometheus = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(prometheus).parent / "workers" if prometheus else scratch_folder()


class WorkerNotes:
    """The notes in `folder`. `publish` replaces the note of this process; `read` returns those of all live workers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._own = folder / f"{os.getpid()}.json"

    def publish(self, note: Mapping[str, Any]) -> None:
        """Replaces the note of this process, atomically."""
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
