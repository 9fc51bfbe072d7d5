"""`palimpsest policy`: check, test and explain policies without a model."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.console import fail, say, table

if TYPE_CHECKING:
    from policies import Loader, Snapshot

__all__ = ["policy_app"]

policy_app = typer.Typer(help="Check, test and explain policies; no model is loaded.", no_args_is_help=True)

Policy = Annotated[str, typer.Option("--policy", help="`shipped`, `none`, a file or a folder.")]
Which = Annotated[str, typer.Argument(help="`shipped`, a file or a folder.", metavar="POLICY")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@policy_app.command()
def check(policy: Which = "shipped", json_: Json = False) -> None:
    """Everything that is wrong with policies, their own tests included: exit code 1 if anything is."""
    from policies import PolicyError

    try:
        snapshot = _load(policy)
    except PolicyError as error:
        if json_:
            print(json.dumps({"valid": False, **error.to_dict()}, indent=1))
        else:
            print(error)
        raise typer.Exit(1) from None
    if json_:
        print(json.dumps({"valid": True, "digest": snapshot.digest, "rules": [r.id for r in snapshot.rules]}, indent=1))
    else:
        say(f"valid: {len(snapshot.rules)} rules, {snapshot.digest}")


@policy_app.command("test")
def run_policy_tests(policy: Which = "shipped", json_: Json = False) -> None:
    """The results of the tests inside policies: exit code 1 if one fails or there is something else wrong."""
    from policies import PolicyError

    try:
        results = list(_results(_loader(), _paths(policy)))
    except PolicyError as error:
        print(json.dumps(error.to_dict(), indent=1) if json_ else error)
        raise typer.Exit(1) from None
    failed = sum(not r["passed"] for r in results)
    if json_:
        print(json.dumps({"tests": len(results), "failed": failed, "results": results}, indent=1))
    else:
        if results:
            table("tests", results)
        say(f"{len(results)} tests, {failed} failed")
    raise typer.Exit(1 if failed else 0)


@policy_app.command()
def explain(
    prompt: Annotated[str | None, typer.Argument(help="The prompt to decide on.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of prompts, one a line; `-`: standard input.")] = None,
    policy: Policy = "shipped",
    negative_prompt: Annotated[str, typer.Option(help="The negative prompt of each.")] = "",
    json_: Json = False,
) -> None:
    """What policies decide on prompts and why: a JSON line each, or sentences when a person reads."""
    from policies import PolicyError, Request, decide, explain, narrate

    if (prompt is None) == (file is None):
        fail("give either a prompt or `--file`")
    loader = _loader()
    try:
        snapshot = loader.load(_paths(policy))
    except PolicyError as error:
        fail(str(error))
    for text in [prompt] if prompt is not None else _lines(file):
        request = Request(text or "", negative_prompt, now=datetime.now(UTC))
        if json_ or not sys.stdout.isatty():
            print(json.dumps(explain(request, snapshot, loader.sense), ensure_ascii=False))
        else:
            print("\n".join(narrate(request, decide(request, loader.sense(request), snapshot), snapshot)))


@policy_app.command()
def schema() -> None:
    """The JSON Schema of policy files, for editors."""
    from policies import json_schema

    print(json.dumps(json_schema(), indent=1))


def _loader() -> Loader:
    from policies import Loader
    from service.detection import build_detection
    from service.settings import SettingsError, load_settings

    try:
        settings = load_settings().settings
        detection = build_detection(settings)
    except SettingsError as error:
        fail(str(error))
    # any key will do: whether a canary is drawn is not asked here
    return Loader(detection.sense, reads=detection.reads, canary_key=b"command line")


def _results(loader: Loader, paths: tuple[Path, ...]) -> Iterator[dict[str, Any]]:
    """One row a test. Raises `PolicyError` when something else than a test is wrong: then none was run."""
    from policies import PolicyError

    documents = loader.parse(paths)
    failed: dict[tuple[str, str], str] = {}
    try:
        loader.load(paths)
    except PolicyError as error:
        failed = {(p.file, p.path): p.message for p in error.problems}
        if not all(re.fullmatch(r"tests\[\d+\]", path) for _, path in failed):
            raise
    for document in documents:
        for number, test in enumerate(document.model.tests):
            message = failed.get((document.file, f"tests[{number}]"), "")
            yield {"policy": document.model.name, "test": test.name, "passed": not message, "message": message}


def _paths(policy: str) -> tuple[Path, ...]:
    from policies import policy_paths

    paths = policy_paths(policy)
    for path in paths:
        if not path.exists():
            fail(f"policy must be `shipped`, `none` or a file or folder, got `{policy}`, which does not exist")
    return paths


def _load(policy: str) -> Snapshot:
    return _loader().load(_paths(policy))


def _lines(file: Path | None) -> Iterator[str]:
    if file is None:
        return
    if str(file) != "-" and not file.is_file():
        fail(f"no file `{file}`")
    with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as lines:
        yield from (line.rstrip("\n") for line in lines if line.strip())
