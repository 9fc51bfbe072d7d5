"""What the service makes of two cores: throughput and waiting against the bare pipeline at the same batch.

`python -m tests.bench.service_load [--model signpost-pixart] [--pictures 48]` writes `results/service.md` and
`service.json`; `make bench` runs it. Four questions:

* Against the bare pipeline: the stock diffusers pipeline makes batches of `b` pictures one after the other; the service
  makes as many for clients that always ask, once as many as a batch holds and once twice as many (so that the next
  batch waits already). One worker, `fixed` batching at `b`, one thread each, in turns with the bare one.
* What each stage takes, detectors on their own lines: from the service's own metrics of the crowd's run.
* What each rung of the ladder adds, under a rule that only a blurred picture satisfies.
* A crowd: 64 clients with mixed prompts (untouched, steered and read, refused), one worker and two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench.stock import Stock
from tests.running import TWO_RULES, Answer, Server, lettering_pack, policy_text, serving
from tests.tiny import save_pixart

__all__ = ["main", "measure"]

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parent.parent.parent
COLOURS = ("red", "green", "yellow", "purple", "orange", "pink")
STAGES = ("sense_prompt", "decide", "plan", "queue", "generate", "sense_picture", "blur", "encode", "audit")
RUNGS = ("wider", "swap-prompt", "blur")
_KINDS = ("free", "free", "read", "free", "refused", "free", "read", "free")


def every_rung(concept: str) -> str:
    """A policy under which each rung is climbed: a concept is steered, and asked about is a word that stays."""
    return policy_text(
        "every-rung",
        f"""
  - id: no-words
    why: It makes each rung of the ladder be climbed, to see what they cost.
    category: measured
    when: {{lettering: {{any_of: [$toxic], views: all}}}}
    then:
      - {{do: steer, concept: {concept}{", toward: $benign" if concept == "lettering" else ""}}}
      - {{do: verify, read: lettering, none_of: [$toxic, $benign], ladder: [{", ".join(RUNGS)}], otherwise: block}}
    on_error: block
""",
    )


def free(k: int) -> tuple[str, str]:
    """A request that no rule names."""
    return "free", f"a {COLOURS[k % len(COLOURS)]} star on a blue background"


def mixed(k: int) -> tuple[str, str]:
    """One of several kinds of requests, in a fixed order."""
    kind, colour = _KINDS[k % len(_KINDS)], COLOURS[k // len(_KINDS) % len(COLOURS)]
    prompts = {
        "free": f"a {colour} star on a blue background",
        "read": f'a {colour} star on a blue background with a sign that says "IDIOT"',
        "refused": f"a forbidden {colour} star",
    }
    return kind, prompts[kind]


def crowd(server: Server, asked: Callable[[int], tuple[str, str]], *, clients: int, requests: int) -> dict[str, Any]:
    """What so many clients saw that asked one request after the other."""

    def one(k: int) -> Answer:
        kind, prompt = asked(k)
        return server.ask(prompt, kind=kind, seed=k, timeout=600)

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(one, range(requests)))
    seconds = time.perf_counter() - began
    return {
        "clients": clients,
        "requests": requests,
        "pictures a second": round(sum(a.status == 200 for a in answers) / seconds, 3),
        "waited": {kind: _spread([a for a in answers if a.kind == kind]) for kind in sorted({a.kind for a in answers})},
        "answers": dict(Counter(a.code for a in answers)),
    }


def _spread(answers: Sequence[Answer]) -> dict[str, float]:
    took = sorted(a.ended - a.began for a in answers)
    return {"n": len(took), "p50": round(took[len(took) // 2], 3), "p95": round(took[int(0.95 * (len(took) - 1))], 3)}


def bare(stock: Stock, batch: int, pictures: int) -> list[float]:
    """The seconds of each batch of the stock pipeline."""
    took = []
    for first in range(0, pictures, batch):
        prompts, seeds = [free(k)[1] for k in range(first, first + batch)], list(range(first, first + batch))
        began = time.perf_counter()
        stock.pictures(prompts, seeds)
        took.append(time.perf_counter() - began)
    return took


def against_bare(
    start: Callable[..., Any], stock: Stock, *, batches: Sequence[int], pictures: int, rounds: int
) -> list[dict[str, Any]]:
    """For each batch size the bare pipeline's pace and the service's, in turns; ratios are of the same round."""
    lines = []
    for batch in batches:
        each = max(batch * 2, pictures // rounds // batch * batch)
        with start(f"batch-{batch}", batching="fixed", max_batch=batch, queue_size=256) as server:
            bare(stock, batch, batch)
            crowd(server, free, clients=batch, requests=batch)
            found: dict[str, list[Any]] = {"bare": [], "full": [], "twice": []}
            for _ in range(rounds):
                took = bare(stock, batch, each)
                found["bare"].append({"pictures a second": each / sum(took), "batch": statistics.median(took)})
                found["full"].append(crowd(server, free, clients=batch, requests=each))
                found["twice"].append(crowd(server, free, clients=2 * batch, requests=each))
        lines.append({"batch": batch, "pictures a round": each, "rounds": rounds, **_paired(found)})
    return lines


def _paired(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Medians over rounds; `ratio` is the bare pace over the service's in the same round: 1.05 is 5 % slower."""
    pace = {name: [r["pictures a second"] for r in rounds] for name, rounds in found.items()}
    line: dict[str, Any] = {
        "bare": {"pictures a second": round(statistics.median(pace["bare"]), 3),
                 "batch, s": round(statistics.median(r["batch"] for r in found["bare"]), 3)}
    }  # fmt: skip
    for name in ("full", "twice"):
        ratios = [b / s for b, s in zip(pace["bare"], pace[name], strict=True)]
        line[name] = {
            "pictures a second": round(statistics.median(pace[name]), 3),
            "ratio": round(statistics.median(ratios), 3),
            "ratios": [round(r, 3) for r in ratios],
            "p50": statistics.median(r["waited"]["free"]["p50"] for r in found[name]),
            "p95": statistics.median(r["waited"]["free"]["p95"] for r in found[name]),
        }
    return line


def stages(server: Server) -> dict[str, dict[str, float]]:
    """How often each stage and each detector ran, and its mean in milliseconds; `generate` is a whole batch."""
    found = {}
    for name in STAGES:
        found[name] = _mean(server, "stage_duration_seconds", stage=name)
    (worker,) = server.get("status")["workers"][:1]
    for detector in worker["detectors"]:
        found[f"detector {detector['name']}"] = _mean(server, "detector_duration_seconds", detector=detector["name"])
    return {name: line for name, line in found.items() if line["n"]}


def rungs(server: Server, requests: int) -> dict[str, dict[str, float]]:
    """What each rung added to so many requests that were asked one after the other, beside a picture's own time."""
    for k in range(requests):
        colour = COLOURS[k % len(COLOURS)]
        server.ask(f'pip on a {colour} background with a sign that says "IDIOT"', seed=k)
    found = {"a picture, first or again": _mean(server, "stage_duration_seconds", stage="generate")}
    for name in RUNGS:
        passed = int(server.metric("rungs_total", rung=name, result="passed"))
        found[name] = _mean(server, "rung_duration_seconds", rung=name) | {"passed": passed}
    return found


def _mean(server: Server, name: str, **labels: str) -> dict[str, float]:
    count, total = (server.metric(f"{name}_{part}", **labels) for part in ("count", "sum"))
    return {"n": count, "mean, ms": round(1000 * total / count, 2) if count else 0.0}


def measure(model: str, *, pictures: int, batches: Sequence[int], rounds: int, requests: int) -> dict[str, Any]:
    """All figures. `model`: `tiny` (random weights) or the name of an embedded model."""
    with tempfile.TemporaryDirectory(prefix="palimpsest-load-") as folder:
        root = Path(folder)
        where = save_pixart(root / "model") if model == "tiny" else ROOT / "reference" / "models" / model
        packs = {"packs": lettering_pack(where, root / "packs")} if model == "tiny" else {}
        concept = "lettering" if packs else "character/pip"
        common = {"model": str(where), "policy": TWO_RULES, "deadline_seconds": 600, **packs}

        def start(name: str, **settings: Any) -> Any:
            return serving(root / name, **(common | settings))

        lines = against_bare(start, Stock(where), batches=batches, pictures=pictures, rounds=rounds)
        with start("rungs", batching="fixed", max_batch=1, policy=every_rung(concept)) as server:
            climbed = rungs(server, max(4, pictures // 4))
        crowds = {}
        for workers in (1, 2):
            options = {"workers": workers, "batching": "fixed", "max_batch": max(batches), "queue_size": 256}
            with start(f"crowd-{workers}", **options) as server:
                crowd(server, mixed, clients=8, requests=16)
                crowds[workers] = crowd(server, mixed, clients=64, requests=requests) | {"stages": stages(server)}
    from tests.bench.steering_stats import hardware

    machine = hardware() | {"load": _busy()}
    found = {"against the bare pipeline": lines, "rungs": climbed, "64 clients": crowds}
    return {"hardware": machine, "model": model, **found}


def _busy() -> str:
    """How much else the machine did, as its load average says."""
    return Path("/proc/loadavg").read_text().split()[1] if Path("/proc/loadavg").exists() else "unknown"


def markdown(found: Mapping[str, Any]) -> str:
    """The figures for people."""
    machine = ", ".join(f"{k} {v}" for k, v in found["hardware"].items())
    text = [
        "# What the service makes of a machine\n",
        "Written by `python -m tests.bench.service_load`, whose docstring says how.\n",
        f"{machine}; model `{found['model']}`; one thread for the bare pipeline and for each worker.\n",
        "## Against the bare pipeline at the same batch\n",
        "`ratio`: the bare pipeline's pace over the service's, median of rounds in turns (all rounds in brackets).\n",
        "| batch | bare, pictures/s | clients | service, pictures/s | ratio | p50, s | p95, s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in found["against the bare pipeline"]:
        for name, clients in (("full", line["batch"]), ("twice", 2 * line["batch"])):
            x, all_of = line[name], ", ".join(map(str, line[name]["ratios"]))
            text.append(
                f"| {line['batch']} | {line['bare']['pictures a second']} | {clients} | {x['pictures a second']} |"
                f" {x['ratio']} ({all_of}) | {x['p50']:.3f} | {x['p95']:.3f} |"
            )
    text += ["\n## 64 clients with mixed prompts\n", "| workers | pictures/s | kind | n | p50, s | p95, s | answers |"]
    text.append("| --- | --- | --- | --- | --- | --- | --- |")
    for workers, x in found["64 clients"].items():
        answers = ", ".join(f"{n} x {code}" for code, n in x["answers"].items())
        for kind, w in x["waited"].items():
            pace = x["pictures a second"]
            text.append(f"| {workers} | {pace} | {kind} | {w['n']} | {w['p50']} | {w['p95']} | {answers} |")
    text += ["\n## What each rung of the ladder adds\n", "Alone in a batch of one, reading the picture again included."]
    text += ["\n| rung | n | satisfied the rule | mean, ms |", "| --- | --- | --- | --- |"]
    for name, x in found["rungs"].items():
        text.append(f"| {name} | {x['n']:.0f} | {x.get('passed', '')} | {x['mean, ms']} |")
    text += ["\n## Where the time goes, one worker, detectors on their own lines\n"]
    text += ["`generate` is a batch; `queue` is waiting for one.\n", "| stage | n | mean, ms |", "| --- | --- | --- |"]
    text += [f"| {name} | {x['n']:.0f} | {x['mean, ms']} |" for name, x in found["64 clients"][1]["stages"].items()]
    return "\n".join(text) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.service_load", description="the service under load")
    parser.add_argument("--model", default="signpost-pixart", help="`tiny`, or the name of an embedded model")
    parser.add_argument("--pictures", type=int, default=48, help="pictures of each batch size, over all rounds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--requests", type=int, default=192, help="of the 64 clients together")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    sizes = {"pictures": options.pictures, "batches": options.batches, "rounds": options.rounds}
    found = measure(options.model, requests=options.requests, **sizes)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "service.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "service.md").write_text(markdown(found))
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
