"""`palimpsest generate` and the commands that call one other room each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.console import fail, settings_from, table

if TYPE_CHECKING:
    from steering import Pack

__all__ = ["Json", "Model", "add_work"]

pack_app = typer.Typer(help="Packs: where a concept sits in a model, and with what evidence.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Model = Annotated[str | None, typer.Option(help="Embedded model, diffusers folder, or hub id@revision.")]


def generate(
    prompts: Annotated[list[str], typer.Argument(help="One picture is made of each.", metavar="PROMPT...")],
    seed: Annotated[int | None, typer.Option(min=0, help="The same for every prompt; default: drawn.")] = None,
    policy: Annotated[str | None, typer.Option(help="`shipped`, `none`, a file or a folder.")] = None,
    model: Model = None,
    size: Annotated[str | None, typer.Option(help="A size that the model offers, such as 64x64.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Also the plain picture and the difference.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out"),
    json_: Json = False,
) -> None:
    """Pictures from the shell, steered as the policies say: exit code 1 if one was refused."""
    from service.api import GenerationRequest
    from service.shell import problem, save, shoot

    asked = [
        GenerationRequest(prompt=p, seed=seed, size=size, num_inference_steps=steps, guidance_scale=guidance)
        for p in prompts
    ]
    try:
        rows = save(shoot(settings_from({"policy": policy, "model": model}), asked, compare=compare), out)
    except Exception as error:
        if (text := problem(error)) is None:
            raise
        fail(text)
    if json_:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        shown = [{**row, "rules": ", ".join(row["rules"]), "files": "\n".join(row["files"].values())} for row in rows]
        table("pictures", [{k: r.get(k) for k in ("prompt", "seed", "verdict", "rules", "files")} for r in shown])
    raise typer.Exit(1 if any("refused" in row for row in rows) else 0)


@pack_app.command("show")
def pack_show(
    pack: Annotated[Path, typer.Argument(help="A pack file.")], model: Model = None, json_: Json = False
) -> None:
    """What a pack says of its concept, sites and evidence, checked against a model."""
    from service.models import load_host
    from service.settings import SettingsError
    from steering import Pack, SteeringError

    if not pack.is_file():
        fail(f"no pack file `{pack}`")
    try:
        loaded = Pack.load(pack, host=load_host(settings_from({"model": model})))
    except (SteeringError, SettingsError) as error:
        fail(str(error))
    facts: dict[str, Any] = {
        "concept": loaded.concept,
        "sites": list(loaded.sites),
        "wider": list(loaded.wider),
        "of": len(loaded.site_names),
        "joint share": _share(loaded),
        "strength": loaded.strength,
        "window": [loaded.window.start, loaded.window.end],
        "scores": {} if loaded.scores is None else dict(zip(loaded.site_names, loaded.scores.tolist(), strict=True)),
        "evidence": _plain(loaded.evidence),
    }
    if json_:
        print(json.dumps(facts, indent=1))
        return
    table(str(pack), [{"what": k, "value": v} for k, v in facts.items() if k != "scores"])
    if facts["scores"]:
        table("effect of each site", [{"site": n, "effect by part of the run": s} for n, s in facts["scores"].items()])


def add_work(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command()(generate)
    app.add_typer(pack_app, name="pack")


def _share(pack: Pack) -> str:
    """How much of all sites' effect the chosen ones reach, or that nobody measured it."""
    if pack.choice is None:
        return "not measured: published"
    return f"{pack.choice.share:.3f} [{pack.choice.low:.3f}, {pack.choice.high:.3f}]"


def _plain(value: Any) -> Any:
    """Mappings and sequences of any kind as dicts and lists."""
    return json.loads(json.dumps(value, default=lambda v: dict(v) if hasattr(v, "keys") else list(v)))
