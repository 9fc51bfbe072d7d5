"""`palimpsest pack`: shows, verifies and compares packs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest.cli.shared.console import emit, fail, plain, say, stages, table
from palimpsest.cli.shared.hosts import is_ours, open_host
from palimpsest.cli.shared.options import Json, Model, Seed

if TYPE_CHECKING:
    from steering import Host, Pack

__all__ = ["add_packs"]

pack_app = typer.Typer(
    help="Packs: files that record where in a model a concept is steered, and the evidence.", no_args_is_help=True
)

_BAR = 16  # letters of the longest bar

PackFile = Annotated[Path, typer.Argument(help="A pack file.")]


@pack_app.command("show")
def pack_show(
    pack: PackFile,
    model: Model = None,
    full: Annotated[bool, typer.Option("--full", help="Also print everything else, and the evidence.")] = False,
    json_: Json = False,
) -> None:
    """Show where in a model a pack steers, and how well; the pack is checked against the model."""
    loaded, host = _loaded(pack, model)
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
    _show_map(loaded, host)
    if full:
        import yaml

        told = yaml.safe_dump(_rounded(facts), sort_keys=False, allow_unicode=True, default_flow_style=None)
        emit(f"\n{told.rstrip()}")
    else:
        say("`--full` shows the evidence, `--json` all of it with every digit")


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


def _show_map(pack: Pack, host: Host) -> None:
    """Prints what matters of a pack, and the host's sites in the order in which they run, with those that it steers."""
    from rich.console import Console
    from rich.table import Table

    from steering import block_map

    sites = block_map(host, pack)
    top = max((site.effect for site in sites), default=0.0)
    drawn = Table(box=None)
    for name, how in {"": "right", "site": "left", "strength": "left", "effect of the site alone": "left"}.items():
        drawn.add_column(name, justify=how, overflow="fold")  # type: ignore[arg-type]
    strength = "none found" if pack.strength is None else f"{pack.strength:g}"
    for number, site in enumerate(sites):
        bar = "█" * round(_BAR * max(0.0, site.effect) / top) if top > 0 else ""
        drawn.add_row(
            str(number),
            plain(site.name),
            strength if site.chosen else "wider" if site.wider else "·",
            f"{bar} {round(site.effect, 3) + 0.0:.3f}".strip() if site.effects else "",
            style="bold" if site.chosen else "",
        )
    for line in (*_figures(pack, host), ""):
        emit(line)
    Console(highlight=False).print(drawn, markup=False)


def _figures(pack: Pack, host: Host) -> list[str]:
    """What a pack is, and the three figures that matter: how many sites, their joint share, what pictures show."""
    kind = f"{pack.kind}, {pack.evidence.get('kind', 'unknown')}"
    operators = _operators(pack)
    compact = "; no compact set: more than half are needed" if pack.evidence.get("answer") == "no compact set" else ""
    told = [
        f"{pack.concept} in {host.name} ({kind}{f'; operators: {operators}' if operators else ''})",
        f"  sites        {len(pack.sites)} of {len(pack.site_names)}{compact}",
        f"  joint share  {_share(pack)}{_against_target(pack)}",
    ]
    pictures = pack.evidence.get("pictures", {})
    dose = next((c for c in pack.calibration if c.strength == pack.strength), None)
    if {"none", "chosen"} <= set(pictures):
        plain, steered = pictures["none"], pictures["chosen"]
        told.append(
            f"  pictures     that show it: {plain['own seen']} of {plain['n']} plain,"
            f" {steered['own seen']} of {steered['n']} steered"
        )
    elif dose is not None:
        told.append(f"  pictures     erased {dose.erasure:.3f}, drift {dose.drift:.3f}, at strength {dose.strength:g}")
    else:
        told.append("  pictures     not counted")
    return told


def _share(pack: Pack) -> str:
    """How much of all sites' effect the chosen ones reach, or that nobody measured it."""
    if pack.choice is None:
        return f"not measured: {pack.evidence['kind']}"
    return f"{pack.choice.share:.3f} [{pack.choice.low:.3f}, {pack.choice.high:.3f}]"


def _against_target(pack: Pack) -> str:
    if pack.choice is None:
        return ""
    below = "" if pack.choice.share >= pack.choice.target else "below "
    return f" of all sites' effect; {below}target {pack.choice.target:g}"


def _operators(pack: Pack) -> str | None:
    """How many operators there are, of which rank, and at which places; None for a pack that swaps."""
    own = list(dict.fromkeys(o for at_site in pack.operators.values() for o in at_site))
    if not own:
        return None
    ranks = sorted({len(o.e) for o in own})
    rank = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    return f"{len(own)} of rank {rank}, at {', '.join(sorted({o.where for o in own}))}"


def _rounded(value: Any) -> Any:
    """The same with four digits behind the point."""
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def _plain(value: Any) -> Any:
    """Mappings and sequences of any kind as dicts and lists."""
    return json.loads(json.dumps(value, default=lambda v: dict(v) if hasattr(v, "keys") else list(v)))
