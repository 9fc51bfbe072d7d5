"""A package as an installer leaves it: a module and a `dist-info` with entry points, in a folder on the path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["install", "python"]

ROOT = Path(__file__).resolve().parent.parent


def install(folder: Path, name: str, source: str, points: Mapping[str, str]) -> None:
    """Puts a package of one module into `folder`; points: for each entry-point group a line `name = module:object`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{lines}\n" for group, lines in points.items()))


def python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter that has this project and the packages in `folder`, as it ends."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    settings = {k: v for k, v in os.environ.items() if not k.startswith("PALIMPSEST_")}
    state = {"XDG_STATE_HOME": str(folder / "state"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=settings | state | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
