"""`palimpsest fit`, which turns a pack that swaps text into a pack that edits, and `palimpsest evaluate erasure`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palimpsest.cli.shared.console import fail, keep, say, settings_from, table
from palimpsest.cli.shared.hosts import is_ours, open_host
from palimpsest.cli.shared.options import Count, Json, Model, Out, Seed, Steps

if TYPE_CHECKING:
    from localization.calibrate import Asked, Setup
    from localization.fit_methods import Fitter
    from steering import Host, Pack

__all__ = ["add_fit"]

_Place = Literal["text", "output", "context"]
Doses = Annotated[str, typer.Option(help="Doses to try, ascending, separated by commas.")]
Target = Annotated[float, typer.Option(min=0, max=1, help="Share of pictures in which the concept must be gone.")]
Drift = Annotated[
    float, typer.Option(min=0, max=1, help="Largest mean pixel change allowed in pictures without the concept.")
]


def _plugins() -> Mapping[str, Fitter]:
    """The fitting methods of other packages that the settings allow."""
    from palimpsest_base.plugins import BadPlugin, load_plugins

    try:
        return load_plugins("palimpsest.fitters", settings_from({}).plugins)
    except BadPlugin as error:
        fail(str(error))


def _methods() -> Mapping[str, Fitter]:
    from localization.fit_methods import with_methods
    from steering import BadPlan

    try:
        return with_methods(_plugins())
    except BadPlan as error:
        fail(str(error))


def _method_names() -> list[str]:
    return list(_methods())


def _list_methods(asked: bool) -> None:
    if asked:
        rows = [{"method": name, "place": m.place, "what it does": m.help} for name, m in _methods().items()]
        table("methods of `palimpsest fit`", rows)
        raise typer.Exit


def fit(
    pack: Annotated[Path, typer.Option(help="The pack with the concept's sites; see `localize`.")],
    out: Annotated[Path, typer.Option(help="The pack to write, a .safetensors file.")],
    method: Annotated[
        str, typer.Option(help="How the edit is fitted; `--methods` lists the methods.", autocompletion=_method_names)
    ] = "casteer",
    methods: Annotated[
        bool, typer.Option("--methods", help="List the methods and exit.", is_eager=True, callback=_list_methods)
    ] = False,
    model: Model = None,
    where: Annotated[
        _Place | None, typer.Option(help="Where the edit acts; default: the method's usual place.")
    ] = None,
    clipped: Annotated[
        bool, typer.Option(help="Change only activations that point to the concept, if the method can.")
    ] = True,
    rank: Annotated[int, typer.Option(min=1, help="Rank of the operators of UCE and SAFREE.")] = 8,
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSON Lines of {prompt, donor}: one third each for fit, calibration and verification."),
    ] = None,
    benign: Annotated[
        Path | None, typer.Option(help="JSON Lines of {prompt}: prompts whose pictures must not change.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=2, help="Prompts in each generated set.")] = 12,
    doses: Doses = "0.5,1,1.5,2,3",
    target: Target = 0.95,
    drift: Drift = 0.03,
    steps: Steps = None,
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Fit an edit at a pack's sites, calibrate its dose and verify it. Exit code 1 if no dose reaches the target.

    For the reference models, prompts are generated and the town's judge scores pictures. Other models need prompts and
    a judge in Python (`localization.edit_packs.fit_pack`).
    """
    from localization import LocalizationError
    from localization.edit_packs import fit_pack
    from localization.fit import FitRecipe
    from steering import Pack, SteeringError

    more = _plugins()
    call = {} if steps is None else {"num_inference_steps": steps}
    try:
        recipe = FitRecipe(method, where=where, clipped=clipped, rank=rank, call=call, methods=more)
        host = open_host(model)
        found = Pack.load(pack, host=host)
        sets = _sets(model, found, prompts, benign, count, seed)
        setups = [_setup(model, found, s, target, drift, call) for s in (sets.calibrate, sets.verify)]
        fitted = fit_pack(
            host,
            found,
            sets.fit,
            setups[0],
            recipe=recipe,
            preserve=[b.prompt for b in sets.preserve],
            check=setups[1],
            doses=_doses(doses),
            progress=say,
        )
        path = fitted.pack.save(out)
    except (SteeringError, LocalizationError, ValueError, OSError) as error:
        fail(str(error))
    if json_:
        said = {"pack": str(path), "strength": fitted.curve.strength, "why": fitted.curve.why}
        curve = [p.to_json() for p in fitted.curve.points]
        print(json.dumps(said | {"curve": curve, "verified": _plain(fitted.verified)}, indent=1))
    else:
        table("what each dose does", [_shown(p.to_json()) for p in fitted.curve.points])
        if fitted.verified is not None:
            table("on other prompts", [_shown(fitted.verified.to_json())])
        say(f"{fitted.curve.why}; wrote {path}")
    raise typer.Exit(0 if fitted.curve.strength is not None else 1)


def evaluate_erasure(
    model: Model = None,
    concepts: Annotated[
        str | None, typer.Option(help="Concepts, separated by commas; default: five of the town.")
    ] = None,
    ways: Annotated[
        str | None, typer.Option(help="`swap` and edit methods, separated by commas; default: all.")
    ] = None,
    packs: Annotated[list[Path] | None, typer.Option(help="Folders of packs with the chosen sites.")] = None,
    count: Count = 40,
    fit_on: Annotated[int, typer.Option("--fit", min=2, help="Pairs that edits are fitted on.")] = 12,
    calibrate_on: Annotated[int, typer.Option("--calibrate", min=1, help="Prompts that doses are chosen on.")] = 12,
    doses: Doses = "0.5,1,2",
    target: Target = 0.95,
    drift: Drift = 0.03,
    steps: Steps = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure erasure by swap and by each edit, at the chosen sites and at all sites, and its side effects."""
    from evaluation.prompts.erasure_cases import FIVE, judged
    from evaluation.tables.erasure import WAYS, ErasureJob, erasure_rows

    host = open_host(model)
    wanted = _list(concepts) or FIVE
    sites = {concept: _chosen(host, concept, packs or ()) for concept in wanted}
    for concept in (c for c, chosen in sites.items() if chosen is None):
        say(f"{concept}: no pack, so the chosen sites are unknown; see `palimpsest localize`")
    job = ErasureJob(
        count=count,
        fit=fit_on,
        calibrate=calibrate_on,
        ways=_list(ways) or WAYS,
        doses=_doses(doses),
        target=target,
        drift=drift,
        seed=seed,
        sites=sites,
        call={} if steps is None else {"num_inference_steps": steps},
    )
    try:
        rows = erasure_rows(host, judged(), wanted, job, progress=say)
    except ValueError as error:
        fail(str(error))
    keep({"model": host.name, "n": count, "seed": seed, "steps": steps, "rows": rows}, out, json_)
    if not json_:
        table(f"erasure on {host.name}", [_erasure_row(name, row) for name, row in rows.items()])


def add_fit(app: typer.Typer, evaluate_app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command()(fit)
    evaluate_app.command("erasure")(evaluate_erasure)


@dataclass(frozen=True, slots=True)
class _Sets:
    """Prompts for each purpose; no prompt serves two."""

    fit: Sequence[Asked]
    calibrate: tuple[Sequence[Asked], Sequence[Asked]]
    verify: tuple[Sequence[Asked], Sequence[Asked]]
    preserve: Sequence[Asked]


def _sets(model: str | None, pack: Pack, prompts: Path | None, benign: Path | None, count: int, seed: int) -> _Sets:
    """The prompts to fit, calibrate and verify with; from files, or of the town. Raises: ValueError."""
    from evaluation.prompts.erasure_cases import cases_of, neighbours_of
    from localization import Contrast, load_contrasts

    if (prompts is None) != (benign is None):
        raise ValueError("--prompts and --benign must be given together")
    if prompts is not None and benign is not None:
        shown = load_contrasts(prompts, seed=seed + 1)
        lines = [json.loads(line) for line in benign.read_text("utf-8").splitlines() if line.strip()]
        rest = [Contrast(b["prompt"], b["prompt"], b.get("seed", 9000 + i)) for i, b in enumerate(lines)]
        a, b = len(shown) // 3, len(rest) // 3
        if not a or not b:
            raise ValueError(f"need at least three pairs and three benign prompts, got {len(shown)} and {len(rest)}")
        near = (rest[:b], rest[b : 2 * b], rest[2 * b :])
        return _Sets(shown[:a], (shown[a : 2 * a], near[1]), (shown[2 * a :], near[2]), near[0])
    return _Sets(
        cases_of(pack.concept, "localization", count, seed=seed),
        (
            cases_of(pack.concept, "localization", count, seed=seed + 1),
            neighbours_of(pack.concept, "localization", count, seed=seed + 2),
        ),
        (
            cases_of(pack.concept, "evaluation", count, seed=seed),
            neighbours_of(pack.concept, "evaluation", count, seed=seed),
        ),
        neighbours_of(pack.concept, "localization", count, seed=seed + 7),
    )


def _setup(
    model: str | None,
    pack: Pack,
    prompts: tuple[Sequence[Asked], Sequence[Asked]],
    target: float,
    drift: float,
    call: Mapping[str, Any],
) -> Setup:
    from evaluation.prompts.erasure_cases import judged, kept_facts
    from localization.calibrate import Setup

    judge = judged()
    if not is_ours(model):
        raise ValueError(
            "the built-in judge only knows pictures of the reference models; calibrate other models in Python"
        )
    if not judge.knows(pack.concept):
        raise ValueError(f"the judge does not know concept `{pack.concept}`, so the dose cannot be calibrated")
    return Setup(
        *prompts,
        lambda images: judge.seen(pack.concept, images),
        lambda images: [kept_facts(pack.concept, a) for a in judge.answers(images)],
        target=target,
        drift=drift,
        call=call,
    )


def _chosen(host: Host, concept: str, packs: Sequence[Path]) -> tuple[str, ...] | None:
    from reference.folders import packs_of
    from steering import PackError, find_pack, pack_roots

    try:
        return find_pack(concept, host, pack_roots([*packs, packs_of(host.name)])).sites
    except PackError:
        return None


def _doses(text: str) -> tuple[float, ...]:
    try:
        doses = tuple(float(part) for part in text.split(","))
    except ValueError:
        doses = ()
    if not doses or list(doses) != sorted(set(doses)) or doses[0] <= 0:
        fail(f"--doses must be ascending numbers above 0, such as `0.5,1,2`, got `{text}`")
    return doses


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def _plain(point: Any) -> dict[str, Any] | None:
    return None if point is None else point.to_json()


def _shown(point: Mapping[str, Any]) -> dict[str, Any]:
    def share(name: str, n: str) -> str | None:
        if point[name] is None:
            return None
        low, high = point[f"{name}_interval"] or (0.0, 1.0)
        return f"{point[name]:.3f} [{low:.3f}, {high:.3f}], n {point[n]}"

    moved = point["moved"]
    return {
        "dose": point["strength"],
        "erased": share("erasure", "n"),
        "kept": share("kept", "kept_n"),
        "drift": share("drift", "drift_n"),
        "hidden states moved by": None if moved is None else f"{moved:.3f}",
    }


def _erasure_row(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    concept, way, _ = name.split(" / ")

    def rate(value: Any) -> str | None:
        if not isinstance(value, Mapping):
            return value
        return f"{value['hits']}/{value['n']}" if "hits" in value else f"{value['mean']}"

    columns = ("erased", "kept in the picture", "kept near neighbours", "drift")
    named = {"concept": concept, "way": way, "sites": row["sites"], "dose": row.get("dose")}
    return named | {c: rate(row.get(c, row.get("why not"))) for c in columns}
