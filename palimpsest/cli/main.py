"""The command line, `palimpsest`. Each command is a short function that calls another package.

Only typer is imported here. Each command imports what it runs, so that `--help` is quick. Exit codes: 0 success, 1
findings (such as a failed check), 2 usage error, 3 internal error. With `--json`, standard output contains JSON only.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from palimpsest.cli.edit import add_edit
from palimpsest.cli.evaluate import add_evaluate, evaluate_app
from palimpsest.cli.fit import add_fit
from palimpsest.cli.generate import add_work
from palimpsest.cli.keys import add_keys
from palimpsest.cli.localize import add_localize
from palimpsest.cli.operate.models import models_app
from palimpsest.cli.operate.start import tell_start
from palimpsest.cli.pack import add_packs
from palimpsest.cli.policy import policy_app
from palimpsest.cli.reference import add_reference
from palimpsest.cli.review import review_app
from palimpsest.cli.sentinel import add_sentinel
from palimpsest.cli.shared.console import emit, fail, say, table
from palimpsest.cli.shared.options import Config, Floor, Json, Model, Policy
from palimpsest.cli.tune import evaluate_tune, tune_app

if TYPE_CHECKING:
    from service.audit import AuditKeys
    from service.settings import Loaded

__all__ = ["main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        emit(f"palimpsest {version('palimpsest')}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Serves text-to-image models under safety policies, and repairs pictures instead of refusing requests."""


audit_app = typer.Typer(help="The audit log.", no_args_is_help=True)
AuditFolders = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Folder of the audit log, and folders that its closed files were moved to; default: `audit` in the state"
        " folder."
    ),
]
app.add_typer(policy_app, name="policy")
app.add_typer(models_app, name="models")
app.add_typer(review_app, name="review")
app.add_typer(tune_app, name="tune")
evaluate_app.command("tune")(evaluate_tune)
app.add_typer(audit_app, name="audit")
add_work(app)
add_edit(app)
add_packs(app)
add_evaluate(app)
add_reference(app)
add_localize(app, evaluate_app)
add_fit(app, evaluate_app)
add_sentinel(app, evaluate_app)
add_keys(app)


@app.command()
def serve(
    model: Model = None,
    policy: Policy = None,
    floor: Floor = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes, one model each.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow a non-loopback address without API keys.")
    ] = False,
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="Adapter that requests may name: `name=path` or `name=path@scale`; may be repeated."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a hub model, 40 digits.")] = None,
    base: Annotated[
        Path | None, typer.Option(help="Diffusers folder with the configurations of a `.safetensors` checkpoint.")
    ] = None,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Show every rule with its reasons, and the traceback of a factory's error."),
    ] = False,
    config: Config = None,
) -> None:
    """Serve the HTTP API until stopped.

    Without options: the default embedded model under the shipped policies, reachable from this machine only.
    """
    from service.logs import log_as_json
    from service.worker.launch import check
    from service.worker.launch import serve as run

    options: dict[str, Any] = {"model": model, "policy": policy, "floor": floor, "host": host, "port": port}
    options |= {
        "workers": workers,
        "revision": revision,
        "base": base,
        "insecure": insecure or None,
        "verbose": verbose or None,
    }
    settings = _load({**options, "adapters": adapter or None}, config).settings
    log = None
    if settings.log_format == "json":
        log_as_json()
        log = logging.getLogger("bentoml.palimpsest")
    _checked(lambda: check(settings))
    shown = f"http://{settings.host}:{settings.port}"

    def started(notes: Sequence[Mapping[str, Any]]) -> None:
        for note in notes:
            if note["state"] == "failed":
                told = note["failure"] if note["mistake"] else f"a worker could not start: {note['failure']}"
                say(f"error: {told}") if log is None else log.error(told)
                return
        if log is not None:  # tables are for people; `GET /v1/policies` has the rules
            policy = {"digest": notes[0]["policy"]["digest"], "floor": notes[0]["policy"]["floor"]}
            about = {"policy": policy, "rules": len(notes[0].get("rules", [])), "host": notes[0]["host"]}
            about |= {"models": list(notes[0]["models"])} if "models" in notes[0] else {}
            log.info("serving `%s` at %s", settings.model, shown, extra=about)
            return
        tell_start(settings.model, shown, notes[0], verbose=settings.verbose)

    raise typer.Exit(run(settings, started=started))


@app.command()
def config(config: Config = None, json_: Json = False) -> None:
    """Show every setting, its value and its source. Secrets are hidden."""
    rows = _load({}, config).rows()
    if json_:
        print(json.dumps(rows, indent=1))
    else:
        table("settings", rows)


@audit_app.command("verify")
def audit_verify(
    folders: AuditFolders = None,
    archived: Annotated[
        bool, typer.Option("--archived", help="The oldest files, or the heads, may be elsewhere.")
    ] = False,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Check whether anything in the audit log was changed, removed, reordered or cut off. Exit code 1 if so, and if
    there is no log.
    """
    from service.audit import verify

    places, keys = _audit_log(folders, config)
    records, findings = verify(*places, keys=keys, archived=archived)
    faulty = sum(f.faulty for f in findings)
    shown = [{"file": f.file, "line": f.line, "kind": f.kind, "text": f.text} for f in findings]
    if json_:
        print(json.dumps({"records": records, "intact": not faulty, "findings": shown}, indent=1))
    else:
        say(f"{records} records are intact" + ("" if not faulty else f", {faulty} files are not"))
        if shown:
            table("findings", shown)
    raise typer.Exit(1 if faulty else 0)


@audit_app.command("find")
def audit_find(
    folders: AuditFolders = None,
    decision: Annotated[
        str | None, typer.Option(help="The id of a decision: `decision_id` of an answer, or `X-Request-Id`.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="A prompt, whole. `-` reads it from standard input. It is compared by its hash.")
    ] = None,
    identifier: Annotated[
        str | None, typer.Option(help="A `safety_identifier` (or `user`), as it was sent. It is compared by its hash.")
    ] = None,
    config: Config = None,
) -> None:
    """Print the records of a decision, a prompt or a person, one JSON object a line. Exit code 1 if there is none.

    The log has no prompts and no identifiers, so only somebody who has the key and knows them finds their records.
    """
    from service.audit import find

    if sum(given is not None for given in (decision, prompt, identifier)) != 1:
        fail("give one of `--decision`, `--prompt` and `--identifier`")
    places, keys = _audit_log(folders, config)
    prompt = sys.stdin.read().removesuffix("\n") if prompt == "-" else prompt
    found = 0
    for file, line, record in find(*places, keys=keys, decision=decision, prompt=prompt, identifier=identifier):
        found += 1
        print(json.dumps({"file": file, "line": line, **record}))
    say(f"{found} records; `palimpsest audit verify` tells whether the log is whole")
    raise typer.Exit(0 if found else 1)


def _audit_log(folders: Sequence[Path] | None, config: Path | None) -> tuple[Sequence[Path], AuditKeys]:
    """The folders of an audit log, and its keys: of the settings, or of the file beside the folder."""
    from service.audit import load_keys

    settings = _load({}, config).settings
    places = folders or [settings.state_folder / "audit"]
    for place in places:
        if not place.is_dir():
            fail(f"no audit log at `{place}`")
    if settings.audit_key is not None:
        return places, load_keys(settings.state_folder, settings.audit_key.get_secret_value())
    tried = [places[0].absolute().parent, settings.state_folder]
    beside = next((folder for folder in tried if (folder / "audit.key").is_file()), None)
    if beside is None:
        fail(f"no key: `{tried[0] / 'audit.key'}` does not exist and PALIMPSEST_AUDIT_KEY is not set")
    return places, load_keys(beside)


def _load(options: Mapping[str, Any], file: Path | None) -> Loaded:
    from service.settings import SettingsError, load_settings

    try:
        return load_settings(options, file=file)
    except SettingsError as error:
        fail(str(error))


def _checked(check: Any) -> None:
    from policies import PolicyError
    from service.settings import SettingsError

    try:
        check()
    except (SettingsError, PolicyError) as error:
        fail(str(error))


def main() -> NoReturn:
    """Runs the command line and exits with its code."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader closed the pipe
        sys.exit(0)
    except Exception as error:
        import traceback

        say(traceback.format_exc())
        say(f"internal error: {type(error).__name__}: {error}")
        sys.exit(3)
    sys.exit(0)
