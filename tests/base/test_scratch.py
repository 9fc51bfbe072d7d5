"""Temporary folders end with their process, and those of killed processes are swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

CODE = """
import sys, tempfile
from palimpsest_base.scratch import scratch_folder
print(scratch_folder(), flush=True)
sys.stdin.read()
"""


def test_folders_go_with_their_process_or_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from palimpsest_base.scratch import scratch_folder

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", CODE], env=environment, stdin=-1, stdout=-1, text=True)
        for _ in range(2)
    ]
    folders = [Path(process.stdout.readline().strip()) for process in started if process.stdout is not None]
    killed, lives = started
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    assert all(folder.is_dir() for folder in folders)
    own = scratch_folder()
    assert [folder.is_dir() for folder in (*folders, own)] == [False, True, True]
    lives.communicate(timeout=30)
    assert not folders[1].exists()
    (tmp_path / "palimpsest-run-other").mkdir()
    scratch_folder()
    assert (tmp_path / "palimpsest-run-other").is_dir(), "without a lock it is not known to be ours"
