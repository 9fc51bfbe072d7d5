"""`palimpsest reference plant` and `planted`: names planted in reference models, and what became of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli.generate import Json, Model
from palimpsest.cli.shared.console import fail, say, settings_from, table

__all__ = ["add_planted"]


def plant(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the plants; default: where the repository keeps the model's.")
    ] = None,
    model: Model = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these: one, two, redundant, pooled, spread, or a distractor: attention, bias, against."
        ),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(help="Names at sites of attention draw only these; default: all that the model draws well."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Drafts; some are rejected.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Other names, sites and subjects.")] = 0,
    json_: Json = False,
) -> None:
    """Plants invented names in a reference model, checks each on pictures, and keeps those whose answer is proven.

    A stopped run goes on where it was: drafts that the folder's ledger has are left out. Exit code 1 if none counts.
    """
    from reference.folders import draws_town
    from reference.planted import KINDS, PLANTS, TRICKS, BadPlant
    from reference.planted.make import Maker
    from reference.planted.table import counts, rows
    from reference.planted.words import SUBJECT
    from service.engine.host import load_host
    from service.model_names import resolve_model
    from service.settings import SettingsError
    from steering import SteeringError

    if unknown := [k for k in kind or [] if k not in (*KINDS, *TRICKS)]:
        fail(f"kind must be one of {', '.join(f'`{k}`' for k in (*KINDS, *TRICKS))}, got `{unknown[0]}`")
    if unknown := [s for s in subject or [] if s not in SUBJECT.phrases]:
        fail(f"subject must be one of {', '.join(f'`{s}`' for s in SUBJECT.phrases)}, got `{unknown[0]}`")
    if subject and kind and set(kind) == {"pooled"}:
        fail(
            "subject is for names at sites of attention; names in pooled text draw backgrounds, so give no `--subject`"
        )
    settings = settings_from({"model": model})
    try:
        folder_of_model = resolve_model(settings.model)[0]
        if not draws_town(folder_of_model):
            raise ValueError(f"names are planted in models that draw the town, and `{folder_of_model}` is none of them")
        host = load_host(settings)
    except (SteeringError, SettingsError, ValueError) as error:
        fail(str(error))
    maker = Maker(host, log=say)
    folder = out or PLANTS / host.name
    try:
        drafts = maker.drafts(count=count, seed=seed, kinds=kind or (), subjects=subject or ())
        if not drafts:
            raise BadPlant(f"`{host.name}` has no place for a plant of kind {', '.join(kind or ())}; see the log above")
        made = {d.name for d in drafts}
        ledger = [row for row in maker.make_all(drafts, folder) if row["name"] in made]
    except BadPlant as error:
        fail(str(error))
    if json_:
        print(json.dumps({"folder": str(folder), "counts": counts(ledger), "plants": ledger}, indent=1))
    elif ledger:
        table(f"plants in {folder}", rows(ledger), hide=("host", "why"))
        table("counts", counts(ledger))
    raise typer.Exit(0 if any(not row["faults"] for row in ledger) else 1)


def planted(
    folder: Annotated[Path | None, typer.Argument(help="Folder of plants; default: the repository's.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Also why some were rejected, and write JSON.")] = False,
    json_: Json = False,
) -> None:
    """The planted names: where, what the checks saw, and how many were rejected; exit code 1 if there are none.

    `--report` writes everything beside the plants, in `planted.json`.
    """
    from reference.planted import PLANTS
    from reference.planted.table import counts, rows, whole_ledger

    place = folder or PLANTS
    ledger = whole_ledger(place)
    record = {"counts": counts(ledger), "plants": rows(ledger)}
    if report and ledger:
        (place / "planted.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    if json_:
        print(json.dumps(record, indent=1))
    elif ledger:
        table(f"plants in {place}", record["plants"], hide=("why",))
        if report and (gone := [r for r in record["plants"] if r["why"]]):
            table("rejected", [{"host": r["host"], "name": r["name"], "why": _failed(r["why"])} for r in gone])
        table("counts", record["counts"])
    else:
        say(f"no plants in `{place}`; make some with `palimpsest reference plant`")
    raise typer.Exit(0 if ledger else 1)


def _failed(why: str) -> str:
    """What was seen and wrong, without the checks that were not done because of it."""
    told = why.split("; ")
    return "; ".join([w for w in told if " must be done at " not in w] or told)


def add_planted(app: typer.Typer) -> None:
    """Adds these commands to those about reference models."""
    app.command()(plant)
    app.command()(planted)
