"""When a worker takes connections; real processes hold the lock and pin the notes.

| the law that goes red | when this is broken |
|---|---|
| a worker beside a ready one waits until it is ready itself | `_neighbour_is_ready` says no |
| of two that start, one accepts at once | `_am_first` says yes to everybody |
| when the first one is gone, the next one accepts | the lock is a file that somebody has to remove |
| a worker that failed or ends does not wait | `wait` asks for "ready" instead of "starting" |
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.worker.accepting import Acceptance
from service.worker.notes import WorkerNotes

WORKER = """
import asyncio, sys, time
from pathlib import Path
from service.worker.notes import WorkerNotes
from service.worker.accepting import Acceptance
folder, state = Path(sys.argv[1]), sys.argv[2]
WorkerNotes(folder).publish({"state": state})
door = Acceptance(folder)
asyncio.run(door.wait(lambda: state))
print("accepts", flush=True)
time.sleep(60)
"""


@contextmanager
def worker(folder: Path, state: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another worker process that accepts already."""
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(folder), state], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"accepts\n"
        yield process
    finally:
        process.kill()
        process.wait()


def waited(folder: Path, states: dict[float, str], *, at_most: float = 5.0) -> float:
    """The seconds until a worker of this process accepts, whose state becomes what `states` says after each time."""
    WorkerNotes(folder).publish({"state": "starting"})
    began = time.monotonic()

    def state() -> str:
        return [s for at, s in sorted(states.items()) if at <= time.monotonic() - began][-1]

    asyncio.run(asyncio.wait_for(Acceptance(folder).wait(state, every=0.01), at_most))
    return time.monotonic() - began


def test_the_only_worker_accepts_at_once(tmp_path: Path) -> None:
    assert waited(tmp_path, {0: "starting"}) < 0.5


def test_a_worker_beside_a_ready_one_accepts_when_it_is_ready_itself(tmp_path: Path) -> None:
    with worker(tmp_path, "ready"):
        assert waited(tmp_path, {0: "starting", 0.5: "ready"}) >= 0.5


def test_of_two_that_start_one_accepts_and_when_it_is_gone_the_other_does(tmp_path: Path) -> None:
    with worker(tmp_path, "starting") as first:
        assert waited(tmp_path, {0: "starting", 0.5: "ready"}) >= 0.5
        first.kill()
        first.wait()
        assert waited(tmp_path, {0: "starting"}) < 0.5


def test_a_worker_that_failed_or_ends_does_not_wait(tmp_path: Path) -> None:
    with worker(tmp_path, "ready"):
        for state in ("failed", "stopping"):
            assert waited(tmp_path, {0: state}) < 0.5
