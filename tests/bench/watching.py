"""What it costs to look at every picture: throughput of the whole loop on innocent prompts, in interleaved rounds.

`python -m tests.bench.watching [--rounds 8] [--pictures 16]` writes `results/watching.json`. The same
service under the shipped policies with `watch: matched-prompts` (the baseline: no picture is read) and as shipped. The
process clock counts the threads that read beside the next batch, the wall clock what a client waits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from palimpsest.cli.shared.console import settings_from
from palimpsest.cli.shared.in_process import LocalAnswerer, local_service
from policies import SHIPPED
from tests.bench.steering_stats import hardware, paired

__all__ = ["main", "variants"]

RESULTS = Path(__file__).parent / "results"


def variants(folder: Path) -> dict[str, str]:
    """The policies of each variant, written to `folder`, by name."""
    plain = folder / "matched-prompts"
    shutil.copytree(SHIPPED, plain)
    for file in plain.glob("*.yaml"):
        text = file.read_text("utf-8")
        file.write_text(text.replace("    on_error:", "    watch: matched-prompts\n    on_error:"), "utf-8")
    return {"matched prompts": str(plain), "every picture": str(SHIPPED)}


def _round(service: LocalAnswerer, prompts: Sequence[str], first: int) -> tuple[float, float, int]:
    """Seconds on the wall and of the process, and how many pictures were not allowed as they were."""
    began, spent = time.perf_counter(), time.process_time()
    answers = service.answer(prompts, range(first, first + len(prompts)), together=len(prompts))
    took = time.perf_counter() - began, time.process_time() - spent
    return *took, sum(a.verdict != "allow" for a in answers)


def main(arguments: Sequence[str] | None = None, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measures and writes."""
    from evaluation.prompts.cases import benign_cases

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--out", type=Path, default=RESULTS / "watching.json")
    asked = parser.parse_args(arguments)
    with ExitStack() as stack:
        policies = variants(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        services = {
            name: stack.enter_context(local_service(settings_from({"policy": policy, "threads": 1})))
            for name, policy in policies.items()
        }
        cases = benign_cases((asked.rounds + 1) * asked.pictures, seed=23)
        wall: dict[str, list[float]] = {name: [] for name in services}
        cpu: dict[str, list[float]] = {name: [] for name in services}
        touched = dict.fromkeys(services, 0)
        for n in range(-1, asked.rounds):  # the first round warms up
            part = cases[(n + 1) * asked.pictures : (n + 2) * asked.pictures]
            for name in list(services) if n % 2 else reversed(services):
                took, spent, other = _round(services[name], [c.prompt for c in part], 1000 * (n + 1))
                if n >= 0:
                    wall[name].append(took)
                    cpu[name].append(spent)
                    touched[name] += other
            say(f"round {n + 1} of {asked.rounds}")
    base = "matched prompts"
    rows = {
        name: {
            "pictures": asked.rounds * asked.pictures,
            "other verdict than allow": touched[name],
            "wall, of the baseline's": paired(wall[name], wall[base]).to_json(),
            "process time, of the baseline's": paired(cpu[name], cpu[base]).to_json(),
        }
        for name in services
    }
    body = {**hardware(), "threads": 1, "rounds": asked.rounds, "rows": rows}
    asked.out.write_text(json.dumps(body, indent=1) + "\n", "utf-8")
    return body


if __name__ == "__main__":
    torch.set_num_threads(1)
    say_rows = main()["rows"]
    print(json.dumps(say_rows, indent=1))
