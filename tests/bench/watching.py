"""What it costs to look at every picture: throughput of the whole loop on innocent prompts, in interleaved rounds.

`python -m tests.bench.watching [--rounds 8] [--pictures 16]` writes `results/watching.json`: the same service under the
four variants of `evaluate attack`; the baseline trusts the prompt, so it reads no picture. The process clock counts the
threads that read beside the next batch, the wall clock what a client waits.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from palimpsest.cli.shared.console import settings_from
from palimpsest.cli.shared.in_process import LocalAnswerer, local_service
from palimpsest.cli.shared.policy_variants import VARIANTS, policy_variant
from tests.bench.steering_stats import hardware, paired

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"


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
        services = {}
        for name in VARIANTS:
            folder = stack.enter_context(policy_variant(["shipped"], name))
            settings = settings_from({"policy": [folder], "threads": 1})
            services[name] = stack.enter_context(local_service(settings))
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
    base = "prompt rules only"
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
