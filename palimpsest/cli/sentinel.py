"""`palimpsest fit-sentinel`, which gives packs the probes that tell their concept before it is drawn, and `palimpsest
evaluate sentinel`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palimpsest.cli.shared.console import fail, keep, model_from, say, table
from palimpsest.cli.shared.hosts import is_ours, open_host
from palimpsest.cli.shared.options import Json, Model, Out, Seed, Steps

if TYPE_CHECKING:
    from evaluation.prompts.sentinel_cases import SentinelCase
    from localization.sentinels import Judge, SentinelSamples, Worded
    from steering import Host, Pack

__all__ = ["add_sentinel"]

Each = Annotated[int, typer.Option(min=8, help="Generated prompts made for each pack's concept.")]
Innocent = Annotated[int, typer.Option(min=1, help="Generated prompts that name none of them.")]


def fit_sentinel(
    packs: Annotated[list[Path], typer.Argument(help="Packs of one model; their pictures are drawn once for all.")],
    model: Model = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write the packs to; default: in place.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="JSON Lines of {prompt, shows: [concepts], wording}; default: generated.")
    ] = None,
    each: Each = 80,
    innocent: Innocent = 400,
    false_alarms: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Share of innocent prompts that may reach a threshold.")
    ] = 0.005,
    repairs: Annotated[
        int, typer.Option(min=0, help="Pictures on which repair from the start and in the midst are compared; 0: none.")
    ] = 16,
    steps: Steps = None,
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Fit sentinels: probes at the packs' sites that tell a concept from the prompt's text, and along the trajectory.

    For the reference models, prompts are generated and the town's judge says what their pictures show. Other models
    need `--prompts`, whose `shows` say it.
    """
    from localization import LocalizationError
    from localization.sentinels import SentinelRecipe, measure_repair, sample_texts
    from localization.sentinels import fit_sentinel as fit
    from steering import SteeringError

    host, loaded = _packs(packs, model)
    call = {} if steps is None else {"num_inference_steps": steps}
    recipe = SentinelRecipe(false_alarms=false_alarms, seed=seed, call=call)
    try:
        cases, judge = _cases(model, [p.concept for p in loaded], prompts, each, innocent, seed)
        samples = sample_texts(host, cases, _sites(loaded), judge, recipe=recipe, progress=say)
        written = {}
        for file, pack in zip(packs, loaded, strict=True):
            found = fit(host, pack, samples, recipe)
            if repairs and prompts is None and (pack.edits or pack.neutral is not None):  # letters give way to others
                shown = _shown(pack, samples)[:repairs]
                repair = measure_repair(host, pack, shown, pack.donor_for, judge, found.window.end, call=call)
                found = fit(host, pack, samples, recipe, repair=repair)
            path = replace(pack, sentinel=found).save((out or file.parent) / file.name)
            written[str(path)] = dict(found.evidence)
            if not json_:
                table(str(path), [{"what": k, "value": v} for k, v in found.evidence.items()])
    except (SteeringError, LocalizationError, ValueError, OSError) as error:
        fail(str(error))
    if json_:
        print(json.dumps(written, indent=1))


def evaluate_sentinel(
    packs: Annotated[list[Path] | None, typer.Argument(help="Packs; default: those shipped for the model.")] = None,
    model: Model = None,
    each: Each = 32,
    innocent: Innocent = 160,
    steps: Steps = None,
    seed: Seed = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure sentinels on wordings that were not fitted on: AUROC, recall, false alarms and cost."""
    from evaluation.prompts.sentinel_cases import sentinel_cases
    from evaluation.tables.sentinel import cost_row, sentinel_rows
    from localization.sentinels import SentinelRecipe, sample_texts
    from reference.folders import packs_of
    from reference.town.judge import SECOND_JUDGE, Judge
    from steering import SteeringError

    if not is_ours(model):
        fail("the judges only know pictures of the reference models; for another model give `fit-sentinel` labels")
    host, loaded = _packs(packs or sorted(packs_of(_name_of_model(model)).glob("*.safetensors")), model)
    watching = [p.sentinel for p in loaded if p.sentinel is not None]
    if not watching:
        fail("none of the packs has a sentinel; `palimpsest fit-sentinel` makes one")
    first, other = Judge.load(), Judge.load(SECOND_JUDGE)
    second: list[Mapping[str, float]] = []

    def judged(_: Sequence[Any], images: Sequence[Any]) -> list[dict[str, float]]:
        second.extend(other.scores(images))
        return first.scores(images)

    call = {} if steps is None else {"num_inference_steps": steps}
    try:
        cases = sentinel_cases([p.concept for p in loaded], "evaluation", each=each, innocent=innocent, seed=seed)
        recipe = SentinelRecipe(call=call)
        samples = sample_texts(host, cases, _sites(loaded), judged, recipe=recipe, progress=say)
        rows = sentinel_rows(watching, samples, second) | {"cost": cost_row(host, watching)}
    except (SteeringError, ValueError) as error:
        fail(str(error))
    how = {"model": host.name, "each": each, "innocent": innocent, "seed": seed, "steps": steps}
    keep({**how, "rows": rows}, out, json_)
    if not json_:
        for name, row in rows.items():
            table(f"{name} on {host.name}", [{"measure": k, "value": _brief(v)} for k, v in row.items()])


def add_sentinel(app: typer.Typer, evaluate_app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command("fit-sentinel")(fit_sentinel)
    evaluate_app.command("sentinel")(evaluate_sentinel)


def _packs(files: Sequence[Path], model: str | None) -> tuple[Host, list[Pack]]:
    from steering import Pack, SteeringError

    missing = [f for f in files if not f.is_file()]
    if missing or not files:
        fail(f"no pack file `{missing[0]}`" if missing else "no packs are shipped for this model; name some")
    host = open_host(model)
    try:
        return host, [Pack.load(file, host=host) for file in files]
    except SteeringError as error:
        fail(str(error))


def _name_of_model(model: str | None) -> str:
    """The name of the model's folder."""
    from service.loading.source import source_of

    return Path(source_of(model_from({"model": model})).where).name


def _sites(packs: Sequence[Pack]) -> list[str]:
    return list(dict.fromkeys(site for pack in packs for site in (*pack.sites, *pack.wider)))


def _cases(
    model: str | None, concepts: Sequence[str], prompts: Path | None, each: int, innocent: int, seed: int
) -> tuple[list[SentinelCase], Judge]:
    """The prompts to fit on, and what tells their labels. Raises: ValueError."""
    from evaluation.prompts.erasure_cases import name_of
    from evaluation.prompts.sentinel_cases import Kind, SentinelCase, sentinel_cases

    if prompts is None:
        if not is_ours(model):
            raise ValueError("the built-in judge only knows pictures of the reference models; give --prompts")
        from reference.town.judge import Judge as Town

        town = Town.load()
        return sentinel_cases(
            concepts, "localization", each=each, innocent=innocent, seed=seed
        ), lambda _, images: town.scores(images)
    lines = [json.loads(line) for line in prompts.read_text("utf-8").splitlines() if line.strip()]
    shows = {}
    cases = []
    for number, line in enumerate(lines):
        if not isinstance(line.get("prompt"), str) or not isinstance(line.get("shows"), list):
            raise ValueError(f"line {number + 1} of `{prompts}` must have a `prompt` and a list `shows`")
        shows[line["prompt"]] = {name_of(c) for c in line["shows"]}
        wording = str(line.get("wording", line["prompt"]))
        kind: Kind = "plain" if line["shows"] else "innocent"
        cases.append(SentinelCase(line["prompt"], line.get("seed", 1000 + number), kind, None, wording))

    def given(asked: Sequence[Any], _: Sequence[Any]) -> list[dict[str, float]]:
        return [{name_of(c): float(name_of(c) in shows[case.prompt]) for c in concepts} for case in asked]

    return cases, given


def _shown(pack: Pack, samples: SentinelSamples) -> list[Worded]:
    """The cases made for the pack's concept whose pictures showed it."""
    from evaluation.prompts.erasure_cases import name_of

    pairs = zip(samples.cases, samples.scores, strict=True)
    return [c for c, s in pairs if c.about == pack.concept and s[name_of(pack.concept)] >= 0.5]


def _brief(value: Any) -> str:
    if isinstance(value, Mapping) and "hits" in value:
        return f"{value['hits']}/{value['n']} {value['interval']}"
    return json.dumps(value) if isinstance(value, Mapping) else str(value)
