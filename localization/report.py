"""The report of a search: one HTML page in light and dark, with all pictures and drawings inside.

The page forbids itself to load anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from localization.errors import NotKept
from localization.run import Outcome
from steering import Pack

__all__ = ["page_of", "write_report"]

_TEMPLATE = Path(__file__).with_name("report.html.j2")
_WIDE, _HIGH, _LEFT, _TOP, _BOTTOM = 560, 260, 64, 28, 48  # of the plot against K, in pixels
_TICKS = 16  # at most so many numbers below it


def write_report(outcome: Outcome, file: Path, *, model: str) -> Path:
    """The path of the written page, which replaces an older one in one move. Raises: NotKept."""
    fresh = file.with_suffix(".new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(page_of(outcome, model=model), "utf-8")
        fresh.replace(file)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise NotKept(
            f"cannot write the report `{file}`: {error.strerror}; what was measured is kept, run it again"
        ) from error
    return file


def page_of(outcome: Outcome, *, model: str) -> str:
    """The page as text; the same for the same outcome."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    evidence, pack = outcome.evidence, outcome.pack
    pictures = evidence.get("pictures", {})
    heat = _heat(evidence["scores"], pack, evidence["units"])
    rows = [_row(name, row, evidence, pictures.get(name)) for name, row in evidence["check"].items()]
    windows = evidence.get("windows", {})
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        concept=pack.concept,
        model=model,
        answer=_told(outcome),
        compact=outcome.compact,
        missed=pack.choice is not None and pack.choice.share < pack.choice.target,
        pack=pack,
        evidence=evidence,
        heat=heat,
        levels=[f"{100 * level:.0f} %" for level in evidence["levels"]],
        plot=_plot(evidence, pack.choice.target if pack.choice else 0.9),
        rows=rows,
        donors=any(r["donor seen"] is not None for r in (*pictures.values(), *windows.values())),
        before=evidence["check"].get("before pictures were asked"),
        plain=pictures.get("none"),
        finalists=evidence.get("finalists", ()),  # packs of earlier versions have none
        windows=windows,
        curve=pack.calibration,
        strips=outcome.strips,
        cost=evidence["cost"],
    )


def _told(outcome: Outcome) -> str:
    """The answer in one sentence."""
    units, of = outcome.evidence["units"], len(outcome.evidence["scores"])
    if outcome.answer == "no compact set":
        return f"No compact set: it takes {len(units)} of {of} places to reach the target."
    if outcome.answer == "pooled":
        return "Pooled text carries it; no site of attention is needed."
    if outcome.answer == "alternatives":
        return f"Any one of {len(units)} places carries it alone; to take it away, all {len(units)} must be steered."
    return f"{len(units)} of {of} places carry it together."


def _heat(scores: Mapping[str, Sequence[float]], pack: Pack, chosen: Sequence[str]) -> list[dict[str, Any]]:
    """A row a place, in the order in which they run: its name, whether it was chosen, and for each level value and
    shade in [0, 1].
    """
    top = max((v for row in scores.values() for v in row), default=0.0) or 1.0
    ordered = [name for name in pack.site_names if name in scores]
    return [
        {
            "name": name,
            "chosen": name in chosen,
            "wider": name in pack.wider and name not in chosen,
            "sum": sum(scores[name]),
            "cells": [{"value": v, "shade": round(max(0.0, v / top), 3)} for v in scores[name]],
        }
        for name in (*ordered, *(name for name in scores if name not in ordered))
    ]


def _plot(evidence: Mapping[str, Any], target: float) -> dict[str, Any]:
    """Joint share against every K, as places of dots, of sizes that were not asked about, and of the target's line."""
    path, chosen, last = evidence["path"], len(evidence["units"]), len(evidence["scores"])
    asked = {0: 0.0, **{p["k"]: p["share"] for p in path}, last: 1.0}  # no place, and all: by definition
    top = max(1.0, *asked.values())
    every = -(-last // _TICKS)

    def x(k: float) -> float:
        return round(_LEFT + (_WIDE - _LEFT - 16) * k / last, 1)

    def y(share: float) -> float:
        return round(_TOP + (_HIGH - _BOTTOM - _TOP) * (1 - max(0.0, share) / top), 1)

    dots = [{"x": x(k), "y": y(share), "k": k, "share": share} for k, share in sorted(asked.items())]
    return {
        "dots": dots,
        "line": " ".join(f"{d['x']},{d['y']}" for d in dots),
        "target": y(target),
        "goal": target,
        "chosen": {"x": x(chosen), "k": chosen, "left": chosen > last / 2},
        "ringed": chosen in asked,
        "unasked": [{"x": x(k), "k": k} for k in range(last + 1) if k not in asked],
        "ticks": [{"x": x(k), "k": k} for k in range(0, last + 1, every)],
        "marks": [{"y": y(v), "share": f"{v:g}"} for v in (0.0, 0.5, 1.0)],
        "width": _WIDE,
        "height": _HIGH,
        "left": _LEFT,
        "top": _TOP,
        "floor": _HIGH - _BOTTOM,
    }


def _row(
    name: str, row: Mapping[str, Any], evidence: Mapping[str, Any], seen: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "name": name,
        "k": row["k"],
        "share": row["share"],
        "interval": row["interval"],
        "control": evidence["controls"].get(name),
        "own": f"{seen['own seen']} of {seen['n']}" if seen else "",
        "donor": f"{seen['donor seen']} of {seen['n']}" if seen and seen["donor seen"] is not None else "",
        "drift": f"{seen['drift']:.4f}" if seen else "",
    }
