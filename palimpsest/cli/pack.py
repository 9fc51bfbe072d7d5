"""`palimpsest pack`: shows, verifies and compares packs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest.cli.shared.console import fail, say, stages, table
from palimpsest.cli.shared.hosts import is_ours, open_host
from palimpsest.cli.shared.options import Json, Model, Seed

if TYPE_CHECKING:
    from steering import Host, Pack

__all__ = ["add_packs"]

pack_app = typer.Typer(
    help="Packs: files that record where in a model a concept is steered, and the evidence.", no_args_is_help=True
)

PackFile = Annotated[Path, typer.Argument(help="A pack file.")]


@pack_app.command("show")
def pack_show(pack: PackFile, model: Model = None, json_: Json = False) -> None:
    """Show the concept, sites and evidence of a pack, checked against a model."""
    loaded = _loaded(pack, model)[0]
    facts: dict[str, Any] = {
        "concept": loaded.concept,
        "kind": loaded.kind,
        "sites": list(loaded.sites),
        "wider": list(loaded.wider),
        "of": len(loaded.site_names),
        "pooled": loaded.pooled,
        "rows": loaded.rows,
        "operators": _operators(loaded),
        "joint share": _share(loaded),
        "strength": loaded.strength,
        "window": [loaded.window.start, loaded.window.end],
        "scores": {} if loaded.scores is None else dict(zip(loaded.site_names, loaded.scores.tolist(), strict=True)),
        "calibration": [[c.strength, c.erasure, c.drift] for c in loaded.calibration],
        "sentinel": None if loaded.sentinel is None else _plain(loaded.sentinel.evidence),
        "evidence": _plain(loaded.evidence),
    }
    if json_:
        print(json.dumps(facts, indent=1))
        return
    table(str(pack), [{"what": k, "value": v} for k, v in facts.items() if k != "scores"])
    if facts["scores"]:
        table("effect of each site", [{"site": n, "effect by part of the run": s} for n, s in facts["scores"].items()])


@pack_app.command("verify")
def pack_verify(
    pack: PackFile,
    model: Model = None,
    prompts: Annotated[Path | None, typer.Option(help="JSON Lines of {prompt, donor}; default: generated.")] = None,
    count: Annotated[int, typer.Option(min=2, help="Held-out contrasts to measure on.")] = 12,
    adapter: Annotated[
        Path | None, typer.Option(help="Measure it beside this tuned pack, and note there that it holds.")
    ] = None,
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Measure a pack again on held-out prompts. Exit code 1 if its effect is not confirmed."""
    from localization import LocalizationError, load_contrasts
    from localization.verify import verify
    from palimpsest.cli.shared.contrasts import held_out_contrasts, witness_for

    loaded, host = _loaded(pack, model)
    if loaded.tuned:
        fail(f"pack `{loaded.concept}` was tuned; `pack verify` measures packs that take something out of pictures")
    town, beside = is_ours(model), None if adapter is None else _tuned(adapter, host)
    try:
        contrasts = (
            load_contrasts(prompts, seed=seed + 1)[:count]
            if prompts is not None
            else held_out_contrasts(loaded.concept, count, town=town, neutral=loaded.neutral, seed=seed)
        )
        witness = witness_for(loaded.concept, town=town)
        if beside is not None and witness is None:
            fail(f"--adapter needs a judge that sees `{loaded.concept}` in pictures of this model, and there is none")
        found = verify(host, loaded, contrasts, witness=witness, beside=beside, progress=stages())
        if adapter is not None and beside is not None and found.holds:
            _note(adapter, beside, loaded, found.to_json())
    except (ValueError, OSError, LocalizationError) as error:
        fail(str(error))
    if json_:
        print(json.dumps(found.to_json(), indent=1))
    else:
        table(str(pack), [{"what": k, "value": v} for k, v in found.to_json().items()])
    raise typer.Exit(0 if found.holds else 1)


def _tuned(file: Path, host: Host) -> Pack:
    from steering import Pack, SteeringError

    try:
        found = Pack.load(file, host=host)
    except SteeringError as error:
        fail(str(error))
    if found.kind != "adapter":
        fail(f"--adapter must be a pack of kind `adapter`, got one of kind `{found.kind}`")
    return found


def _note(file: Path, beside: Pack, pack: Pack, found: Mapping[str, Any]) -> None:
    """Writes into the adapter's pack, and into the card of the LoRA beside it, that a pack holds with it."""
    told = {**beside.evidence.get("verified_with", {}), pack.digest: {"concept": pack.concept, "scale": 1.0, **found}}
    replace(beside, evidence={**beside.evidence, "verified_with": told}).save(file)
    card = file.with_name("lora.safetensors.card.json")
    if card.is_file():
        card.write_text(
            json.dumps(json.loads(card.read_text("utf-8")) | {"verified_with": told}, indent=1) + "\n", "utf-8"
        )
    say(f"noted in {file}: rules of `{pack.concept}` are fit with it")


@pack_app.command("diff")
def pack_diff(
    one: Annotated[Path, typer.Argument(help="A pack file.")],
    other: Annotated[Path, typer.Argument(help="Another pack file.")],
    json_: Json = False,
) -> None:
    """Show how two packs differ. No model is needed. Exit code 1 if they differ."""
    from localization.verify import differences
    from steering import PackError
    from steering.packs.pack import read_header

    try:
        rows = differences(read_header(one), read_header(other))
    except PackError as error:
        fail(str(error))
    if json_:
        print(json.dumps(rows, indent=1))
    elif rows:
        table(f"{one} and {other}", rows)
    else:
        say("the packs do not differ")
    raise typer.Exit(1 if rows else 0)


def add_packs(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.add_typer(pack_app, name="pack")


def _loaded(pack: Path, model: str | None) -> tuple[Pack, Host]:
    from steering import Pack, SteeringError

    if not pack.is_file():
        fail(f"no pack file `{pack}`")
    host = open_host(model)
    try:
        return Pack.load(pack, host=host), host
    except SteeringError as error:
        fail(str(error))


def _share(pack: Pack) -> str:
    """How much of all sites' effect the chosen ones reach, or that nobody measured it."""
    if pack.choice is None:
        return f"not measured: {pack.evidence['kind']}"
    return f"{pack.choice.share:.3f} [{pack.choice.low:.3f}, {pack.choice.high:.3f}]"


def _operators(pack: Pack) -> str | None:
    """How many operators there are, of which rank, and at which places; None for a pack that swaps."""
    own = list(dict.fromkeys(o for at_site in pack.operators.values() for o in at_site))
    if not own:
        return None
    ranks = sorted({len(o.e) for o in own})
    rank = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    return f"{len(own)} of rank {rank}, at {', '.join(sorted({o.where for o in own}))}"


def _plain(value: Any) -> Any:
    """Mappings and sequences of any kind as dicts and lists."""
    return json.loads(json.dumps(value, default=lambda v: dict(v) if hasattr(v, "keys") else list(v)))
