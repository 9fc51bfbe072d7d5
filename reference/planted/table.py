"""The results of planting, as rows for people and machines: one row per draft, and counts by host and kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palimpsest_base.statistics import wilson
from reference.planted.make import read_ledger
from reference.planted.plant import PlantCheck

__all__ = ["PLANTS", "counts", "rows", "whole_ledger"]

PLANTS = Path(__file__).parent.parent / "plants"


def whole_ledger(folder: Path) -> list[dict[str, Any]]:
    """The rows of all ledgers in a folder and its folders, by model."""
    folders = sorted({f.parent for f in folder.glob("**/*.jsonl")})
    return [row for place in folders for row in read_ledger(place)]


def rows(ledger: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per draft: its sites, what the three checks showed, and whether it is admitted.

    A check of several parts shows its worst; one that was not done because an earlier one failed is None.
    """
    return [
        {
            "host": row["model"],
            "name": row["name"],
            "kind": row["label"],
            "subject": row["subject"],
            "sites": _sites(row["proof"]["sites"]),
            "plain": _worst(row, "plain"),
            "(a)": _worst(row, "a"),
            "(b)": _worst(row, "b"),
            "(c)": _worst(row, "c"),
            "distractor": _distractor(row),
            "verdict": "rejected" if row["faults"] else "admitted",
            "why": "; ".join(row["faults"]) or None,
        }
        for row in ledger
    ]


def counts(ledger: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Admitted and rejected drafts by host and kind and in total, with the seconds that they took."""
    return [_count(host, kind, some) for host, kind, some in _groups(ledger)]


def _groups(ledger: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, list[Mapping[str, Any]]]]:
    kinds = dict.fromkeys((str(r["model"]), str(r["label"])) for r in ledger)
    for host, kind in sorted(kinds):
        yield host, kind, [r for r in ledger if (r["model"], r["label"]) == (host, kind)]
    if ledger:
        yield "all", "all", list(ledger)


def _count(host: str, kind: str, some: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    admitted = sum(not r["faults"] for r in some)
    return {
        "host": host,
        "kind": kind,
        "admitted": admitted,
        "rejected": len(some) - admitted,
        "seconds each": round(sum(r["seconds"] for r in some) / len(some), 1),
    }


def _worst(row: Mapping[str, Any], role: str) -> str | None:
    checks = [PlantCheck(**{**c, "swapped": tuple(c["swapped"])}) for c in row["proof"]["checks"] if c["role"] == role]
    if not checks:
        return None
    worst = max(checks, key=lambda c: c.share) if role in ("a", "c") else min(checks, key=lambda c: c.share)
    low, high = wilson(worst.seen, worst.n)
    return f"{worst.seen}/{worst.n} ({100 * low:.0f} to {100 * high:.0f} %)"


def _sites(names: Sequence[str]) -> str:
    """Short names: many sites are counted."""
    short = [".".join(p for p in n.split(".") if p not in ("transformer_blocks", "attn", "attn2")) for n in names]
    return ", ".join(short) if len(short) <= 3 else f"{len(short)} sites"


def _distractor(row: Mapping[str, Any]) -> str | None:
    told = [f"{d['trick']} {d['size']:g} at {_sites([d['site']])}" for d in row["proof"]["distractors"]]
    return "; ".join(told) or None
