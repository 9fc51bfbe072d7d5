"""What sixteen plans cost, eight of them adapters, in one compiled batch: ratios to the same batch without a plan.

`python -m tests.bench.adapters [--rounds 8] [--model signpost-pixart]` writes `results/adapters.json`. All cases run in
every round, in alternating order. Each round brings other adapters and other donors, in other rows; recompiles are the
graphs that come after the first call of a case. `no plan again` is the control: what the machine makes of no
difference. The adapters change text keys and values at every site. Beside them ride eight pictures without a plan,
eight swaps, or four swaps and four edits of the output.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from steering import Adapter, Edit, Host, Operator, Plan, Swap, operators_of_lora
from steering.families.defaults import load_defaults
from steering.families.loading import load_pipeline
from tests.bench.steering_cases import Graphs
from tests.bench.steering_stats import hardware, interleaved, paired

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
_MODELS = Path(__file__).resolve().parents[2] / "reference" / "models"
_ROWS, _ADAPTERS = 16, 8


def _adapter_plan(host: Host, sites: Sequence[str], *, rank: int, seed: int) -> Plan:
    """A LoRA of random weights on text keys and values, small beside the weights as a trained one is."""
    generator, lora = torch.Generator().manual_seed(seed), {}
    for site in sites:
        for where, name in host.projections(site).items():
            if where in ("keys", "values"):
                linear: Any = host.denoiser.get_submodule(name)
                shapes = (rank, linear.in_features), (linear.out_features, rank)
                lora[name] = Adapter(*(0.02 * torch.randn(shape, generator=generator) for shape in shapes))
    of_sites = operators_of_lora(host, lora).items()
    return Plan(*(Edit((site,), operator, rows="both") for site, own in of_sites for operator in own))


def _swaps(host: Host, k: int) -> list[Plan]:
    """Eight swaps, others in each round."""
    sites = tuple(s.name for s in host.sites)
    source = {"source": "canonical"} if host.joint else {}
    return [
        Plan(Swap(f"ring {(k + n) % 4}", sites=sites[:2], pooled="keep", **source)) for n in range(_ROWS - _ADAPTERS)
    ]


def _edits(host: Host, k: int) -> list[Plan]:
    """Four edits of the picture's part of the last site's output, others in each round."""
    generator, site = torch.Generator().manual_seed(k), host.sites[-1].name
    module: Any = host.denoiser.get_submodule(site)
    found = []
    for _ in range(4):
        unit = torch.nn.functional.normalize(torch.randn(1, module.out_dim, generator=generator), dim=-1)
        found.append(Plan(Edit((site,), Operator(unit, unit, 0 * unit, where="output"))))
    return found


def _works(host: Host, call: dict[str, Any], rank: int) -> dict[str, Callable[[int], Any]]:
    # for all rounds: plans are made when a pack is loaded, not when a picture is asked for
    pool = [_adapter_plan(host, [s.name for s in host.sites], rank=rank, seed=seed) for seed in range(3 * _ADAPTERS)]
    swaps, edits = ([make(host, k) for k in range(4)] for make in (_swaps, _edits))
    beside: dict[str, list[list[Plan | None]]] = {
        "8 adapters, 8 without a plan": [[None] * (_ROWS - _ADAPTERS)] * 4,
        "16 plans: 8 adapters, 8 swaps": [[*some] for some in swaps],
        "16 plans: 8 adapters, 4 swaps, 4 edits": [[*a[:4], *b] for a, b in zip(swaps, edits, strict=True)],
    }

    def run(plans: Sequence[Plan | None]) -> Any:
        prompts, seeds = [f"a red star {i}" for i in range(_ROWS)], list(range(_ROWS))
        return host.generate(prompts, plans=plans, seeds=seeds, output_type="latent", **call)

    def mixed(others: Sequence[Sequence[Plan | None]]) -> Callable[[int], Any]:
        def work(k: int) -> Any:
            adapters = [pool[(k * _ADAPTERS + n) % len(pool)] for n in range(_ADAPTERS)]
            plans = [plan for pair in zip(adapters, others[k % 4], strict=True) for plan in pair]
            return run(plans[k % _ROWS :] + plans[: k % _ROWS])

        return work

    none: dict[str, Callable[[int], Any]] = dict.fromkeys(("no plan", "no plan again"), lambda k: run([None] * _ROWS))
    return none | {name: mixed(others) for name, others in beside.items()}


def main(arguments: Sequence[str] | None = None, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Measures and writes."""
    from torch._inductor.compile_fx import compile_fx

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="signpost-pixart", choices=sorted(p.name for p in _MODELS.iterdir()))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS / "adapters.json")
    asked = parser.parse_args(arguments)
    folder, load = _MODELS / asked.model, os.getloadavg()
    pipe = load_pipeline(folder, device="cpu", dtype=torch.float32, offline=True, revision=None).pipe
    graphs = Graphs(compile_fx)
    getattr(pipe, "unet", getattr(pipe, "transformer", None)).compile(backend=graphs, fullgraph=True)
    host = Host(pipe, name=asked.model, self_test=False)
    call = load_defaults(folder).arguments() | {"num_inference_steps": asked.steps}
    works, traced = _works(host, call, asked.rank), {}
    for name, work in works.items():
        before = graphs.count
        work(0)
        traced[name] = graphs.count - before
        say(f"{name}: {traced[name]} graphs")
    before = graphs.count
    times = interleaved(works, rounds=asked.rounds, warm=1)
    base = times["no plan"]
    rows = {
        name: {
            "graphs": traced[name],
            "wall": paired(own.wall, base.wall).to_json(),
            "cpu": paired(own.cpu, base.cpu).to_json(),
            "median s": round(sorted(own.wall)[len(own.wall) // 2], 3),
        }
        for name, own in times.items()
    }
    about = {"model": asked.model, "steps": asked.steps, "rank": asked.rank, "rounds": asked.rounds}
    loads = {"load before": load, "load after": os.getloadavg()}
    body = {**hardware(), **about, **loads, "recompiles": graphs.count - before, "rows": rows}
    asked.out.write_text(json.dumps(body, indent=1) + "\n", "utf-8")
    return body


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(main(), indent=1))
