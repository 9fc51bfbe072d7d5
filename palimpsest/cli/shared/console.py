"""Console output: messages, errors, progress and tables. Commands print JSON themselves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = ["by_rows", "emit", "fail", "keep", "model_from", "plain", "say", "settings_from", "stages", "table"]


def plain(text: object) -> str:
    """`text` with every character that a terminal acts on, or does not show, written as JSON escapes it. Line ends and
    tabs stay. What a prompt, a policy or a file name holds must not steer a terminal.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else json.dumps(c)[1:-1] for c in str(text))


def say(text: str) -> None:
    """Prints one line on standard error, so that standard output contains results only."""
    typer.echo(plain(text), err=True)


def emit(text: object) -> None:
    """Prints a result on standard output."""
    typer.echo(plain(text))


def fail(text: str) -> NoReturn:
    """Prints a usage error and exits with code 2."""
    for line in text.splitlines():
        typer.echo(f"error: {plain(line)}", err=True)
    raise typer.Exit(2)


def keep(told: Mapping[str, Any], out: Path | None, json_: bool) -> None:
    """Writes the results, and what they were measured on, to `out` if given, and prints them as JSON if `json_`."""
    import platform

    import torch

    text = by_rows({"machine": platform.machine(), "torch": torch.__version__, **told})
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", "utf-8")
    if json_:
        emit(text)


def by_rows(told: Mapping[str, Any]) -> str:
    """`told` as JSON with an entry a line, and of long mappings and lists an item a line."""
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {_items(value)}" for name, value in told.items()) + "\n}"


def _items(value: Any) -> str:
    """`value` on one line, or with an item a line if it is long."""
    whole = json.dumps(value, ensure_ascii=False)
    if len(whole) <= 100 or not isinstance(value, Mapping | list):
        return whole
    if isinstance(value, Mapping):
        items = [f"{json.dumps(k, ensure_ascii=False)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()]
        return "{\n" + ",\n".join(f"  {item}" for item in items) + "\n }"
    return "[\n" + ",\n".join(f"  {json.dumps(v, ensure_ascii=False)}" for v in value) + "\n ]"


def settings_from(options: Mapping[str, Any]) -> Settings:
    """The settings with these options. An invalid option ends the command with an error."""
    from service.settings import SettingsError, load_settings

    try:
        return load_settings(options).settings
    except SettingsError as error:
        fail(str(error))


def model_from(options: Mapping[str, Any]) -> Settings:
    """The settings that hold for one model, that for requests that name none. Errors as in `settings_from`."""
    return settings_from(options).served()[0].settings


def stages() -> Callable[[str, int, int], None]:
    """A progress callback that prints each stage once, and on a terminal also its progress."""
    last: list[str] = []

    def tell(stage: str, done: int, total: int) -> None:
        if last != [stage]:
            last[:] = [stage]
            say(stage)
        if sys.stderr.isatty():
            sys.stderr.write(f"\r  {done} of {total}" + ("\r\033[K" if done == total else ""))
            sys.stderr.flush()

    return tell


def table(title: str, rows: Sequence[Mapping[str, Any]], *, hide: Sequence[str] = (), width: int | None = None) -> None:
    """Prints rows as a table; the first row's keys are the columns. `width`: the most columns of text that it takes."""
    from rich.console import Console
    from rich.table import Table

    columns = [name for name in rows[0] if name not in hide]
    drawn = Table(title=plain(title), title_justify="left")
    for name in columns:
        drawn.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        drawn.add_row(*("" if row.get(name) is None else plain(row[name]) for name in columns))
    console = Console()
    console.print(drawn, markup=False, width=min(console.width, width or console.width))
