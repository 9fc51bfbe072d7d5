"""`palimpsest models fetch | verify`: the only command that downloads models, and the check of what it brought."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from palimpsest.cli.shared.console import fail, say, table
from palimpsest.cli.shared.options import Json
from palimpsest_base.hub import COMMIT

__all__ = ["models_app"]

models_app = typer.Typer(help="Models of a hub: download at a commit, and verify.", no_args_is_help=True)
_NAMED = re.compile(rf"(?P<model>[^/@\s]+/[^/@\s]+)@(?P<commit>{COMMIT.pattern})")


@models_app.command("fetch")
def fetch(
    model: Annotated[str, typer.Argument(help="Hub id and commit of 40 digits: `owner/name@commit`.")],
    into: Annotated[
        Path | None, typer.Option(help="Folder for the files; default: the hub's cache on this machine (`HF_HOME`).")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Variant of the weight files, such as `fp16`; default: the files without one.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Files that match this pattern, in place of a pipeline; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how much would be downloaded, and end.")] = False,
    json_: Json = False,
) -> None:
    """Download a model at a commit and lock it. A stopped download is continued. Only safetensors, configurations and
    tokenizers are taken; a model that has its weights only as pickles is refused. Serving downloads nothing.
    """
    from huggingface_hub.utils import disable_progress_bars

    from palimpsest.models import LOCK, Fetcher, FetchError, HubFile

    name, commit = _named(model)
    if not sys.stderr.isatty():
        disable_progress_bars()
    fetcher = Fetcher(name, commit, into=into)

    def tell(file: HubFile) -> None:
        say(f"  {file.path}, {_bytes(file.size)}")

    try:
        plan = fetcher.plan(variant=variant, only=only or ())
        count = len(plan.choice.files)
        say(f"{name} at {commit}: {count} files, {_bytes(plan.choice.size)}; {_bytes(plan.to_load)} to download")
        say(f"into {fetcher.folder}")
        if dry_run:
            raise typer.Exit
        lock = fetcher.run(plan, variant=variant, told=tell)
    except FetchError as error:
        fail(str(error))
    except OSError as error:
        fail(f"`{fetcher.folder}` cannot be written: {error.strerror or error}")
    say(f"locked {len(lock.files)} files in {LOCK}; serve it with `--model {into or model}`")
    if json_:
        print(json.dumps({"folder": str(fetcher.folder), "files": len(lock.files), "bytes": lock.size}, indent=1))


@models_app.command("verify")
def verify(
    model: Annotated[str, typer.Argument(help="Folder of a fetched model, or `owner/name@commit` of the hub's cache.")],
    lock: Annotated[
        Path | None, typer.Option(help="Lock that is kept elsewhere; default: the one in the folder.")
    ] = None,
    json_: Json = False,
) -> None:
    """Check a fetched model against its lock: every file by size and sha256. Exit code 1 if one is not as it was."""
    from palimpsest.models import LOCK, Fetcher, read_lock
    from palimpsest.models import verify as check
    from palimpsest.models.lock import LockError

    folder = Path(model)
    if not folder.is_dir():
        folder = Fetcher(*_named(model)).folder
    try:
        known = read_lock(lock or folder / LOCK)
    except LockError as error:
        fail(str(error))
    findings = [{"file": each.file, "what": each.what} for each in check(folder, known)]
    told = {"model": known.model, "revision": known.revision, "files": len(known.files), "findings": findings}
    if json_:
        print(json.dumps(told, indent=1))
    elif findings:
        table(f"{known.model} at {known.revision}", findings)
    else:
        say(f"{known.model} at {known.revision}: {len(known.files)} files are as they were fetched")
    raise typer.Exit(1 if findings else 0)


def _named(model: str) -> tuple[str, str]:
    """Hub id and commit of `owner/name@commit`."""
    found = _NAMED.fullmatch(model)
    if found is None:
        fail(
            f"model must be `owner/name@commit` with a commit of 40 digits, got `{model}`: a branch or a tag may change"
        )
    return found["model"], found["commit"]


def _bytes(count: int) -> str:
    """A number of bytes as people read it."""
    power = min(3, (len(str(count)) - 1) // 3)
    return f"{count} B" if power == 0 else f"{count / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"
