"""Owns one comparison's figures and how they are written: a table for people, JSON for machines."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.steering_cases import Case, Count, Subject, counted
from tests.bench.steering_stats import Ratio, interleaved, paired

__all__ = ["RESULTS", "Line", "measure", "table", "write"]

RESULTS = Path(__file__).parent / "results"
_ROUND_OFF = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One case of one host in one mode."""

    host: str
    mode: str
    case: str
    count: Count
    graphs: int | None  # that its first call traced, after the cases above it
    recompiles: int | None  # in all later calls, each with other plans
    wall: Ratio
    cpu: Ratio
    milliseconds: float
    rounds: int
    steps: int

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        counts = {"forwards": self.count.forwards, "rows": self.count.rows, "texts": self.count.texts}
        return {
            "host": self.host,
            "mode": self.mode,
            "case": self.case,
            "steps": self.steps,
            **counts,
            "graphs": self.graphs,
            "recompiles": self.recompiles,
            "wall": self.wall.to_json(),
            "cpu": self.cpu.to_json(),
            "median_ms": round(self.milliseconds, _ROUND_OFF),
            "n": self.rounds,
        }


def measure(subject: Subject, cases: Sequence[Case], *, mode: str, rounds: int) -> list[Line]:
    """The lines of a host: counts, graphs, and ratios to the stock pipeline's calls of the same rounds."""
    graphs: dict[str, int] = {}
    recompiles = dict.fromkeys((c.name for c in cases), 0)
    for case in cases:
        before = subject.traced
        case.run(-4)
        graphs[case.name] = subject.traced - before

    def watched(case: Case, k: int) -> None:
        before = subject.traced
        case.run(k)
        recompiles[case.name] += subject.traced - before

    works = {c.name: lambda k, c=c: watched(c, k) for c in cases}
    times = interleaved(works, rounds=rounds, warm=3)
    compiled = subject.graphs is not None
    return [
        Line(
            host=subject.name,
            mode=mode,
            case=case.name,
            count=counted(subject, case, 0),
            graphs=graphs[case.name] if compiled else None,
            recompiles=recompiles[case.name] if compiled else None,
            wall=paired(times[case.name].wall, times[case.base].wall),
            cpu=paired(times[case.name].cpu, times[case.base].cpu),
            milliseconds=1000 * statistics.median(times[case.name].wall),
            rounds=rounds,
            steps=subject.steps,
        )
        for case in cases
    ]


def table(lines: Sequence[Line]) -> str:
    """The lines as one table in Markdown."""
    head = ("host", "kernels", "case", "forwards", "rows", "texts", "graphs", "recompiles", "wall", "CPU", "ms")
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for line in lines:
        traced = ["-" if v is None else str(v) for v in (line.graphs, line.recompiles)]
        counts = [str(v) for v in (line.count.forwards, line.count.rows, line.count.texts)]
        ratios = [f"{r.median:.3f} ({r.low:.3f} to {r.high:.3f})" for r in (line.wall, line.cpu)]
        cells = [line.host, line.mode, line.case, *counts, *traced, *ratios, f"{line.milliseconds:.1f}"]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def write(name: str, about: dict[str, Any], lines: Sequence[Line], text: str) -> None:
    """Keeps the lines in `results/<name>.json` and, under `text`, as a table in `results/<name>.md`."""
    RESULTS.mkdir(exist_ok=True)
    body = {**about, "lines": [line.to_json() for line in lines]}
    (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(f"{text}\n\n{table(lines)}\n")
