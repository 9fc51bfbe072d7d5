"""A rolling restart of two servers under load, as a cluster does it: nothing may be lost.

`python -m tests.deploy.rolling [--clients 8]` starts two servers on a tiny model with random weights. A balancer asks
each one's `/readyz` three times a second and sends every request, on a connection of its own, to one that was ready
then; nothing is sent twice. One server after the other is replaced: a third starts, joins when it is ready, and the old
one gets SIGTERM, with no pause before. Prints what callers saw and writes `tests/bench/results/rolling.json`. Exits
with 1 if an answer is not the one that the policy says, or if nobody asked a server that was ending.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from palimpsest_base import torchvision
from tests.bench.steering_stats import hardware
from tests.running import Answer, Server, lettering_pack, load, policy_text, serving, until
from tests.tiny import save_pixart

torchvision.install()  # before anything imports torch
RESULTS = Path(__file__).parents[1] / "bench" / "results"
POLICY = policy_text(
    "rolling",
    """
  - id: never
    why: No.
    category: hate
    when: {prompt: {any_of: [forbidden]}}
    then: [{do: block}]
  - id: signs
    why: Signs say something else.
    category: other
    when: {lettering: {any_of: [idiot], views: all}}
    then: [{do: steer, concept: lettering, toward: benign-word}]
""",
)
BODIES = (
    ("200", {"prompt": "a slow moon", "num_inference_steps": 40}),
    ("200", {"prompt": 'a moon with a sign that says "idiot"'}),
    ("400 moderation_blocked", {"prompt": "a forbidden moon"}),
    ("200", {"prompt": "a moon"}),
)


@dataclass(slots=True)
class Balancer:
    """Sends requests to the servers that were ready when it last looked."""

    servers: list[Server] = field(default_factory=list)
    ready: list[Server] = field(default_factory=list)
    ending: int = 0  # requests that went to a server which had been told to end
    told: set[str] = field(default_factory=set)
    _turn: Any = field(default_factory=itertools.count)
    _over: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Until `close`: keeps `ready`."""
        while not self._over.wait(0.33):
            self.ready = [server for server in self.servers if _is_ready(server)]

    def ask(self, prompt: str, *, kind: str = "", **body: Any) -> Answer:
        """One request to one server."""
        ready = self.ready
        server = ready[next(self._turn) % len(ready)]
        self.ending += server.url in self.told
        return server.ask(prompt, kind=kind, **body)

    def close(self) -> None:
        self._over.set()


def _is_ready(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{server.url}/readyz", timeout=10).status_code == 200
    return False


def run(root: Path, clients: int) -> tuple[list[Answer], int]:
    """All answers, and how many requests went to a server that was ending."""
    model = save_pixart(root / "model")
    packs, balancer = lettering_pack(model, root / "packs"), Balancer()
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Server:
            settings = {"packs": packs, "drain_seconds": 2, "deadline_seconds": 120}
            server = stack.enter_context(serving(root / name, model=str(model), policy=POLICY, **settings))
            balancer.servers.append(server)
            until(lambda: server in balancer.ready, 60, "the balancer knows it")
            return server

        threading.Thread(target=balancer.look, daemon=True).start()
        old = [start("a"), start("b")]
        with load(balancer, BODIES, clients=clients) as running:  # type: ignore[arg-type]  # it asks as a server does
            for k, server in enumerate(old):
                start(f"new-{k}")
                balancer.told.add(server.url)
                server.process.send_signal(signal.SIGTERM)
                until(lambda server=server: server.process.poll() is not None, 120, "the old one ends")  # type: ignore[misc]
                balancer.servers.remove(server)
            time.sleep(2)
        balancer.close()
    return running.answers, balancer.ending


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when something was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.rolling", description="a rolling restart under load")
    parser.add_argument("--clients", type=int, default=8)
    clients = parser.parse_args(arguments).clients
    with tempfile.TemporaryDirectory(prefix="palimpsest-rolling-") as folder:
        answers, ending = run(Path(folder), clients)
    report = {
        "hardware": {name: str(value) for name, value in hardware().items()},
        "servers": 2,
        "clients": clients,
        "requests": len(answers),
        "requests to a server that was ending": ending,
        "answers": dict(Counter(answer.code for answer in answers)),
        "wrong": sum(answer.code != answer.kind for answer in answers),
        "longest, s": round(max(answer.ended - answer.began for answer in answers), 1),
    }
    (RESULTS / "rolling.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    return int(bool(report["wrong"]) or not ending)


if __name__ == "__main__":
    sys.exit(main())
