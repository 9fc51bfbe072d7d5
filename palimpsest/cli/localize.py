"""`palimpsest localize` finds where a concept sits in a model; `evaluate localization` tests the methods."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palimpsest.cli.shared.console import fail, keep, say, settings_from, stages, table
from palimpsest.cli.shared.hosts import is_ours, open_host
from palimpsest.cli.shared.options import Json, Model, Out, Seed

if TYPE_CHECKING:
    from localization import Executor, Outcome, Witness
    from palimpsest.cli.shared.contrasts import ContrastSets
    from steering import Host, Pack

__all__ = ["add_localize"]


def localize(
    concept: Annotated[str, typer.Option(help="The pack's concept: `lettering`, `character/<x>`, `style/<x>` ...")],
    out: Annotated[Path, typer.Option(help="The pack to write, a .safetensors file.")],
    model: Model = None,
    prompts: Annotated[Path | None, typer.Option(help="JSON Lines of {prompt, donor}; default: generated.")] = None,
    phrase: Annotated[str | None, typer.Option(help="The concept's words in prompts; default: its name.")] = None,
    neutral: Annotated[str | None, typer.Option(help="Words that replace the concept's words in donors.")] = None,
    method: Annotated[
        Literal["gradient", "contribution", "patching"],
        typer.Option(help="Screening method; the choice then measures sets of sites."),
    ] = "gradient",
    points: Annotated[int, typer.Option(help="For `gradient`: points on the path, 1, 2, 3 or 5.")] = 1,
    count: Annotated[int, typer.Option(min=2, help="Contrasts to search with.")] = 4,
    check: Annotated[int, typer.Option(min=2, help="Further contrasts, for the check and the pictures.")] = 12,
    target: Annotated[
        float, typer.Option(min=0.1, max=1.0, help="Share of the full effect that the chosen sites must reach.")
    ] = 0.9,
    budget: Annotated[int | None, typer.Option(min=1, help="Most row evaluations for screening and choice.")] = None,
    window: Annotated[
        Literal["whole", "auto"], typer.Option(help="Steps: all, or the smallest part with the same effect.")
    ] = "whole",
    confirm: Annotated[
        str | None, typer.Option(help="Measure the sites of this published preset instead of searching.")
    ] = None,
    executor: Annotated[Literal["local", "ray"], typer.Option(help="Measure in this process, or with Ray.")] = "local",
    workers: Annotated[int, typer.Option(min=1, help="For `ray`: processes, one model each.")] = 2,
    state: Annotated[
        Path | None, typer.Option(help="Folder of stored measurements; default: in the state folder.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="The HTML page; default: beside the pack.")] = None,
    as_published: Annotated[
        Literal["A", "B"] | None,
        typer.Option(help="Only run the procedure of paper A (arXiv 2502.09935) or B (2505.18832)."),
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Continue even if pictures do not show the concept.")
    ] = False,
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Find the smallest set of sites (attention layers) that carries a concept, and write a pack.

    Exit code 1 if no small set does.
    A stopped run continues when the same command is run again.
    """
    from localization import LocalizationError, Search
    from localization import localize as run
    from localization.report import write_report
    from palimpsest.cli.shared.contrasts import contrast_sets, witness_for
    from steering import SteeringError

    if as_published is None and out.suffix != ".safetensors":  # said before an hour of measuring, not after it
        fail(f"--out must end in `.safetensors`, got `{out}`")
    settings, town = settings_from({"model": model}), is_ours(model)
    try:
        how = Search(method=method, points=points, budget=budget, window=window)
        options: dict[str, Any] = {"prompts": prompts, "phrase": phrase, "neutral": neutral}
        sets = contrast_sets(concept, town=town, count=count, check=check, target=target, seed=seed, **options)
    except (ValueError, OSError, SteeringError) as error:
        fail(str(error))
    witness = witness_for(concept, town=town)
    folder = state or settings.state_folder / "localize"
    host = open_host(model)
    given = _preset(host, confirm, concept) if confirm else None
    try:
        if as_published is not None:
            _publish(host, as_published, sets, witness, json_)
            return
        with _asked(host, witness, executor, workers, (model, concept), folder) as who:
            outcome = run(
                host,
                sets.aim,
                search=sets.search,
                check=sets.check,
                controls=sets.controls,
                how=how,
                witness=witness,
                executor=who,
                progress=stages(),
                seed=seed,
                anyway=anyway,
                given=None if given is None else _units_of(given, host),
            )
        confirmed = given is None or _is_confirmed(outcome, target)
        path = outcome.pack.save(out) if confirmed else None
        page = write_report(outcome, report or out.with_suffix(".html"), model=host.name)
    except (LocalizationError, SteeringError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write `{error.filename or out}`: {error.strerror}; measurements are kept, run the command again")
    if json_:
        told = {"pack": None if path is None else str(path), "report": str(page), "sites": list(outcome.pack.sites)}
        print(json.dumps({**told, "pooled": outcome.pack.pooled, **outcome.evidence}, indent=1))
    else:
        _show(outcome)
        if path is None:
            say(f"preset `{confirm}` is not confirmed, no pack written: its sites do not reach {target:g} of the swap")
        else:
            say(f"wrote {path}: {len(outcome.pack.sites)} of {len(outcome.pack.site_names)} sites")
        say(f"wrote {page}")
    raise typer.Exit(0 if outcome.compact and confirmed else 1)


def _publish(host: Host, paper: str, sets: ContrastSets, witness: Witness | None, json_: bool) -> None:
    """Prints the result of a paper's own procedure for each site, and its cost."""
    from localization import LocalExecutor, Worker
    from localization.search.published import as_published_a, as_published_b

    executor = LocalExecutor(Worker(host, witness))
    steps = host.defaults.num_inference_steps or 20
    if paper == "A":
        told = as_published_a(host, executor, sets.search, witness="" if witness is None else "given")
    else:
        told = as_published_b(host, executor, sets.search, steps=steps)
    sites = [u for u in host.units if u in {s.name for s in host.sites}]
    rows = [{"site": s, "score": round(v, 5)} for s, v in zip(sites, told.scores, strict=True)]
    chosen = None if told.chosen is None else list(told.chosen)
    if json_:
        print(json.dumps({"paper": paper, "scores": rows, "chosen": chosen, "row evaluations": told.rows}, indent=1))
        return
    table(f"paper {paper}, as published: {told.rows} row evaluations", rows)
    say("the procedure chooses no K" if chosen is None else f"chosen: {', '.join(chosen)}")


@contextmanager
def _asked(
    host: Host, witness: Witness | None, executor: str, workers: int, build: tuple[str | None, str], folder: Path
) -> Iterator[Executor]:
    """Who answers cells, with the answers of earlier runs before them."""
    from functools import partial

    from localization import KeptExecutor, LocalExecutor, Worker

    here = LocalExecutor(Worker(host, witness))
    inner: Any = here
    if executor == "ray":
        from localization.measure.ray_executor import RayExecutor
        from palimpsest.cli.shared.contrasts import worker_for

        inner = RayExecutor(partial(worker_for, *build), digest=here.digest, workers=workers)  # type: ignore[arg-type]
    kept = KeptExecutor(inner, folder)
    try:
        yield kept
    finally:
        kept.close()
    if kept.found:
        say(f"{kept.found} measurements reused from an earlier run, {kept.asked} are new")


def _preset(host: Host, name: str, concept: str) -> Pack:
    from steering import PackError, published_packs

    found = published_packs(host)
    if name not in found:
        known = ", ".join(f"`{n}`" for n in found) or "none"
        fail(f"no published preset `{name}` fits this model; those that do: {known}")
    try:
        return found[name].about(concept)
    except PackError as error:
        fail(str(error))


def _units_of(pack: Pack, host: Host) -> list[str]:
    """A pack's sites, and where pooled text enters if it is swapped as well."""
    pooled = {s.name for s in host.global_sites} if pack.pooled == "donor" else set()
    return [u for u in host.units if u in pack.sites or u in pooled]


def _is_confirmed(outcome: Outcome, target: float) -> bool:
    return outcome.pack.choice is not None and outcome.pack.choice.share >= target


def _show(outcome: Outcome) -> None:
    evidence = outcome.evidence
    scores = [{"place": k, "score": round(sum(v), 4)} for k, v in evidence["scores"].items()]
    table(f"what `{evidence['method']}` says of each place", scores)
    pictures = evidence.get("pictures", {})
    rows = []
    for name, row in evidence["check"].items():
        seen = pictures.get(name, {})
        rows.append(
            {
                "sites": name,
                "K": row["k"],
                "joint share": row["share"],
                "95 %": row["interval"],
                "control's share": evidence["controls"][name],
                "own still seen": f"{seen['own seen']}/{seen['n']}" if seen else None,
                "donor seen": f"{seen['donor seen']}/{seen['n']}" if seen and seen["donor seen"] is not None else None,
            }
        )
    told = {"set": "a compact set"}.get(outcome.answer, outcome.answer)
    table(f"joint effect on prompts that were not searched: {told}", rows)
    if evidence["finalists"]:
        finalists = [row | {"sites": ", ".join(row["sites"])} for row in evidence["finalists"]]
        table("finalists, asked on pictures of the searched prompts", finalists)
    cost = evidence["cost"]
    spent = [{"part": k, "row evaluations": v} for k, v in cost["row evaluations"].items()]
    spent.append({"part": "baseline", "row evaluations": cost["baseline"]})
    share = cost["screening and choice, of the baseline"]
    table(f"cost; screening and choice take 1/{round(1 / share) if share else 0} of the baseline", spent)


def evaluate_localization(
    plants: Annotated[
        Path | None, typer.Option(help="Folder of planted names; default: those shipped for the model.")
    ] = None,
    model: Model = None,
    papers: Annotated[str, typer.Option(help="Also test the procedures of papers: `A`, `B`, `A,B`, or none.")] = "B",
    methods: Annotated[str | None, typer.Option(help="Our methods to test, separated by commas; default: all.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Contrasts to search with.")] = 4,
    most: Annotated[
        int | None, typer.Option(min=1, help="Use only this many planted names, in order of name; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the contrasts.")] = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Test every method on planted names, whose sites are known: recall, precision, K, kind, rank and cost."""
    from evaluation.tables.localization import OURS, plant_trials, trial_rows
    from palimpsest.cli.shared.contrasts import plant_judge
    from reference.planted import PLANTS, BadPlant, load_plants

    named = [m.strip() for m in methods.split(";" if ";" in methods else ",")] if methods else list(OURS)
    asked = [p.strip() for p in papers.split(",") if p.strip() not in ("", "none")]
    if unknown := [m for m in named if m not in OURS] + [p for p in asked if p not in ("A", "B")]:
        fail(f"unknown `{unknown[0]}`; methods are {', '.join(f'`{m}`' for m in OURS)}, papers `A` and `B`")
    host = open_host(model)
    folder = plants or PLANTS / host.name
    try:
        found = load_plants(folder)
        ours = [p for p in found if not p.host.differences(host.fingerprint)][:most]
        if not ours:
            fail(f"no plant in `{folder}` was made in `{host.name}`; make some with `palimpsest reference plant`")
        trials = plant_trials(
            host, ours, methods=named, papers=asked, judge=plant_judge, count=count, seed=seed, progress=say
        )
    except BadPlant as error:
        fail(str(error))
    rows = trial_rows(trials)
    keep({"model": host.name, "seed": seed, "rows": rows, "trials": [t.to_json() for t in trials]}, out, json_)
    if json_:
        return
    for name, row in rows.items():
        table(name, [{"measure": k, "value": json.dumps(v)} for k, v in row.items()])


def add_localize(app: typer.Typer, evaluate_app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    evaluate_app.command("localization")(evaluate_localization)
    app.command()(localize)
