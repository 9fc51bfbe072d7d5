"""`palimpsest keys new | list | revoke`: API keys of a service, stored as digests in its keys file."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palimpsest.cli.shared.console import fail, say, settings_from, table
from palimpsest.cli.shared.options import Json

if TYPE_CHECKING:
    from service.http.keys import KeyRecord

__all__ = ["add_keys"]

keys_app = typer.Typer(help="API keys of a service: create, list and revoke.", no_args_is_help=True)
KeysFile = Annotated[Path | None, typer.Option("--file", help="The keys file; default: PALIMPSEST_KEYS_FILE.")]


@keys_app.command("new")
def new(
    name: Annotated[
        str, typer.Argument(help="Name of the tenant, as policies see it. A tenant may have several keys.")
    ],
    scopes: Annotated[
        str, typer.Option(help="Comma-separated scopes: generate, policy:read, policy:write, metrics, review, console.")
    ] = "generate",
    expires: Annotated[str | None, typer.Option(help="Lifetime, such as 24h or 90d; default: until revoked.")] = None,
    per_minute: Annotated[
        float | None,
        typer.Option(min=0.001, help="Rate limit of this key, in requests per minute; default: the service's."),
    ] = None,
    file: KeysFile = None,
    json_: Json = False,
) -> None:
    """Create a key and print it once on standard output. The file stores its digest. Running services accept it at
    once.
    """
    from policies.fields import length
    from service.http.keys import new_key, save_keys_file

    place, now = _place(file), datetime.now(UTC)
    try:
        if expires and not re.fullmatch(r"[1-9][0-9]{0,5}[smhd]", expires):
            fail(f"`--expires` must be a length of time such as 24h or 90d, got `{expires}`")
        ends = now + length(expires) if expires else None
        given = [s.strip() for s in scopes.split(",") if s.strip()]
        key, record = new_key(name, given, now=now, expires=ends, per_minute=per_minute)  # type: ignore[arg-type]
        save_keys_file(place, [*_records(place), record])
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(f"`{place}` cannot be written: {error.strerror or error}")
    if json_:
        print(json.dumps({"key": key, "file": str(place), **_shown(record)}, indent=1))
    else:
        print(key)
        say(f"key `{record.id}` of `{name}` was added to {place} as a digest; the key itself is not shown again")


@keys_app.command("list")
def list_(file: KeysFile = None, json_: Json = False) -> None:
    """List the keys of a file, without their digests."""
    place = _place(file)
    if not place.exists():
        fail(f"no keys file `{place}`; `palimpsest keys new` makes one")
    rows = [_shown(r) for r in _records(place)]
    if json_:
        print(json.dumps(rows, indent=1))
    elif rows:
        table("keys", [{**row, "scopes": ", ".join(row["scopes"])} for row in rows])  # type: ignore[arg-type]
    else:
        say("no keys")


@keys_app.command("revoke")
def revoke(
    ident: Annotated[str, typer.Argument(help="The id of a key, from `palimpsest keys list`.", metavar="ID")],
    file: KeysFile = None,
) -> None:
    """Revoke a key at once, also in running services."""
    from service.http.keys import revoke as ended
    from service.http.keys import save_keys_file

    place = _place(file)
    try:
        save_keys_file(place, ended(_records(place), ident, now=datetime.now(UTC)))
    except ValueError as error:
        fail(str(error))
    say(f"key `{ident}` is revoked")


def add_keys(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    app.add_typer(keys_app, name="keys")


def _place(file: Path | None) -> Path:
    place = file or settings_from({}).keys_file
    if place is None:
        fail("no keys file given; pass `--file`, or set PALIMPSEST_KEYS_FILE as for the service")
    return place


def _records(place: Path) -> tuple[KeyRecord, ...]:
    from service.http.keys import load_keys_file
    from service.settings import SettingsError

    try:
        return load_keys_file(place) if place.exists() else ()
    except SettingsError as error:
        fail(str(error))


def _shown(record: KeyRecord) -> dict[str, object]:
    return {name: value for name, value in record.to_dict().items() if name != "sha256"}
