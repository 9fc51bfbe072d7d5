"""The options that several commands take, so that one option reads the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Config", "Count", "Floor", "Json", "Key", "Model", "Out", "Policy", "Seed", "Steps", "Url"]

Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, help="Pictures per row.")]
Floor = Annotated[
    bool | None,
    typer.Option("--floor/--no-floor", help="Add the shipped policy `floor` to policies without one; default: yes."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Key = Annotated[str | None, typer.Option(help="API key of the service.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="Embedded model, diffusers folder, hub id@commit, `.safetensors` checkpoint, or `module:function`."
    ),
]
Out = Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")]
Policy = Annotated[
    list[str] | None, typer.Option(help="Policies: `shipped`, `none`, a file, a folder or a bundle; may be repeated.")
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed of prompts and pictures.")]
Steps = Annotated[int | None, typer.Option(min=2, help="Denoising steps; default: the model's.")]
Url = Annotated[str | None, typer.Option(help="URL of a running service; default: a service in this process.")]
