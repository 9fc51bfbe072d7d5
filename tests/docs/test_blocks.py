"""Every command block of README and the pages runs as written.

The blocks of a page run in order in one empty folder. `palimpsest` runs in this process, so that torch is imported
once, and what it prints goes into the file after `>`; lines with pipes and other commands run in a shell, each in one
of its own. A line that serves starts a real worker with its settings, without HTTP before it, and ends it when it is
ready. Requests to port 3000 go to one real server under the shipped policies. `pip install` installs into a folder of
the page.

| mutation | turns red |
|---|---|
| an option that a command does not have | the page |
| a policy whose own test fails | the page |
| a serve line whose policy refuses to load on its model | the page |
| a block in an unknown language, or skipped without a reason | blocks are in languages that run |
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service.metrics.recorder import Recorder
from service.settings import Settings
from service.worker.runtime import Runtime
from tests.docs.pages import LANGUAGES, PAGES, ROOT, Block, blocks_of, lines_of, page_id
from tests.running import Server, command_line, free_port

MOST_NOT_RUN = 13
_PIP = ("pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps")
RUN = ("sh", "python", "yaml", "toml")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_blocks_are_in_languages_that_run_or_say_why_they_do_not(page: Path) -> None:
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{block} is in `{block.language}`"
        if block.language == "yaml":
            assert block.file, f"{block} does not begin with `# NAME.yaml`"
        if block.why is not None:
            assert len(block.why.split()) > 2, f"{block} gives no reason"


def test_few_blocks_are_not_run() -> None:
    skipped = [b for page in PAGES for b in blocks_of(page) if b.why is not None]
    every = [b for page in PAGES for b in blocks_of(page) if b.language in RUN]
    assert len(skipped) <= MOST_NOT_RUN, [str(b) for b in skipped]
    assert len(skipped) < len(every) / 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.language in RUN and b.why is None for b in blocks_of(p))], ids=page_id
)
def test_the_blocks_of_a_page_run_in_order(
    page: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, server)
    for name, value in run.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("service.worker.launch.serve", run.served)
    monkeypatch.syspath_prepend(str(run.installed))
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(page):
        if block.why is None and block.language in RUN:
            run.block(block)


@dataclass
class Run:
    """The state that the blocks of a page share: a folder like the repository's root, names of Python, a server."""

    folder: Path
    server: Server
    names: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)  # of servers that are checked and not started

    def __post_init__(self) -> None:
        for name in ("reference", "policies"):
            (self.folder / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "examples", self.folder / "examples")  # `pip install` writes into what it installs
        self.installed.mkdir()
        command = self.folder / ".bin" / "palimpsest"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from palimpsest.cli.main import main; main()" "$@"\n')
        command.chmod(0o755)
        (command.parent / "python").symlink_to(sys.executable)

    @property
    def installed(self) -> Path:
        """The folder that `pip install` installs into."""
        return self.folder / ".installed"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / '.bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{self.installed}{os.pathsep}{ROOT}",
            "PALIMPSEST_STATE": str(self.server.folder / "state"),
            "PALIMPSEST_PORT": str(self.port),
            "PALIMPSEST_THREADS": "1",
        }

    def block(self, block: Block) -> None:
        """Runs a block. Raises AssertionError with its place."""
        text = block.text.replace("http://127.0.0.1:3000", self.server.url)
        if block.language == "python":
            exec(compile(text, str(block), "exec"), self.names)
        elif block.language == "sh":
            for line in lines_of(Block(block.page, block.line, "sh", text, None)):
                self.line(line, block)
        elif block.language == "toml":
            tomllib.loads(text)
        if block.file is not None:
            (self.folder / block.file).write_text(text, "utf-8")
        if "palimpsest.policy/v1" in text and block.language == "yaml":
            self.invoke(["policy", "test", str(block.file)], block)

    def line(self, line: str, block: Block) -> None:
        """Runs one command: ours in this process, others in a shell."""
        ours, target = re.fullmatch(r"(.*?)(?: > ([\w./-]+))?", line).groups()  # type: ignore[union-attr]
        settings, words = _split(ours)
        if words[:1] == ["palimpsest"] and not re.search(r"[|<>&;$]", re.sub(r"'[^']*'|\"[^\"]*\"", "", ours)):
            out = self.invoke(words[1:], block, **settings)
            if target is not None:
                (self.folder / target).write_text(out, "utf-8")
            return
        if words[:2] == ["pip", "install"]:
            line = shlex.join([sys.executable, "-m", *_PIP, "--target", str(self.installed), *words[2:]])
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", line], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (
            f"{block}: `{line}` ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-1500:]}"
        )

    def invoke(self, arguments: list[str], block: Block, **settings: str) -> str:
        """What `palimpsest` with these arguments gives. Raises AssertionError unless it ends with 0."""
        done = command_line(*arguments, **settings)
        assert done.code == 0, (
            f"{block}: `palimpsest {' '.join(arguments)}` ended with {done.code}: {(done.out + done.err)[-1500:]}"
        )
        return done.out

    def served(self, settings: Settings, *, started: Any) -> int:
        """Stands for BentoML's server: a worker with these settings starts, and ends once it is ready."""
        assert settings.port == int(self.environment["PALIMPSEST_PORT"])
        runtime = Runtime(settings, Recorder.apart())
        runtime.start()
        try:
            runtime.wait()
            assert runtime.is_ready()
            started([note for note in runtime._notes.read() if note["state"] == "ready"][-1:])
        finally:
            runtime.stop()
        return 0


def _split(line: str) -> tuple[dict[str, str], list[str]]:
    """The settings before a command, and its words."""
    words = shlex.split(line, comments=True)
    settings = {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        settings[name] = value
    return settings, words


def _readmes_answer() -> dict[str, Any]:
    (answer,) = [b for b in blocks_of(ROOT / "README.md") if b.language == "json"]
    found: dict[str, Any] = json.loads(answer.text)
    return found


def _keys(value: Any, under: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{under}.{key}"
            yield from _keys(inner, f"{under}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner, f"{under}[]")


@pytest.mark.slow
def test_readmes_answer_is_what_the_service_answers(server: Server) -> None:
    (request,) = [b for b in blocks_of(ROOT / "README.md") if "curl" in b.text]
    body = json.loads(re.search(r"-d '(.*)'", request.text, re.S)[1])  # type: ignore[index]
    real, told = server.ask(**body).body, _readmes_answer()
    assert set(_keys(told)) <= set(_keys(real))
    for key in ("verdict", "rules", "seed", "policy"):
        assert told["steering"][key] == real["steering"][key], key
