"""How many GPUs, pods and processors a load needs, and what they cost, from ratios that were measured.

`python -m deploy.generate.capacity --seconds 3.1 --price 2.50` prints the table for your GPU. `deploy/capacity.md` is
made by the same functions, with numbers that only show the formula.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

__all__ = ["Load", "Need", "Ratios", "main", "measured", "needed", "page"]

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = Path(__file__).with_name("capacity.txt")
_SHOWN = (10, 1_000, 100_000)
_BESIDE = ("sense_prompt", "decide", "plan", "sense_picture", "encode", "audit")  # stages that need no GPU


@dataclass(frozen=True, slots=True)
class Ratios:
    """What was measured. `service`: seconds of a picture through the service, of the bare pipeline's at batch 8;
    `plan`: of a steered picture, of a plain one's; `again`: most pictures that were drawn again, a repaired one;
    `processor`: processor seconds beside the engine, a picture.
    """

    service: float
    plan: float
    again: float
    processor: float


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked and of what. `seconds`: GPU seconds a picture of your bare pipeline, at the batch that you serve;
    `price`: of a GPU with its share of a machine, an hour; `steered`: share of pictures that a rule repairs; `use`:
    share of the time that engines may be busy; `spare`: pods more than needed, for a rolling restart or a lost machine.
    """

    pictures: float  # a minute
    seconds: float
    price: float
    steered: float = 0.1
    use: float = 0.7
    spare: int = 1

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("pictures", self.pictures, 0, math.inf),
            ("seconds", self.seconds, 0, math.inf),
            ("price", self.price, 0, math.inf),
            ("steered", self.steered, 0, 1),
            ("use", self.use, 0.01, 1),
            ("spare", self.spare, 0, math.inf),
        ):
            if not least <= value <= most:
                raise ValueError(f"{name} must be a number from {least:g} to {most:g}, got {value:g}")


@dataclass(frozen=True, slots=True)
class Need:
    """What a load needs: pods, each with one GPU, processors in all, the price of an hour and of 1,000 pictures."""

    pods: int
    processors: int
    hour: float
    thousand: float


def measured(root: Path = _ROOT) -> Ratios:
    """The ratios of the results in the repository."""
    service = _json(root / "tests/bench/results/service.json")
    (bare,) = (row for row in service["against the bare pipeline"] if row["batch"] == 8)
    lines = _json(root / "tests/bench/results/steering.json")["lines"]
    (plan,) = (x for x in lines if (x["host"], x["mode"], x["case"]) == ("signpost-pixart", "eager", "16 plans"))
    results = [_json(root / f"evaluation/results/{name}.json") for name in ("lettering", "lettering-seed1")]
    rows = [result["rows"][name] for result in results for name in ("insults", "insults in disguise")]
    climbed = sum(n for row in rows for way, n in row["ways"].items() if way != "steered")
    stages = service["64 clients"]["1"]["stages"]
    return Ratios(
        service=bare["full"]["ratio"],
        plan=plan["wall"]["median"],
        again=2 * climbed / sum(row["n"] for row in rows),  # `max_extra_generations` of the shipped rule
        processor=sum(stages[name]["mean, ms"] for name in _BESIDE) / 1000,
    )


def needed(load: Load, ratios: Ratios) -> Need:
    """The formula of `deploy/capacity.md`."""
    drawn = 1 - load.steered + load.steered * ratios.plan * (1 + ratios.again)
    engine = load.seconds * ratios.service * drawn  # seconds a picture
    pods = math.ceil(load.pictures / 60 * engine / load.use) + load.spare
    processors = math.ceil(load.pictures / 60 * ratios.processor / load.use)
    hour = pods * load.price
    return Need(pods, max(processors, pods), hour, 1000 * hour / (60 * load.pictures) if load.pictures else math.inf)


def table(loads: Sequence[Load], ratios: Ratios) -> str:
    """The needs of some loads as a table in Markdown."""
    rows = ["| pictures a minute | pods, one GPU each | processors in all | price an hour | price of 1,000 pictures |"]
    rows.append("|---:|---:|---:|---:|---:|")
    for load in loads:
        need = needed(load, ratios)
        rows.append(
            f"| {load.pictures:,.0f} | {need.pods:,} | {need.processors:,} | {need.hour:,.2f} | {need.thousand:,.2f} |"
        )
    return "\n".join(rows)


def page(ratios: Ratios) -> str:
    """`deploy/capacity.md`."""
    parts = []
    for seconds in (0.5, 3.0):
        loads = [Load(pictures, seconds, 1.0) for pictures in _SHOWN]
        parts.append(f"### {seconds:g} seconds a picture, price 1 an hour\n\n{table(loads, ratios)}")
    values = {name: f"{value:.3f}" for name, value in asdict(ratios).items()}
    return _PAGE.read_text("utf-8").format(tables="\n\n".join(parts), **values)


def main(arguments: list[str] | None = None) -> int:
    """0; 2 for a number that cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.generate.capacity", description="Pods, processors and price of a load on your GPU."
    )
    parser.add_argument("--seconds", type=float, required=True, help="GPU seconds a picture of your bare pipeline")
    parser.add_argument("--price", type=float, required=True, help="price of a GPU and its machine, an hour")
    parser.add_argument("--pictures", type=float, nargs="+", default=list(_SHOWN), help="pictures a minute")
    given = {field.name: field.default for field in fields(Load) if field.name in ("steered", "use", "spare")}
    parser.add_argument("--steered", type=float, default=given["steered"], help="share of pictures that rules repair")
    parser.add_argument("--use", type=float, default=given["use"], help="share of the time that engines may be busy")
    parser.add_argument("--spare", type=int, default=given["spare"], help="pods more than needed")
    options = parser.parse_args(arguments)
    try:
        first = Load(0, options.seconds, options.price, options.steered, options.use, options.spare)
        loads = [replace(first, pictures=pictures) for pictures in options.pictures]
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    print(table(loads, measured()))
    return 0


def _json(file: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
    return found


if __name__ == "__main__":
    sys.exit(main())
