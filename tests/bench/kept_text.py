"""What steering costs where text's keys and values are kept from the first step: Qwen-Image 2.1 at a middle size.

    python -m tests.bench.kept_text [--rounds 12] [--out FILE]

Beside the times stand the exact counts: calls of the denoiser and rows in them. The donor is as long as the prompt, so
that all shapes are equal. A new donor costs one call of one row, the first time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from steering import Host, Plan, Swap
from tests.bench.steering_stats import hardware, interleaved, paired
from tests.steering import zoo_parts as parts
from tests.steering.today import zoo

__all__ = ["main"]

_STEPS, _SIDE = 12, 256
_WORDS = ("star", "moon", "bird", "fish", "tree", "boat", "lamp", "door")


def _pipe() -> Any:
    from diffusers import QwenImage21Transformer2DModel

    pipe = zoo.build("qwen-image-21")
    config = {**pipe.transformer.config, "num_layers": 8, "attention_head_dim": 32, "num_attention_heads": 8}
    torch.manual_seed(0)
    denoiser = QwenImage21Transformer2DModel.from_config(config | {"axes_dims_rope": (8, 12, 12)})
    pipe.register_modules(transformer=parts.jitter(denoiser, 0.02))
    return pipe


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kept-text.json")
    asked = parser.parse_args(arguments)
    host = Host(_pipe(), self_test=False)
    sites = [s.name for s in host.sites[2:6]]
    rows: list[int] = []
    host.denoiser.register_forward_pre_hook(lambda m, a, k: rows.append(len(k["hidden_states"])), with_kwargs=True)
    call = {"num_inference_steps": _STEPS, "height": _SIDE, "width": _SIDE, "output_type": "latent"}

    def run(plan: Plan | None) -> Any:
        return host.generate(["a red star"], plans=[plan], seeds=[1], **call)

    def swap(word: str, source: Any) -> Plan:
        return Plan(Swap(f"a red {word}", sites=sites, pooled="keep", source=source))

    works: dict[str, Callable[[int], Any]] = {
        "no plan": lambda k: run(None),
        "no plan again": lambda k: run(None),
        "the same donor": lambda k: run(swap("moon", "text")),
        "eight donors in turn": lambda k: run(swap(_WORDS[k % 8], "text")),
        "a donor as a row": lambda k: run(swap("moon", "twin")),
    }
    counts = {}
    for name, work in works.items():
        work(0)
        rows.clear()
        work(0)
        counts[name] = {"calls": len(rows), "rows": sum(rows)}
    rows.clear()
    run(swap("coat", "text"))
    new = {"calls": len(rows), "rows": sum(rows)}
    times = interleaved(works, rounds=asked.rounds)
    base = times["no plan"]
    table = {
        name: {**counts[name], "wall": paired(t.wall, base.wall).to_json(), "cpu": paired(t.cpu, base.cpu).to_json()}
        for name, t in times.items()
    }
    body = {
        **hardware(),
        "steps": _STEPS,
        "tokens": (_SIDE // 16) ** 2,
        "layers": 8,
        "width": 256,
        "a new donor": new,
        "rows": table,
    }
    asked.out.write_text(json.dumps(body, indent=1) + "\n", "utf-8")
    return body


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(main(), indent=1))
