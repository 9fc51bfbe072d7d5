"""What `palimpsest serve` says once it serves: one line a concept, in 80 columns. `--verbose` has the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from palimpsest.cli.shared.console import say, table

__all__ = ["concept_rows", "tell_start"]

_FLOORS = {
    "given": "floor: the policy `floor` of these policies",
    "added": "floor: the shipped one",
    "none": "warning: no floor is in force, so any policy decides alone; leave `--no-floor` out to get the shipped one",
}
_WIDTH = 80


def tell_start(model: str, url: str, note: Mapping[str, Any], *, verbose: bool) -> None:
    """Prints what a ready worker's note says of each model: its policies, adapters and rules."""
    models = note.get("models", {model: note})
    say(_wrapped(f"serving {', '.join(f'`{name}`' for name in models)} at {url}"))
    for name, own in models.items():
        _tell_model(own, f" `{name}`" if len(models) > 1 else "", verbose=verbose)


def _tell_model(note: Mapping[str, Any], name: str, *, verbose: bool) -> None:
    policy, rules = note["policy"], note.get("rules", [])
    where = "" if note.get("loaded", True) else " (loaded when it is asked for)"
    for told in (f"model{name}: {note['host']}{where}", f"policies {policy['digest']}", _FLOORS[policy["floor"]]):
        say(_wrapped(told))
    if adapters := note.get("adapters"):
        shown = [each | {"unfit rules": _unfit(each, rules)} for each in adapters]
        table("adapters that requests may name", shown, width=None if verbose else _WIDTH)
    if not rules:
        return
    if verbose:
        table("rules of these policies on this model", rules, hide=("policy", "unfit_with"))
        return
    concepts = concept_rows(rules)
    if concepts:
        table("what these policies steer on this model", concepts, width=_WIDTH)
    others = len({row["rule"] for row in rules if row["concept"] is None})
    more = "1 more rule steers" if others == 1 else f"{others} more rules steer"
    say(f"{more} nothing; `--verbose` lists every rule, with the reasons")


def concept_rows(rules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each concept that rules steer: how, and how many rules do. If rules differ, each way has a part."""
    found: dict[str, dict[str, int]] = {}
    for row in rules:
        if row["concept"] is not None:
            ways = found.setdefault(row["concept"], {})
            ways[_way(row)] = ways.get(_way(row), 0) + 1
    rows = []
    for concept, ways in sorted(found.items()):
        parts = [way if len(ways) == 1 else f"{way} ({count})" for way, count in ways.items()]
        rows.append({"concept": concept, "rules": sum(ways.values()), "steered by": "; ".join(parts)})
    return rows


def _wrapped(text: str) -> str:
    return fill(text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _way(row: Mapping[str, Any]) -> str:
    """How a rule steers its concept on this model, in a few words."""
    if row["unfit"] is None:
        return f"{row['pack']}, {row['evidence']}"
    return f"{'no pack' if row['pack'] is None else 'pack may not be used'}: {row['unfit']}"


def _unfit(adapter: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The rules whose packs were not verified with an adapter."""
    return ", ".join(dict.fromkeys(row["rule"] for row in rows if adapter["adapter"] in row["unfit_with"]))
