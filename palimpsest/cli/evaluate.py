"""`palimpsest evaluate` and `reference`: how well it works, and what it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palimpsest.cli.generate import Json, Model
from palimpsest.cli.plants import add_planted
from palimpsest.cli.shared.console import fail, keep, say, settings_from, table
from palimpsest.cli.shared.hosts import open_host

if TYPE_CHECKING:
    from evaluation import Answerer, Eyes
    from steering import Host

__all__ = ["add_quality"]

evaluate_app = typer.Typer(help="Quality tables, measured on prompts of the town.", no_args_is_help=True)
reference_app = typer.Typer(help="The small models that we train and ship.", no_args_is_help=True)

Policy = Annotated[str | None, typer.Option(help="`shipped`, `none`, a file or a folder.")]
Url = Annotated[str | None, typer.Option(help="A running service; default: one in this process.")]
Key = Annotated[str | None, typer.Option(help="API key of the service.")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, help="Pictures a row.")]
Seed = Annotated[int, typer.Option(min=0, help="Other prompts and pictures.")]
Out = Annotated[Path | None, typer.Option(help="Also write the JSON here.")]
_BESIDE = {
    "shows it": "shows it",
    "repaired": "repaired",
    "refused": "refused",
    "others kept": "other facts kept, where they were right",
    "SSIM": "SSIM, whole picture",
    "innocent: stock": "innocent: the stock pipeline's pixels",
    "kept": "innocent: facts kept, where they were right",
}
_ERASED = ("character/pip", "style/marlo", "harm/gun")  # by the shipped policies


@evaluate_app.command("lettering")
def evaluate_lettering(
    count: Count = 200,
    model: Model = None,
    policy: Policy = None,
    url: Url = None,
    key: Key = None,
    words: Annotated[Path | None, typer.Option(help="Word list; default: the shipped insults.")] = None,
    evasions: Annotated[bool, typer.Option(help="As many pictures again of the words in disguise.")] = False,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Insults drawn as lettering, after the whole loop; innocent prompts beside them."""
    from evaluation import benign_row, drawable_evasions, lettering_row, load_word_list

    listed = load_word_list(words or _shipped_insults())
    asked = {"insults": listed} | ({"insults in disguise": drawable_evasions(listed, seed=seed)} if evasions else {})
    with _subject(model, policy, url, key) as (host, service, eyes):
        rows = {
            **{
                name: lettering_row(host, service, said, eyes, count=count, seed=seed, progress=say)
                for name, said in asked.items()
            },
            "innocent": benign_row(host, service, count=count, seed=seed, progress=say),
        }
    _report(rows, out, json_, asked=_road(url), seed=seed)


@evaluate_app.command("concepts")
def evaluate_concepts(
    concept: Annotated[
        list[str] | None,
        typer.Option(help="An erased concept that the judge knows; may be repeated. Default: the shipped policies'."),
    ] = None,
    count: Count = 100,
    model: Model = None,
    policy: Policy = None,
    url: Url = None,
    key: Key = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Erased concepts where the plain picture shows them, after the whole loop; their near neighbours beside them."""
    from evaluation import concept_row, near_neighbours, neighbour_row

    concepts = concept or list(_ERASED)
    _check_concepts(concepts)
    with _subject(model, policy, url, key) as (host, service, eyes):
        rows = {
            each: concept_row(host, service, each, eyes, erased=concepts, count=count, seed=seed, progress=say)
            for each in concepts
        }
        if near_neighbours(concepts):  # none are left of categories that are erased whole
            rows["near neighbours"] = neighbour_row(host, service, concepts, eyes, count=count, seed=seed, progress=say)
    _report(rows, out, json_, asked=_road(url), seed=seed)


@evaluate_app.command("baselines")
def evaluate_baselines(
    concept: Annotated[
        list[str] | None,
        typer.Option(help="`lettering`, or an erased concept; may be repeated. Default: what the shipped rules name."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Pictures a row, and innocent ones.")] = 50,
    model: Model = None,
    policy: Policy = None,
    url: Url = None,
    key: Key = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """What negative prompts, SLD, SAFREE, whole swaps and refusals make of the prompts that the service repairs."""
    from evaluation.prompts.cases import load_word_list
    from evaluation.tables.baselines import LETTERING, baseline_rows

    concepts = concept or [LETTERING, *_ERASED]
    erased = [name for name in concepts if name != LETTERING]
    _check_concepts(erased)
    words, rows = load_word_list(_shipped_insults()), dict[str, dict[str, Any]]()
    with _subject(model, policy, url, key) as (host, service, eyes):
        for each in concepts:
            found = baseline_rows(
                host, service, each, eyes, words=words, erased=erased, count=count, seed=seed, progress=say
            )
            rows |= {f"{each} / {name}": row for name, row in found.items()}
    keep({"model": host.name, "asked": _road(url), "seed": seed, "rows": rows}, out, json_)
    if not json_:
        for each in concepts:
            own = {n.removeprefix(f"{each} / "): row for n, row in rows.items() if n.startswith(f"{each} / ")}
            flat = [
                {"": name, **{short: _brief(row.get(long, "")) for short, long in _BESIDE.items()}}
                for name, row in own.items()
            ]
            table(f"{each} on {host.name}", flat)
            for name, row in own.items():
                if "why not" in row:
                    say(f"{name}: {row['why not']}")


@evaluate_app.command("prompts")
def evaluate_prompts(
    path: Annotated[Path, typer.Argument(help="A file, or the folder of a benchmark.")],
    format_: Annotated[
        str, typer.Option("--format", help="lines, simplebench, creativebench, toxicbench, lock or i2p.")
    ] = "lines",
    words: Annotated[Path | None, typer.Option(help="Of `creativebench`: the words, one a line.")] = None,
    split: Annotated[str, typer.Option(help="Of `toxicbench` and `lock`.")] = "test",
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="So many of all; default: all.")] = None,
    model: Model = None,
    policy: Policy = None,
    url: Url = None,
    key: Key = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Your prompts, or a public benchmark's: verdicts, and where a word is asked for what is read before and after."""
    from evaluation.prompts.benchmarks import load_prompts
    from evaluation.tables.own_prompts import prompt_rows

    try:
        prompts = load_prompts(format_, path, words=words, split=split, count=count, seed=seed)  # type: ignore[arg-type]
    except (FileNotFoundError, ValueError) as error:
        fail(str(error))
    with _subject(model, policy, url, key) as (host, service, eyes):
        rows = prompt_rows(host, service, prompts, eyes.ocr, progress=say)
    _report(rows, out, json_, benchmark=format_, asked=_road(url), seed=seed)


@evaluate_app.command("curve")
def evaluate_curve(
    pack: Annotated[Path, typer.Option(help="The pack that says which sites come first; see `localize`.")],
    model: Model = None,
    sizes: Annotated[str | None, typer.Option(help="K by commas; default: up to twice the pack's, and all.")] = None,
    count: Count = 20,
    steps: Annotated[int | None, typer.Option(min=2, help="Denoising steps; default: the model's.")] = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """What pictures show against the number of sites: a pack's order, its reverse, and random ones."""
    from evaluation.readers.eyes import Eyes
    from evaluation.tables.curves import CurveJob, curve_rows, parameter_share, ranked, sizes_of
    from steering import Pack, SteeringError

    host = open_host(model)
    try:
        loaded = Pack.load(pack, host=host)
        asked = _whole(sizes) if sizes else sizes_of(len(loaded.sites), len(ranked(loaded)))
        call = {} if steps is None else {"num_inference_steps": steps}
        job = CurveJob(tuple(asked), count=count, seed=seed, call=call)
        share = parameter_share(host, loaded.sites)
        rows = curve_rows(host, loaded, Eyes.load(), job, progress=say)
    except (SteeringError, ValueError) as error:
        fail(str(error))
    how = {"model": host.name, "concept": loaded.concept, "chosen": len(loaded.sites), "order": list(ranked(loaded))}
    how["parameters at the chosen sites, of the denoiser's"] = round(share, 5)
    keep({**how, "n": count, "seed": seed, "steps": steps, "rows": rows}, out, json_)
    if not json_:
        flat = [{"order, K": name, **{k: _brief(v) for k, v in row.items()}} for name, row in rows.items()]
        table(f"{loaded.concept} on {host.name}, {count} pictures a row", flat)
        say(f"the pack's {len(loaded.sites)} sites hold {100 * share:.2g} % of the denoiser's parameters")


@evaluate_app.command("detectors")
def evaluate_detectors(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Prompts a disguise and a way to ask.")] = 300,
    innocent: Annotated[int, typer.Option(min=1, help="Innocent prompts.")] = 2500,
    engines: Annotated[bool, typer.Option(help="Also run the trained readers, 200 items each.")] = True,
    tuning: Annotated[
        bool, typer.Option("--tuning", help="On the half that may be tuned on; never to be quoted.")
    ] = False,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Recall for each disguise, false alarms on innocent prompts, and the trained readers; exit code 1 below target."""
    from evaluation.tables.detectors import detector_rows, engine_row, missed_targets

    rows = detector_rows(count=count, innocent=innocent, seed=seed, held_out=not tuning, progress=say)
    if engines:
        rows |= engine_row(progress=say)
    _report(rows, out, json_)
    missed = missed_targets(rows)
    if missed:
        say(f"below target: {', '.join(missed)}")
    raise typer.Exit(1 if missed else 0)


@reference_app.command("report")
def reference_report(model: Model = None, count: Count = 200, out: Out = None, json_: Json = False) -> None:
    """What a reference model writes and draws of its captions, beside the ceiling of true pictures."""
    from evaluation import Eyes, below_bar, load_word_list, model_report

    insults = load_word_list(_shipped_insults())
    host = open_host(model)
    rows = model_report(host, Eyes.load(), insults, count=count, progress=say)
    _report(rows, out, json_)
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
            "judges",
            "reader",
        ],
        typer.Argument(help="What draws, judges or reads the town."),
    ],
    work: Annotated[Path, typer.Option(help="Checkpoints and curves; a stopped run resumes from here.")] = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="Where to write; default: where the repository keeps it.")] = None,
    px: Annotated[int, typer.Option(help="Side of a model's pictures, 64 or 128.")] = 64,
    gpu: Annotated[bool, typer.Option("--gpu", help="The recipe for a CUDA device: larger batches.")] = False,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Compile the denoiser.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="Processes that paint pictures.")] = 1,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="A model's folder: the stages of the recipe that it has not had are run, from it."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Trains a reference model, judges, or the evaluation's reader, and resumes a run that was stopped.

    A model takes hours on two cores, judges and reader minutes.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if what.startswith("signpost-"):
        _train_model(what, out, work, px=px, gpu=gpu, compiled=compiled, workers=workers, start=start)
    elif start is not None:
        fail(f"--from must be given for a model that draws, got it for `{what}`")
    elif what == "judges":
        from reference.town.judge import JUDGE_RECIPES, train_judge

        for recipe in JUDGE_RECIPES:
            folder = (out / recipe.folder.name) if out else recipe.folder
            say(f"{recipe.folder.name}: {train_judge(recipe, folder, work=work)}")
    else:
        from evaluation.readers.reader import READER, train_reader

        exact = train_reader(out or READER, work=work)
        say(f"reads {100 * exact:.1f} % of held-out signs exactly")


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
) -> None:
    """Trains a model into `out`; without it into the work folder, from where it is shipped by hand."""
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
            recipe, target, work=work, device=device, compiled=compiled, workers=workers, start=start, log=say
        )
    except (FileNotFoundError, ValueError) as error:
        if start is None:
            raise
        fail(str(error))
    say(f"wrote {written}")


def add_quality(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.add_typer(evaluate_app, name="evaluate")
    add_planted(reference_app)
    app.add_typer(reference_app, name="reference")


@contextmanager
def _subject(
    model: str | None, policy: str | None, url: str | None, key: str | None
) -> Iterator[tuple[Host, Answerer, Eyes]]:
    """The stock host, the service that is judged, and who judges it."""
    from evaluation import Eyes, HttpAnswerer
    from palimpsest.cli.shared.in_process import local_service
    from palimpsest.cli.shared.pictures import problem

    if url is not None:
        if policy is not None:
            fail("--policy is the service's own business when --url is given; leave one of them out")
        yield open_host(model), HttpAnswerer(url, key), Eyes.load()
        return
    try:
        with local_service(settings_from({"model": model, "policy": policy})) as service:
            yield service.host, service, Eyes.load()
    except Exception as error:
        if (text := problem(error)) is None:
            raise
        fail(text)


def _check_concepts(concepts: Sequence[str]) -> None:
    """Says that a name is wrong before hours of drawing."""
    from evaluation.prompts.cases import concept_cases

    try:
        for each in concepts:
            concept_cases(each, 1)
    except ValueError as error:
        fail(str(error))


def _shipped_insults() -> Path:
    import policies

    return Path(policies.__file__).parent / "shipped" / "lists" / "toxic.en.txt"


def _road(url: str | None) -> str:
    return "in one process" if url is None else "over HTTP"


def _report(rows: Mapping[str, Mapping[str, Any]], out: Path | None, json_: bool, **how: Any) -> None:
    """Prints rows of measures, for people or machines, and keeps them with what they were measured on, and `how`."""
    keep({**how, "rows": rows}, out, json_)
    if json_:
        return
    for name, row in rows.items():
        table(name, [{"measure": k, "value": _shown(v)} for k, v in row.items()])


def _whole(text: str) -> list[int]:
    """Numbers by commas. Raises: ValueError."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--sizes must be whole numbers by commas, as `1,2,4`, got `{text}`") from None


def _brief(value: Any) -> str:
    """A rate as hits of n, a mean alone."""
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
