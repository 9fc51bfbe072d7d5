"""`palimpsest generate`: generates pictures from the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.cli.shared.console import emit, fail, say, settings_from, table
from palimpsest.cli.shared.options import Floor, Json, Model, Policy

__all__ = ["Json", "Model", "add_work"]


def generate(
    prompts: Annotated[
        list[str], typer.Argument(help="Prompts; one picture is generated for each.", metavar="PROMPT...")
    ],
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, the same for every prompt; default: random.")] = None,
    policy: Policy = None,
    floor: Floor = None,
    model: Model = None,
    size: Annotated[str | None, typer.Option(help="Picture size that the model supports, such as 64x64.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write the picture without steering, and the difference.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out"),
    json_: Json = False,
) -> None:
    """Generate pictures under the policies and write them to a folder. Exit code 1 if a prompt was refused."""
    from palimpsest.cli.shared.pictures import problem, save, shoot
    from service.http.requests import GenerationRequest

    asked = [
        GenerationRequest(prompt=p, seed=seed, size=size, num_inference_steps=steps, guidance_scale=guidance)
        for p in prompts
    ]
    try:
        settings = settings_from({"policy": policy, "floor": floor, "model": model})
        rows = save(shoot(settings, asked, compare=compare), out)
    except Exception as error:
        if (text := problem(error)) is None:
            raise
        fail(text)
    if json_:
        emit(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        table(f"pictures in {out}", [_shown(number, row) for number, row in enumerate(rows)])
        if any("compare" in row["files"] for row in rows):
            say(f"wrote {out / 'compare.png'}: all of them side by side")
    raise typer.Exit(1 if any("refused" in row for row in rows) else 0)


def _shown(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    from palimpsest.cli.shared.pictures import name_of

    files = f"{name_of(number, row['seed'])}-*" if row["files"] else ""
    rules = ", ".join(row["rules"])
    return {"files": files, "prompt": row["prompt"], "verdict": row["verdict"], "how": _how(row), "rules": rules}


def _how(steering: Mapping[str, Any]) -> str:
    """What the rules did to a picture, in words; empty for a refusal."""
    how, sites = steering.get("how", ""), steering.get("sites", 0)
    at = f"steered at {sites} site{'s' if sites != 1 else ''}" if sites else ""
    if how == "blurred":
        return f"{at}, blurred" if at else how
    return at or str(how).replace("-", " ")


def add_work(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.command()(generate)
