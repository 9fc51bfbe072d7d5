"""A package of another product that hides one of ours is told in one line, before anything fails inside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from palimpsest_base.rooms import ROOMS, foreign_rooms

ROOT = Path(__file__).resolve().parents[2]


def test_here_every_room_is_ours() -> None:
    assert foreign_rooms() == ()
    assert all((ROOT / room / "__init__.py").is_file() for room in ROOMS)


def test_a_foreign_package_of_a_rooms_name_ends_the_command_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    done = subprocess.run(
        [sys.executable, "-m", "palimpsest", "config"], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"error: the package `policies` must be `{ROOT / 'policies'}`, got `{tmp_path / 'policies'}`"
    )
