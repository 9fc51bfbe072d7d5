"""Whether untouched pictures keep every bit where the setting `compile` is on.

`python -m tests.service.loading.compiled [MODEL ...]` compiles the stock pipelines of embedded models as the service
does, and second ones below hosts, and compares six pictures of 4 steps each: before a steered picture, after it, and
asked of the host's pipeline itself. Writes `tests/bench/results/compiled.json`; exits with 1 if one differs. Takes
minutes, most of them in the compiler.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palimpsest_base import torchvision

torchvision.install()  # before anything imports torch

import numpy as np  # noqa: E402
import torch  # noqa: E402

from reference.folders import MODELS  # noqa: E402
from service.loading.placing import place  # noqa: E402
from service.settings import Settings  # noqa: E402
from steering import Host, Plan, Swap  # noqa: E402

RESULT = Path(__file__).parents[2] / "bench" / "results" / "compiled.json"
PROMPTS = ("a red star on a blue background", 'a cat on a yellow background with a sign that says "HELLO"')
SEEDS = range(6)


def pipeline(model: str, *, compiled: bool) -> Any:
    """The pipeline of an embedded model as it comes, or as the service compiles it."""
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(MODELS / model)
    pipe.set_progress_bar_config(disable=True)
    if compiled:
        place(pipe, Settings(model=model, compile=True), "cpu")
    return pipe


def compared(model: str) -> dict[str, Any]:
    """How many pictures of a compiled host are the compiled stock pipeline's, bit by bit."""
    defaults = json.loads((MODELS / model / "defaults.json").read_text())
    call = {"height": defaults["height"], "width": defaults["width"], "guidance_scale": defaults["guidance_scale"]}
    call |= {"num_inference_steps": 4, **defaults.get("call", {})}

    def stock(pipe: Any, seed: int) -> np.ndarray:
        drawn = pipe(PROMPTS[seed % 2], generator=torch.Generator().manual_seed(seed), **call)
        return np.asarray(drawn.images[0])

    eager = [stock(pipeline(model, compiled=False), seed) for seed in SEEDS]
    torch._dynamo.reset()
    alone = pipeline(model, compiled=True)
    plain = [stock(alone, seed) for seed in SEEDS]
    torch._dynamo.reset()
    host = Host(pipeline(model, compiled=True))

    def mine(seed: int, plan: Plan | None = None) -> np.ndarray:
        return np.asarray(host.generate([PROMPTS[seed % 2]], plans=[plan], seeds=[seed], **call).images[0])

    def same(pictures: Sequence[np.ndarray], others: Sequence[np.ndarray] = plain) -> str:
        return f"{sum(map(np.array_equal, pictures, others))} of {len(others)}"

    before = same([mine(seed) for seed in SEEDS])
    sites = tuple(site.name for site in host.sites)
    swap = Swap(PROMPTS[1].replace("HELLO", "BREAD"), sites=sites, pooled="keep", source=host.usual_source)
    steered = mine(1, Plan(swap))
    return {
        "untouched, the compiled stock pipeline's": before,
        "a steered picture differs": bool((steered != plain[1]).any()),
        "untouched, after a steered one": same([mine(seed) for seed in SEEDS]),
        "asked of the host's own pipeline": same([stock(host.pipe, seed) for seed in SEEDS]),
        "compiled, as not compiled": same(eager),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when a picture differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.loading.compiled", description="compiled pictures")
    parser.add_argument("models", nargs="*", default=["signpost-pixart", "signpost-sdxl", "signpost-flux"])
    torch.set_num_threads(1)
    report: dict[str, Any] = {"torch": torch.__version__, "models": {}}
    whole = f"{len(SEEDS)} of {len(SEEDS)}"
    for model in parser.parse_args(arguments).models:
        of_it = report["models"][model] = compared(model)
        kept = {value for key, value in of_it.items() if key.startswith(("untouched", "asked"))}
        of_it["holds"] = of_it["a steered picture differs"] and kept == {whole}
        RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    return int(not all(of_it["holds"] for of_it in report["models"].values()))


if __name__ == "__main__":
    sys.exit(main())
