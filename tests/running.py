"""Real servers for tests and benchmarks that need more than one process: started, watched, asked under load."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

__all__ = [
    "REPAIR_LETTERING",
    "ROOT",
    "TWO_RULES",
    "Answer",
    "Ended",
    "Load",
    "Server",
    "command_line",
    "free_port",
    "lettering_pack",
    "load",
    "policy_text",
    "save_lora",
    "serving",
    "until",
]

ROOT = Path(__file__).resolve().parent.parent


def policy_text(name: str, rules: str) -> str:
    """A policy of these rules, with the lists `toxic` and `benign`."""
    return f"""
schema: palimpsest.policy/v1
name: {name}
version: 1.0.0
owner: tests@example.com
lists:
  toxic: {{values: [idiot, moron]}}
  benign: {{values: [bread, music]}}
rules:
{rules.strip(chr(10))}
"""


# a rule that repairs words where they are lettering, and reads the pictures
REPAIR_LETTERING = """
  - id: toxic-lettering
    why: Insults do not belong on signs.
    category: harassment
    when: {lettering: {any_of: [$toxic], views: all}}
    then:
      - {do: steer, concept: lettering, toward: benign-word}
      - {do: verify, read: lettering, none_of: [$toxic], ladder: [wider, swap-prompt, blur], otherwise: block}
    on_error: block
"""
# a policy that refuses one word, and repairs others where they are lettering
TWO_RULES = policy_text(
    "two-rules",
    """
  - id: never
    why: Some words are refused wherever they stand.
    category: hate
    when: {prompt: {any_of: [forbidden]}}
    then: [{do: block}]
"""
    + REPAIR_LETTERING,
)


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


def command_line(*arguments: object, **environment: object) -> Ended:
    """Runs `palimpsest` with these arguments in this process, as its `main` does: torch is imported once for all tests.
    The environment comes over this process's own."""
    import pytest

    from palimpsest.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        for name, value in environment.items():
            patch.setenv(name, str(value))
        patch.setattr(sys, "argv", ["palimpsest", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Ended(code if isinstance(code, int) else int(code is not None), out.getvalue(), err.getvalue())


@dataclass(frozen=True, slots=True)
class Answer:
    """One request of a load: when it was sent and answered (`time.monotonic`), and what came; status 0: nothing did."""

    kind: str
    began: float
    ended: float
    status: int
    body: Mapping[str, Any]

    @property
    def code(self) -> str:
        """The status, and the error's code where there is one."""
        return " ".join(filter(None, (str(self.status), self.body.get("error", {}).get("code"))))


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, and the folder of its policies, state and log."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def policy(self) -> Path:
        return self.folder / "policies" / "policy.yaml"

    @property
    def log(self) -> str:
        return (self.folder / "service.log").read_text()

    @property
    def workers(self) -> list[int]:
        """The processes of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"worker" in _command(pid)]

    def ask(self, prompt: str, *, kind: str = "", timeout: float = 300, **body: Any) -> Answer:
        """The answer to a request of one picture."""
        began = time.monotonic()
        asked = {"prompt": prompt, **body}
        try:  # without certificates to read, which would take more time than many an answer
            got = httpx.post(f"{self.url}/v1/images/generations", json=asked, timeout=timeout, verify=False)
        except httpx.TransportError as error:
            return Answer(kind, began, time.monotonic(), 0, {"transport": type(error).__name__})
        return Answer(kind, began, time.monotonic(), got.status_code, got.json())

    def get(self, path: str) -> Any:
        """The JSON of a path below `/v1`."""
        return httpx.get(f"{self.url}/v1/{path}", timeout=60, verify=False).json()

    def ready(self, workers: int = 1) -> bool:
        """Whether so many workers answer requests, and no others are there."""
        return [w["state"] for w in self.get("status")["workers"]] == ["ready"] * workers

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series called `name` with these labels."""
        text = httpx.get(f"{self.url}/metrics", timeout=60, verify=False).text
        found = re.findall(rf"^palimpsest_{name}(\{{.*\}})? (\S+)$", text, re.M)
        return sum(float(value) for named, value in found if all(f'{k}="{v}"' in named for k, v in labels.items()))

    def audit(self) -> list[dict[str, Any]]:
        """All audit records."""
        files = sorted((self.folder / "state" / "audit").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def verified(self) -> dict[str, Any]:
        """What `palimpsest audit verify` finds."""
        command = [*_PALIMPSEST, "audit", "verify", "--json"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PALIMPSEST_STATE": str(self.folder / "state")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


_PALIMPSEST = [sys.executable, "-c", "from palimpsest.cli.main import main; main()"]


def until(true: Callable[[], bool], seconds: float, why: str) -> float:
    """The seconds until it is true; a service that does not answer is no answer."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(httpx.TransportError, KeyError):
            if true():
                return time.monotonic() - began
        assert time.monotonic() - began < seconds, f"it did not come in {seconds:g} s: {why}"
        time.sleep(0.1)


@contextlib.contextmanager
def serving(
    folder: Path, *, model: str, policy: str, first: Sequence[Path] = (), also: Mapping[str, str] | None = None,
    wait: bool = True, **settings: Any,
) -> Iterator[Server]:  # fmt: skip
    """A server with these settings; `policy` is the text of its policies or a name, `first` precedes all imports."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policies").mkdir()
    if policy not in ("none", "shipped"):
        (folder / "policies" / "policy.yaml").write_text(policy)
        policy = str(folder / "policies")
    port = free_port()
    values = {"model": model, "policy": policy, "port": port, "threads": 1, "state": folder / "state", **settings}
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PALIMPSEST_")},
        **{f"PALIMPSEST_{name}".upper(): str(value) for name, value in values.items()},
        "PYTHONPATH": os.pathsep.join(map(str, [*first, ROOT])),
        **(also or {}),
    }
    environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
    with (folder / "service.log").open("wb") as out:
        process = subprocess.Popen([*_PALIMPSEST, "serve"], env=environment, cwd=folder, stdout=out, stderr=out)
    server = Server(f"http://127.0.0.1:{port}", folder, process)
    try:
        if wait:
            until(lambda: _lives(server) and server.ready(int(settings.get("workers", 1))), 600, "the server is ready")
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()


@dataclass(slots=True)
class Load:
    """Clients that ask one prompt after the other until they are stopped; `answers` grows while they do."""

    answers: list[Answer] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def since(self, moment: float, *, to: float = float("inf"), kind: str = "") -> list[Answer]:
        """The answers to requests that were sent from `moment` on, and before `to`."""
        return [a for a in self.answers if moment <= a.began < to and kind in ("", a.kind)]

    def codes(self, moment: float, *, to: float = float("inf"), kind: str = "") -> Counter[str]:
        """How often each status and code came."""
        return Counter(a.code for a in self.since(moment, to=to, kind=kind))

    def run(self, server: Server, bodies: Sequence[tuple[str, Mapping[str, Any]]], number: int) -> None:
        """One client: its own order of `bodies`, for ever."""
        k = number
        while not self._over.is_set():
            kind, body = bodies[k % len(bodies)]
            self.answers.append(server.ask(kind=kind, **{**body, "seed": k}))
            k += 1
            if self.answers[-1].status in (0, 429):
                self._over.wait(0.1)

    def stop(self) -> None:
        self._over.set()


@contextlib.contextmanager
def load(server: Server, bodies: Sequence[tuple[str, Mapping[str, Any]]], *, clients: int) -> Iterator[Load]:
    """So many clients that ask all the time; at the end each gets its last answer."""
    running = Load()
    threads = [threading.Thread(target=running.run, args=(server, bodies, k), daemon=True) for k in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        running.stop()
        for thread in threads:
            thread.join(300)


def lettering_pack(model: str | Path, folder: Path) -> Path:
    """A folder with a pack that swaps lettering in a tiny model: at the second and third site, or at the first, too."""
    import torch

    from steering import Choice, Host, Pack, Window

    host = Host.load(Path(model))
    names = tuple(site.name for site in host.sites)
    pack = Pack(
        concept="lettering", host=host.fingerprint, sites=names[1:3], wider=names[:3], site_names=names,
        scores=torch.ones(len(names), 1), bins=(Window(0, 1),), evidence={"kind": "measured"},
        choice=Choice(k=2, share=0.9, low=0.8, high=1.0),
    )  # fmt: skip
    folder.mkdir(exist_ok=True)
    pack.save(folder / "lettering.safetensors")
    return folder


def save_lora(
    denoiser: Any, file: Path, *, prefix: str = "transformer.", targets: Sequence[str] = ("to_k", "to_v"), seed: int = 0
) -> Path:
    """A LoRA file for a denoiser, made by peft, with random matrices so large that pictures change a lot."""
    import copy

    import torch
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
    from safetensors.torch import save_file

    adapted = copy.deepcopy(denoiser)
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=2, target_modules=list(targets)), adapted, adapter_name="x")
    generator = torch.Generator().manual_seed(seed)
    tensors = get_peft_model_state_dict(adapted, adapter_name="x")
    save_file({f"{prefix}{k}": 0.3 * torch.randn(t.shape, generator=generator) for k, t in tensors.items()}, file)
    return file


def _lives(server: Server) -> bool:
    assert server.process.poll() is None, server.log[-3000:]
    return True


def _command(pid: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
