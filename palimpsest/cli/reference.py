"""`palimpsest reference`: trains the shipped reference models, reports on them, and plants names in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from palimpsest.cli.shared.console import by_rows, fail, say, settings_from, table
from palimpsest.cli.shared.hosts import open_host
from palimpsest.cli.shared.measures import report_rows
from palimpsest.cli.shared.options import Count, Json, Model, Out

__all__ = ["add_reference"]

reference_app = typer.Typer(
    help="Reference models: the small models that this project trains and ships.", no_args_is_help=True
)


@reference_app.command("report")
def reference_report(model: Model = None, count: Count = 200, out: Out = None, json_: Json = False) -> None:
    """Measure how well a reference model draws its captions, beside true pictures. Exit code 1 if below the bar."""
    from evaluation import Judges, below_bar, load_word_list, model_report
    from evaluation.prompts.cases import SHIPPED_INSULTS

    insults = load_word_list(SHIPPED_INSULTS)
    host = open_host(model)
    rows = model_report(host, Judges.load(), insults, count=count, progress=say)
    report_rows(rows, out, json_)
    if missed := below_bar(rows):
        say(f"below the bar: {'; '.join(missed)}")
        raise typer.Exit(1)


@reference_app.command("train")
def reference_train(
    what: Annotated[
        Literal[
            "signpost-pixart",
            "signpost-sd3",
            "signpost-sdxl",
            "signpost-flux",
            "signpost-zimage",
            "signpost-qwen",
            "judges",
            "reader",
        ],
        typer.Argument(help="A reference model, the judges, or the reader."),
    ],
    work: Annotated[
        Path, typer.Option(help="Folder for checkpoints and curves; a stopped run resumes from it.")
    ] = Path("runs"),
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; default: `WORK/models` for a model, the repository's for judges and reader."
        ),
    ] = None,
    px: Annotated[
        int, typer.Option(help="Side of the model's pictures in pixels, 64 or 128; `signpost-qwen` draws twice that.")
    ] = 64,
    gpu: Annotated[bool, typer.Option("--gpu", help="Use the recipe for a CUDA device, with larger batches.")] = False,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Compile the denoiser.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw training pictures.")] = 1,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of a trained model: run only the remaining stages of its recipe."),
    ] = None,
    parts: Annotated[
        Path | None,
        typer.Option(
            help="Folder of another trained model: take its autoencoder and text encoders, train only the denoiser."
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Train a reference model, the judges, or the evaluation's reader. A stopped run resumes.

    A model takes hours on two cores; judges and reader take minutes.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if what.startswith("signpost-"):
        _train_model(what, out, work, px=px, gpu=gpu, compiled=compiled, workers=workers, start=start, parts=parts)
    elif start is not None or parts is not None:
        fail(f"{'--from' if start else '--parts'} must be given for a model only, got it for `{what}`")
    elif what == "judges":
        from reference.town.judge import JUDGE_RECIPES, train_judge

        for recipe in JUDGE_RECIPES:
            folder = (out / recipe.folder.name) if out else recipe.folder
            say(f"{recipe.folder.name}: {train_judge(recipe, folder, work=work)}")
    else:
        from evaluation.readers.reader import READER, train_reader

        exact = train_reader(out or READER, work=work)
        say(f"reads {100 * exact:.1f} % of held-out signs exactly")


@reference_app.command("plant")
def reference_plant(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the plants; default: where the repository keeps the model's.")
    ] = None,
    model: Model = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these kinds: one, two, redundant, pooled, spread; or a distractor: attention, bias, against."
        ),
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(help="Subjects for names at attention sites; default: all that the model draws well."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of drafts; some are rejected.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of names, sites and subjects.")] = 0,
    json_: Json = False,
) -> None:
    """Plant invented names in a reference model, check each on pictures, and keep those that are proven.

    A stopped run resumes: drafts in the folder's ledger are not made again. Exit code 1 if no plant is proven.
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
        fail("--subject must be left out for `pooled`: names in pooled text draw backgrounds")
    settings = settings_from({"model": model})
    try:
        folder_of_model = resolve_model(settings.model)[0]
        if not draws_town(folder_of_model):
            raise ValueError(f"model must be one that draws the town, got `{folder_of_model}`")
        host = load_host(settings)
    except (SteeringError, SettingsError, ValueError) as error:
        fail(str(error))
    maker = Maker(host, log=say)
    folder = out or PLANTS / host.name
    try:
        drafts = maker.drafts(count=count, seed=seed, kinds=kind or (), subjects=subject or ())
        if not drafts:
            raise BadPlant(f"`{host.name}` has no sites for a plant of kind {', '.join(kind or ())}; see the log above")
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


@reference_app.command("planted")
def reference_planted(
    folder: Annotated[Path | None, typer.Argument(help="Folder of plants; default: the repository's.")] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Also show why drafts were rejected, and write `planted.json`.")
    ] = False,
    json_: Json = False,
) -> None:
    """Show the planted names: sites, checks and rejected drafts. Exit code 1 if there are none."""
    from reference.planted import PLANTS
    from reference.planted.table import counts, rows, whole_ledger

    place = folder or PLANTS
    ledger = whole_ledger(place)
    record = {"counts": counts(ledger), "plants": rows(ledger)}
    if report and ledger:
        (place / "planted.json").write_text(by_rows(record) + "\n", "utf-8")
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


def add_reference(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.add_typer(reference_app, name="reference")


def _train_model(
    name: str,
    out: Path | None,
    work: Path,
    *,
    px: int,
    gpu: bool,
    compiled: bool,
    workers: int,
    start: Path | None,
    parts: Path | None,
) -> None:
    """Trains a model into `out`, or into the work folder; a model is moved into the repository by hand."""
    import torch

    from reference.recipes import recipe_for, train

    if gpu and not torch.cuda.is_available():
        fail("--gpu needs a CUDA device, and torch sees none; leave it out to train on the CPU")
    try:
        recipe = recipe_for(name, px=px, gpu=gpu)  # type: ignore[arg-type]
    except ValueError as error:
        fail(str(error))
    device = "cuda" if gpu else "cpu"
    target = out or work / "models" / f"{name}-{px}"
    try:
        written = train(
            recipe,
            target,
            work=work,
            device=device,
            compiled=compiled,
            workers=workers,
            start=start,
            parts=parts,
            log=say,
        )
    except (FileNotFoundError, ValueError) as error:
        if start is None and parts is None:
            raise
        fail(str(error))
    say(f"wrote {written}")


def _failed(why: str) -> str:
    """The checks that failed, without those that were skipped because of it."""
    told = why.split("; ")
    return "; ".join([w for w in told if " must be done at " not in w] or told)
