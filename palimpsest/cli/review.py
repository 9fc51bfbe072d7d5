"""`palimpsest review list | show | decide`: works through the cases that a service holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.cli.shared.console import emit, fail, say, table
from palimpsest.cli.shared.options import Json
from palimpsest.cli.shared.service import ask, service_url

__all__ = ["review_app"]

review_app = typer.Typer(help="The cases that rules hold for a person.", no_args_is_help=True)

At = Annotated[str | None, typer.Option(help="The service's URL; default: the service of the settings.")]
CaseId = Annotated[str, typer.Argument(help="Id of the case, as `review list` shows it.", metavar="CASE")]


@review_app.command("list")
def list_cases(
    at: At = None,
    state: Annotated[str, typer.Option(help="pending, released, rejected, expired or all.")] = "pending",
    queue: Annotated[str | None, typer.Option(help="Only this queue.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only requests of this tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most cases to show.")] = 20,
    after: Annotated[str | None, typer.Option(help="Id of the last case of the page before.")] = None,
    json_: Json = False,
) -> None:
    """Show held cases, the oldest first."""
    given = {"state": state, "queue": queue, "tenant": tenant, "limit": limit, "after": after}
    page = _told("GET", at, "", params={k: v for k, v in given.items() if v is not None})
    if json_:
        print(json.dumps(page, indent=1))
        return
    for case in page["data"]:  # a table would break the ids, which are there to be copied
        row = _row(case)
        emit(row.pop("case"))
        emit("  " + "; ".join(f"{name} {value}" for name, value in row.items()))
    if not page["data"]:
        say("no case is here")
    if page["has_more"]:
        say(f"there are more: --after {page['data'][-1]['id']}")


@review_app.command()
def show(
    case: CaseId,
    at: At = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("."),
    clear: Annotated[bool, typer.Option("--clear", help="Write the pictures as they are, not blurred.")] = False,
    json_: Json = False,
) -> None:
    """Show a case with its prompt, and write its pictures, blurred unless `--clear`. The audit log gets each look."""
    told = _told("GET", at, f"/{case}/case")
    files = []
    for repaired in (False, True) if told["repaired"] else (False,):
        for k in range(told["pictures"]):
            asked = {"clear": json.dumps(clear), "repaired": json.dumps(repaired)}
            answer = _answer("GET", at, f"/{case}/pictures/{k}", params=asked)
            name = f"{case}-{k}{'-repaired' if repaired else ''}{'' if clear else '-blurred'}.png"
            files.append(_written(out / name, answer.content))
    if json_:
        emit(json.dumps({**told, "files": files}, indent=1, ensure_ascii=False))
    else:
        table("held case", [{"field": k, "value": v} for k, v in _facts(told, files).items()])


@review_app.command()
def decide(
    case: CaseId,
    decision: Annotated[str, typer.Argument(help="release, release-repaired or reject.", metavar="DECISION")],
    at: At = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the case.")] = None,
    tell: Annotated[bool, typer.Option("--tell", help="Tell the reason to the caller.")] = False,
    json_: Json = False,
) -> None:
    """Release or reject a case. Exit code 1 if it is decided already."""
    body = {"decision": decision, "reason": reason, "tell": tell}
    answer = _answer("POST", at, f"/{case}", json=body, accept=(409,))
    told = answer.json()
    if json_:
        print(json.dumps(told, indent=1))
    elif answer.status_code == 409:
        say(told["error"]["message"])
    else:
        say(f"case {told['id']}: {told['state']}")
    raise typer.Exit(1 if answer.status_code == 409 else 0)


def _told(method: str, at: str | None, path: str, **more: Any) -> Any:
    return _answer(method, at, path, **more).json()


def _answer(method: str, at: str | None, path: str, accept: tuple[int, ...] = (), **more: Any) -> Any:
    """The answer of a good or accepted status. Any other ends the command with what the service says."""
    url = service_url(at)
    answer = ask(method, url, f"/v1/reviews{path}", **more)
    if answer.status_code != 200 and answer.status_code not in accept:
        fail(f"`{url}` answered {answer.status_code}: {_message(answer)}")
    return answer


def _message(answer: Any) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(answer.text[:200])


def _row(case: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "case": case["id"],
        "queue": case["queue"],
        "tenant": case["tenant"],
        "state": case["state"],
        "since": _time(case["created"]),
        "rules": ", ".join(case["rules"]),
        "pictures": f"{case['pictures']}, and repaired" if case["repaired"] else case["pictures"],
    }


def _facts(case: Mapping[str, Any], files: list[str]) -> dict[str, Any]:
    facts = _row(case) | {"until": _time(case["expires"]), "prompt": case["prompt"]}
    facts |= {"negative prompt": case["negative_prompt"], "given picture": case["given"], "model": case["model"]}
    return facts | {"policy": case["grounds"]["policy"], "decision": case["decision_id"], "files": "\n".join(files)}


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _written(file: Path, content: bytes) -> str:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        fail(f"`{file}` cannot be written: {error.strerror or error}")
    return str(file)
