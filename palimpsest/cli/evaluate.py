"""`palimpsest evaluate`: quality tables, measured on prompts with known answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest.cli.shared.console import fail, keep, say, settings_from, table
from palimpsest.cli.shared.hosts import open_host, pack_for
from palimpsest.cli.shared.measures import brief, report_rows
from palimpsest.cli.shared.options import Count, Floor, Json, Key, Model, Out, Policy, Seed, Steps, Url

if TYPE_CHECKING:
    from evaluation import Answerer, Judges
    from steering import Host

__all__ = ["add_evaluate", "evaluate_app"]

evaluate_app = typer.Typer(help="Quality tables, measured on prompts with known answers.", no_args_is_help=True)

_BESIDE = {
    "shows it": "shows it",
    "repaired": "repaired",
    "refused": "refused",
    "others kept": "other facts kept, where they were right",
    "SSIM": "SSIM, whole picture",
    "innocent: stock": "innocent: the stock pipeline's pixels",
    "kept": "innocent: facts kept, where they were right",
}
_BY_DONOR = {
    "shows it": "shows it",
    "donor's word": "donor's word read",
    "others kept": "other facts kept, where they were right",
    "SSIM outside": "SSIM outside the sign",
    "minus whole prompt": "SSIM outside the sign, minus whole prompt swapped",
    "minus all sites": "SSIM outside the sign, minus all sites swapped",
}
_ERASED = ("character/pip", "style/marlo", "harm/gun")  # by the shipped policies
_ROOT = Path(__file__).parent.parent.parent
_ATTACKED = tuple(
    map(str, (_ROOT / "evaluation/data/five-concepts.yaml", _ROOT / "policies/shipped/rendered-text.yaml"))
)


@evaluate_app.command("lettering")
def evaluate_lettering(
    count: Count = 200,
    model: Model = None,
    policy: Policy = None,
    floor: Floor = None,
    url: Url = None,
    key: Key = None,
    words: Annotated[Path | None, typer.Option(help="Word list; default: the shipped insults.")] = None,
    evasions: Annotated[bool, typer.Option(help="Also test the same number of disguised words.")] = False,
    misspelt: Annotated[
        bool, typer.Option("--misspelt", help="Also test the same number of words with one edit, which no list has.")
    ] = False,
    uploads: Annotated[
        bool, typer.Option("--uploads", help="Repair pictures that no model drew, in place of prompts.")
    ] = False,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure insults as lettering, and innocent prompts, through the whole service."""
    from evaluation import benign_row, drawable_evasions, lettering_row, load_word_list
    from evaluation.prompts.cases import SHIPPED_INSULTS
    from evaluation.prompts.evasions import unlisted_spellings

    listed = load_word_list(words or SHIPPED_INSULTS)
    asked = {"insults": listed} | ({"insults in disguise": drawable_evasions(listed, seed=seed)} if evasions else {})
    asked |= {"insults misspelt": unlisted_spellings(listed, seed=seed)} if misspelt else {}
    with _subject(model, policy, floor, url, key) as (host, service, judges):
        rows = {
            **{
                name: lettering_row(host, service, said, judges, count=count, seed=seed, given=uploads, progress=say)
                for name, said in asked.items()
            },
            **({} if uploads else {"innocent": benign_row(host, service, count=count, seed=seed, progress=say)}),
        }
    report_rows(rows, out, json_, asked=_road(url), seed=seed, **({"uploads": True} if uploads else {}))


@evaluate_app.command("concepts")
def evaluate_concepts(
    concept: Annotated[
        list[str] | None,
        typer.Option(help="An erased concept that the judge knows; may be repeated. Default: the shipped policies'."),
    ] = None,
    count: Count = 100,
    misspelt: Annotated[
        bool, typer.Option("--misspelt", help="Also test the same number of prompts with one edit in the name.")
    ] = False,
    model: Model = None,
    policy: Policy = None,
    floor: Floor = None,
    url: Url = None,
    key: Key = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure erased concepts and their near neighbours through the whole service.

    Only prompts whose plain picture shows the concept are counted.
    """
    from evaluation import concept_row, near_neighbours, neighbour_row

    concepts = concept or list(_ERASED)
    _check_concepts(concepts)
    with _subject(model, policy, floor, url, key) as (host, service, judges):
        rows = {
            f"{each}, misspelt" if wrong else each: concept_row(
                host, service, each, judges, erased=concepts, count=count, seed=seed, misspelt=wrong, progress=say
            )
            for each in concepts
            for wrong in ((False, True) if misspelt else (False,))
        }
        if near_neighbours(concepts):  # none are left of categories that are erased whole
            rows["near neighbours"] = neighbour_row(
                host, service, concepts, judges, count=count, seed=seed, progress=say
            )
    report_rows(rows, out, json_, asked=_road(url), seed=seed)


@evaluate_app.command("baselines")
def evaluate_baselines(
    concept: Annotated[
        list[str] | None,
        typer.Option(help="`lettering`, or an erased concept; may be repeated. Default: what the shipped rules name."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Pictures per row, and innocent prompts.")] = 50,
    donor: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare swaps on lettering alone, with this kind of donor: `same` (the prompt with another word),"
            " `bare` (a sign and nothing else) or `other` (a sign in another scene); may be repeated."
        ),
    ] = None,
    model: Model = None,
    policy: Policy = None,
    floor: Floor = None,
    url: Url = None,
    key: Key = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Compare the service with other methods on the same prompts: negative prompts, SLD, SAFREE, whole swaps and
    refusal.

    With --donor it compares swaps with each other: at the located sites, at all sites, and of the whole prompt.
    """
    if donor:
        given = {"--policy": policy, "--floor": floor, "--url": url, "--key": key}
        _compare_donors(concept, donor, given, count, model, seed, out, json_)
        return
    from evaluation.prompts.cases import SHIPPED_INSULTS, load_word_list
    from evaluation.tables.baselines import LETTERING, baseline_rows

    concepts = concept or [LETTERING, *_ERASED]
    erased = [name for name in concepts if name != LETTERING]
    _check_concepts(erased)
    words, rows = load_word_list(SHIPPED_INSULTS), dict[str, dict[str, Any]]()
    with _subject(model, policy, floor, url, key) as (host, service, judges):
        for each in concepts:
            found = baseline_rows(
                host, service, each, judges, words=words, erased=erased, count=count, seed=seed, progress=say
            )
            rows |= {f"{each} / {name}": row for name, row in found.items()}
    keep({"model": host.name, "asked": _road(url), "seed": seed, "rows": rows}, out, json_)
    if not json_:
        for each in concepts:
            own = {n.removeprefix(f"{each} / "): row for n, row in rows.items() if n.startswith(f"{each} / ")}
            flat = [
                {"": name, **{short: brief(row.get(long, "")) for short, long in _BESIDE.items()}}
                for name, row in own.items()
            ]
            table(f"{each} on {host.name}", flat)
            for name, row in own.items():
                if "why not" in row:
                    say(f"{name}: {row['why not']}")


def _compare_donors(
    concept: Sequence[str] | None,
    donor: Sequence[str],
    service: Mapping[str, Any],
    count: int,
    model: str | None,
    seed: int,
    out: Path | None,
    json_: bool,
) -> None:
    from evaluation.prompts.cases import SHIPPED_INSULTS, load_word_list
    from evaluation.prompts.donors import DONORS
    from evaluation.readers.judges import Judges
    from evaluation.tables.baselines import LETTERING, donor_rows

    kinds = [kind for kind in DONORS if kind in donor]
    if strange := [kind for kind in donor if kind not in DONORS]:
        fail(f"--donor must be one of {', '.join(f'`{kind}`' for kind in DONORS)}, got `{strange[0]}`")
    if other := [name for name in concept or () if name != LETTERING]:
        fail(f"--concept must be `{LETTERING}` with --donor, got `{other[0]}`")
    if named := [option for option, value in service.items() if value is not None]:
        fail(f"{named[0]} must be left out when --donor is given: its swaps are drawn without the service")
    host = open_host(model)
    pack = pack_for(host, LETTERING)
    try:
        words = load_word_list(SHIPPED_INSULTS)
        rows = donor_rows(host, pack, Judges.load(), kinds, words=words, count=count, seed=seed, progress=say)
    except (ValueError, RuntimeError) as error:
        fail(str(error))
    keep({"model": host.name, "sites": list(pack.sites), "seed": seed, "rows": rows}, out, json_)
    if not json_:
        flat = [
            {"": name, **{short: brief(row.get(long, "")) for short, long in _BY_DONOR.items()}}
            for name, row in rows.items()
        ]
        table(f"{LETTERING} on {host.name}, {count} pictures a row", flat)


@evaluate_app.command("prompts")
def evaluate_prompts(
    path: Annotated[Path, typer.Argument(help="File of prompts, or the folder of a benchmark.")],
    format_: Annotated[
        str, typer.Option("--format", help="Format: lines, simplebench, creativebench, toxicbench, lock or i2p.")
    ] = "lines",
    words: Annotated[Path | None, typer.Option(help="For `creativebench`: a file of words, one per line.")] = None,
    split: Annotated[str, typer.Option(help="Split of `toxicbench` or `lock`.")] = "test",
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Use this many of the prompts; default: all.")
    ] = None,
    model: Model = None,
    policy: Policy = None,
    floor: Floor = None,
    url: Url = None,
    key: Key = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Run your own prompts or a public benchmark: verdicts, and the words read before and after the closed loop."""
    from evaluation.prompts.benchmarks import load_prompts
    from evaluation.tables.own_prompts import prompt_rows

    try:
        prompts = load_prompts(format_, path, words=words, split=split, count=count, seed=seed)  # type: ignore[arg-type]
    except (FileNotFoundError, ValueError) as error:
        fail(str(error))
    with _subject(model, policy, floor, url, key) as (host, service, judges):
        rows = prompt_rows(host, service, prompts, judges.ocr, progress=say)
    report_rows(rows, out, json_, benchmark=format_, asked=_road(url), seed=seed)


@evaluate_app.command("curve")
def evaluate_curve(
    pack: Annotated[Path, typer.Option(help="The pack that ranks the sites; see `localize`.")],
    model: Model = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="Numbers of sites, separated by commas; default: up to twice the pack's number, and all."),
    ] = None,
    count: Count = 20,
    steps: Steps = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure pictures against the number of swapped sites: in a pack's order, its reverse, and random orders."""
    from evaluation.readers.judges import Judges
    from evaluation.tables.curves import CurveJob, curve_rows, parameter_share, ranked, sizes_of
    from steering import Pack, SteeringError

    host = open_host(model)
    try:
        loaded = Pack.load(pack, host=host)
        asked = _whole(sizes) if sizes else sizes_of(len(loaded.sites), len(ranked(loaded)))
        call = {} if steps is None else {"num_inference_steps": steps}
        job = CurveJob(tuple(asked), count=count, seed=seed, call=call)
        share = parameter_share(host, loaded.sites)
        rows = curve_rows(host, loaded, Judges.load(), job, progress=say)
    except (SteeringError, ValueError) as error:
        fail(str(error))
    how = {"model": host.name, "concept": loaded.concept, "chosen": len(loaded.sites), "order": list(ranked(loaded))}
    how["parameters at the chosen sites, of the denoiser's"] = round(share, 5)
    keep({**how, "n": count, "seed": seed, "steps": steps, "rows": rows}, out, json_)
    if not json_:
        flat = [{"order, K": name, **{k: brief(v) for k, v in row.items()}} for name, row in rows.items()]
        table(f"{loaded.concept} on {host.name}, {count} pictures a row", flat)
        say(f"the pack's {len(loaded.sites)} sites hold {100 * share:.2g} % of the denoiser's parameters")


@evaluate_app.command("detectors")
def evaluate_detectors(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Prompts per disguise and per phrasing.")] = 300,
    innocent: Annotated[int, typer.Option(min=1, help="Number of innocent prompts.")] = 2500,
    engines: Annotated[bool, typer.Option(help="Also run the trained readers, 200 items each.")] = True,
    tuning: Annotated[
        bool,
        typer.Option(
            "--tuning", help="Use the tuning half of the corpora, not the held-out half; do not report these."
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Use words and templates that were never looked at; measured once.")
    ] = False,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure the recall of each disguise, false alarms on innocent prompts, and the trained readers.

    Exit code 1 if a target is missed.
    """
    from evaluation.tables.detectors import detector_rows, engine_row, fresh_rows, missed_targets

    if fresh and tuning:
        fail("--fresh and --tuning name two corpora: give one of them")
    if fresh:
        rows = fresh_rows(count=count, innocent=innocent, seed=seed, progress=say)
    else:
        rows = detector_rows(count=count, innocent=innocent, seed=seed, held_out=not tuning, progress=say)
    if engines:
        rows |= engine_row(progress=say)
    report_rows(rows, out, json_)
    missed = missed_targets(rows)
    if missed:
        say(f"below target: {', '.join(missed)}")
    raise typer.Exit(1 if missed else 0)


@evaluate_app.command("attack")
def evaluate_attack(
    target: Annotated[
        list[str] | None,
        typer.Option(help="A concept, or `insults`; may be repeated. Default: what the policies verify in pictures."),
    ] = None,
    row: Annotated[
        list[str] | None, typer.Option(help="A variant of the policies; may be repeated. Default: all of them.")
    ] = None,
    edits: Annotated[int, typer.Option(min=0, help="Strings one edit away from each concept, and from insults.")] = 60,
    doubles: Annotated[int, typer.Option(min=0, help="Strings two edits away from each.")] = 30,
    searched: Annotated[int, typer.Option(min=0, help="Strings found by gradients, for each concept.")] = 20,
    insults: Annotated[int, typer.Option(min=1, help="Number of words of the list that are attacked.")] = 60,
    innocent: Annotated[int, typer.Option(min=1, help="Innocent prompts of each group.")] = 100,
    strings: Annotated[
        Path | None,
        typer.Option(help="File that keeps the strings and what their plain pictures show; made if it is missing."),
    ] = None,
    words: Annotated[Path | None, typer.Option(help="Word list of the insults; default: the shipped insults.")] = None,
    model: Model = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Policies, as in `serve`; may be repeated. Default: five concepts and the shipped insults."),
    ] = None,
    url: Url = None,
    key: Key = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Attack the policies with typos, descriptions and strings found by gradients, and count what leaves.

    Each row is a variant of the policies; with --url there is one row, for the running service. As many edits as there
    are, or as asked: 100000 takes all single edits. Each picture is drawn once, and once more in each row.
    """
    from evaluation.prompts.attacks import INSULTS, sampled_insults
    from evaluation.prompts.cases import SHIPPED_INSULTS, load_word_list
    from evaluation.tables.attacks.file import AttackFile, AttackJob
    from evaluation.tables.attacks.table import (
        attack_rows,
        gathered,
        innocent_groups,
        innocent_row,
        looker,
        string_rows,
    )
    from palimpsest.cli.shared.policy_variants import VARIANTS, policy_variant, verified_reads
    from policies import PolicyError

    given = policy or _ATTACKED
    try:
        reads = verified_reads(given)
    except PolicyError as error:
        fail(str(error))
    targets = target or [INSULTS if name == "lettering" else name for name in reads]
    _check_concepts([name for name in targets if name != INSULTS])
    asked = ["as served"] if url is not None else row or list(VARIANTS)
    if strange := [name for name in asked if url is None and name not in VARIANTS]:
        fail(f"--row must be one of {', '.join(f'`{name}`' for name in VARIANTS)}, got `{strange[0]}`")
    erased, listed = [name for name in reads if name != "lettering"], load_word_list(words or SHIPPED_INSULTS)
    job = AttackJob(
        edits, doubles, searched=searched, insults=tuple(sampled_insults(listed, insults, seed=seed)),
        erased=tuple(erased), seed=seed,
    )  # fmt: skip
    attacks, plain, rows = None, dict[str, Any](), dict[str, dict[str, Any]]()
    for name in asked:
        with (
            policy_variant(given, name if url is None else "") as folder,
            _subject(model, None if url else [str(folder)], None, url, key) as (host, service, judges),
        ):
            if attacks is None:
                attacks = gathered(AttackFile(strings, host, looker(judges)), targets, job, progress=say)
                plain = {"model": host.name, "plain pictures show it, by kind": string_rows(attacks)}
            found = attack_rows(service, attacks, judges, progress=say)
            for group, cases in innocent_groups(erased, innocent, seed=seed).items():
                say(f"{group}: asking the service for {len(cases)} pictures")
                found[group] = innocent_row(host, service, cases, judges, erased, listed)
        rows |= {f"{name} / {each}": measured for each, measured in found.items()}
    report_rows(rows, out, json_, asked=_road(url), seed=seed, **plain)


@evaluate_app.command("near")
def evaluate_near(
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of innocent signs.")] = 5000,
    each: Annotated[int, typer.Option(min=1, help="Misspelt words per kind of edit.")] = 200,
    signs: Annotated[
        Path | None, typer.Option(help="File of innocent signs of your own, one a line, in place of ours.")
    ] = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure `near: 1`: false alarms on innocent signs, and recall of misspelt words of the shipped rule.

    No picture is drawn. With `--signs /usr/share/dict/words` it shows which words a list for `near_unless` needs.
    """
    from evaluation.tables.near import near_rows

    own = None
    if signs is not None:
        try:
            own = list(dict.fromkeys(line for line in signs.read_text("utf-8").splitlines() if line.strip()))
        except (OSError, UnicodeDecodeError) as error:
            fail(f"--signs must be a file of text, one sign a line; {error}")
        if not own:
            fail(f"--signs must be a file with at least one sign, got `{signs}`, which is empty")
    rows = near_rows(signs=own, count=count, each=each, seed=seed, progress=say)
    report_rows(rows, out, json_, seed=seed)


@evaluate_app.command("edit")
def evaluate_edit(
    count: Count = 200,
    given: Annotated[
        bool, typer.Option("--given", help="Edit pictures that no model made, instead of the model's own.")
    ] = False,
    start: Annotated[
        list[int] | None,
        typer.Option(min=0, help="First step that is drawn anew; may be repeated. Default: 1."),
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="Method; may be repeated. Default: all.")] = None,
    refine: Annotated[int, typer.Option(min=0, help="Iterations of each step back, for given pictures.")] = 2,
    controller: Annotated[float, typer.Option(min=0, max=0.99, help="Of the way back, for given pictures.")] = 0.0,
    bare: Annotated[
        bool, typer.Option("--bare", help="Prompts that say nothing but the word, as of a picture that is not known.")
    ] = False,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale; default: the model's.")] = None,
    model: Model = None,
    steps: Steps = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure edits of a word: what stands there, what of the rest is as it was, and what it costs."""
    from evaluation.readers.judges import Judges
    from evaluation.tables.editing import METHODS, edit_rows
    from palimpsest.cli.shared.hosts import pack_for

    host, rows = open_host(model), dict[str, dict[str, Any]]()
    pack, judges = pack_for(host, "lettering"), Judges.load()
    asked = {"num_inference_steps": steps, "guidance_scale": guidance}
    call: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    for first in start or [1]:
        try:
            found = edit_rows(
                host, pack, judges, made="given" if given else "generated", count=count, start=first,
                methods=method or METHODS, refine=refine, controller=controller, bare=bare, call=call, seed=seed,
                progress=say,
            )  # fmt: skip
        except ValueError as error:
            fail(str(error))
        rows |= {f"from step {first} / {name}": row for name, row in found.items()}
    how: dict[str, Any] = {"model": host.name, "pictures": "given" if given else "generated", "bare prompts": bare}
    how |= {"seed": seed, "refine": refine, "controller": controller, **call}
    report_rows(rows, out, json_, **how)


@evaluate_app.command("reading")
def evaluate_reading(count: Count = 50, seed: Seed = 0, out: Out = None, json_: Json = False) -> None:
    """Measure how well lettering in pictures is read, by size and by how it stands, and what reading costs."""
    from evaluation.tables.reading import reading_rows

    report_rows(reading_rows(count=count, seed=seed, progress=say), out, json_, seed=seed)


@evaluate_app.command("watermark")
def evaluate_watermark(
    each: Annotated[int, typer.Option("--each", min=1, help="Pictures of each size.")] = 300,
    size: Annotated[list[int] | None, typer.Option("--size", min=64, max=2048, help="Side of pictures.")] = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure how often the built-in watermark is found after what happens to pictures, and where none is."""
    from evaluation.tables.marks.watermark import watermark_rows

    sizes = tuple(size or (64, 128, 256, 512))
    report_rows(watermark_rows(each=each, sizes=sizes, seed=seed, progress=say), out, json_, each=each, seed=seed)


def add_evaluate(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.add_typer(evaluate_app, name="evaluate")


@contextmanager
def _subject(
    model: str | None, policy: list[str] | None, floor: bool | None, url: str | None, key: str | None
) -> Iterator[tuple[Host, Answerer, Judges]]:
    """The stock host, the service under test, and the judges."""
    from evaluation import HttpAnswerer, Judges
    from palimpsest.cli.shared.in_process import local_service
    from palimpsest.cli.shared.pictures import problem

    if url is not None:
        if policy or floor is not None:
            given = "--policy" if policy else "--floor"
            fail(f"{given} must be left out when --url is given: the service has its own policies")
        yield open_host(model), HttpAnswerer(url, key), Judges.load()
        return
    try:
        with local_service(settings_from({"model": model, "policy": policy, "floor": floor})) as service:
            yield service.host, service, Judges.load()
    except Exception as error:
        if (text := problem(error)) is None:
            raise
        fail(text)


def _check_concepts(concepts: Sequence[str]) -> None:
    """Ends the command for an unknown concept, before hours of drawing."""
    from evaluation.prompts.cases import concept_cases

    try:
        for each in concepts:
            concept_cases(each, 1)
    except ValueError as error:
        fail(str(error))


def _road(url: str | None) -> str:
    return "in one process" if url is None else "over HTTP"


def _whole(text: str) -> list[int]:
    """The numbers of a text that separates them by commas. Raises: ValueError."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--sizes must be whole numbers separated by commas, such as `1,2,4`, got `{text}`") from None
