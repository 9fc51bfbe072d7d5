"""Measured rows as text: rates with their counts and intervals, and means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palimpsest.cli.shared.console import keep, table

__all__ = ["brief", "report_rows"]


def report_rows(rows: Mapping[str, Mapping[str, Any]], out: Path | None, json_: bool, **how: Any) -> None:
    """Prints one table per row, or JSON; the JSON also says what the rows were measured on, and `how`."""
    keep({**how, "rows": rows}, out, json_)
    if json_:
        return
    for name, row in rows.items():
        table(name, [{"measure": k, "value": _shown(v)} for k, v in row.items()])


def brief(value: Any) -> str:
    """A rate as `hits/n`; a mean without its interval; anything else as it is."""
    if isinstance(value, Mapping) and "hits" in value:
        return f"{value['hits']}/{value['n']}"
    return str(value["mean"]) if isinstance(value, Mapping) and "mean" in value else str(value)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and "hits" in value:
        share = "-" if value["share"] is None else f"{100 * value['share']:.1f} %"
        low, high = value["interval"]
        return f"{share} ({value['hits']}/{value['n']}; {100 * low:.1f} to {100 * high:.1f})"
    if isinstance(value, Mapping) and "mean" in value:
        return f"{value['mean']} {value['interval']}, fifth percentile {value['p5']}, n {value['n']}"
    return json.dumps(value) if isinstance(value, Mapping) else str(value)
