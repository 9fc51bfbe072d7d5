"""`palimpsest policy`: check, test, explain, compare and replay policies without a model."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from palimpsest.cli.bundles import Json, Keys, Verify, add_bundles
from palimpsest.cli.shared.console import emit, fail, say, table
from palimpsest.cli.shared.options import Floor, Policy
from palimpsest.cli.shared.policy_files import existing, load, loader_for, refuse, requests_from, settings_of

__all__ = ["policy_app"]

policy_app = typer.Typer(
    help="Check, test, explain, compare and sign policies. No model is loaded.", no_args_is_help=True
)

_HELP = "`shipped`, `none`, a file, a folder or a bundle."
Which = Annotated[
    list[str] | None, typer.Argument(help=f"{_HELP} Several are joined. Default: `shipped`.", metavar="POLICY...")
]
Old = Annotated[str, typer.Argument(help=f"The current policy: {_HELP}", metavar="OLD")]
New = Annotated[str, typer.Argument(help="The new policy, likewise.", metavar="NEW")]
Tenant = Annotated[str, typer.Option(help="Tenant of the requests.")]
StrikeCount = Annotated[
    int, typer.Option(min=0, max=100, help="Earlier requests of the same person on which rules acted, of any kind.")
]


@policy_app.command()
def check(
    policy: Which = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 if there is any hint.")] = False,
    floor: Floor = None,
    key: Keys = None,
    verify: Verify = True,
    json_: Json = False,
) -> None:
    """Check policies, including the tests inside them, and give hints about what is probably not meant.

    Exit code 1 if there is any problem; with `--strict` also if there is any hint.
    """
    from policies import PolicyError, advice

    paths = existing(*policy or ["shipped"])
    try:
        loaded = loader_for(paths, keys=key or (), verify=verify, floor=floor).load_files(paths)
    except PolicyError as error:
        refuse(error, as_json=json_)
    snapshot = loaded.snapshot
    hints = sorted(advice(loaded, datetime.now(UTC), longest=settings_of().max_prompt))
    if json_:
        facts = {"digest": snapshot.digest, "rules": [r.id for r in snapshot.rules], "floor": snapshot.floor}
        more = {
            "watch": {r.id: r.watch for r in snapshot.rules},
            "inflected": {n: {"forms": len(f.kept), "left_out": f.everyday} for n, f in snapshot.forms.items()},
            "advice": [asdict(hint) for hint in hints],
        }
        print(json.dumps({"valid": True, **facts, **more}, indent=1))
    else:
        for hint in hints:
            say(f"hint: {hint}")
        for rule in (r for r in snapshot.rules if r.trusts_the_prompt and not r.sleeps):
            say(f"`{rule.id}` trusts the prompt: it looks at {rule.watch}")
        for name, forms in snapshot.forms.items():
            say(f"list {name}: {len(forms.kept)} inflected forms{_left_out(forms.everyday)}")
        floors = {"given": "their own floor", "added": "the shipped floor", "none": "no floor"}
        say(f"valid: {len(snapshot.rules)} rules with {floors[snapshot.floor]}, {snapshot.digest}")
    raise typer.Exit(1 if strict and hints else 0)


def _left_out(everyday: Mapping[str, str]) -> str:
    if not everyday:
        return ""
    named = ", ".join(f"`{form}` (of `{entry}`)" for form, entry in list(everyday.items())[:3])
    more = f" and {len(everyday) - 3} more" if len(everyday) > 3 else ""
    return f"; left out as everyday words: {named}{more}"


@policy_app.command("test")
def run_policy_tests(
    policy: Which = None, floor: Floor = None, key: Keys = None, verify: Verify = True, json_: Json = False
) -> None:
    """Run the tests inside policies. Exit code 1 if a test fails or the policies have another problem."""
    from policies import PolicyError, run_tests

    paths = existing(*policy or ["shipped"])
    loader = loader_for(paths, keys=key or (), verify=verify, floor=floor)
    try:
        snapshot = loader.load_untested(paths)
    except PolicyError as error:
        refuse(error, as_json=json_)
    results: list[dict[str, Any]] = [
        {"policy": r.policy, "test": r.name, "passed": r.passed, "message": r.message}
        for r in run_tests(snapshot, loader.sense)
    ]
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
    policy: Policy = None,
    floor: Floor = None,
    negative_prompt: Annotated[str, typer.Option(help="Negative prompt for prompts without one.")] = "",
    tenant: Tenant = "",
    strikes: StrikeCount = 0,
    now: Annotated[datetime | None, typer.Option(help="Time of the decision, in UTC; default: now.")] = None,
    key: Keys = None,
    verify: Verify = True,
    json_: Json = False,
) -> None:
    """Explain the decisions of policies on prompts: sentences on a terminal, else one JSON line per prompt.

    Canary rules count as enforced here, as in tests.
    """
    from policies import PolicyError, Request, Strikes, decide, explain, narrate

    if (prompt is None) == (file is None):
        fail("give either a prompt or `--file`")
    at = now.replace(tzinfo=UTC) if now is not None else datetime.now(UTC)
    paths = existing(*policy or ["shipped"])
    loader = loader_for(paths, keys=key or (), verify=verify, floor=floor)
    try:
        snapshot = replace(loader.load(paths), draw_canaries=False)
    except PolicyError as error:
        fail(str(error))
    one = Request(prompt or "", tenant=tenant, now=at, strikes=Strikes.of(strikes))
    asked = requests_from(file, tenant=tenant, now=at, strikes=strikes) if file else [one]
    for request in asked:
        request = replace(request, negative_prompt=request.negative_prompt or negative_prompt)
        if json_ or not sys.stdout.isatty():
            emit(json.dumps(explain(request, snapshot, loader.sense), ensure_ascii=False))
        else:
            emit("\n".join(narrate(request, decide(request, loader.sense(request), snapshot), snapshot)))


@policy_app.command()
def diff(old: Old, new: New, floor: Floor = None, key: Keys = None, verify: Verify = True, json_: Json = False) -> None:
    """Show how two policies differ in meaning. Exit code 1 if the new one loosens anything."""
    from policies import diff

    a, b = (load(p, keys=key or (), verify=verify, floor=floor)[0] for p in (old, new))
    changes = diff(a, b)
    loosened = sum(c.loosens for c in changes)
    if json_:
        shown = [c.to_dict() for c in changes]
        print(json.dumps({"old": a.digest, "new": b.digest, "loosens": bool(loosened), "changes": shown}, indent=1))
    else:
        for change in changes:
            mark = "LOOSENS" if change.loosens else "       "
            emit(f"{mark}  {change.where} {change.name}: {change.text}")
        say(f"{len(changes)} changes, {loosened} loosen" if changes else "no change in meaning")
    raise typer.Exit(1 if loosened else 0)


@policy_app.command("replay")
def replay_prompts(
    old: Old,
    new: New,
    file: Annotated[Path, typer.Option(help="A file of prompts, one a line; `-`: standard input.")],
    tenant: Tenant = "",
    strikes: StrikeCount = 0,
    show: Annotated[int, typer.Option(min=0, help="Number of changed prompts to show.")] = 20,
    floor: Floor = None,
    key: Keys = None,
    verify: Verify = True,
    json_: Json = False,
) -> None:
    """Compare the decisions of two policies on the same prompts. Exit code 1 if the new one is milder on any prompt."""
    from policies import replay

    a, loader = load(old, keys=key or (), verify=verify, floor=floor)
    b, _ = load(new, keys=key or (), verify=verify, floor=floor)
    asked = list(requests_from(file, tenant=tenant, strikes=strikes))
    if not asked:
        fail(f"`{file}` holds no prompt")
    began = time.perf_counter()
    result = replay(asked, a, b, loader.sense)
    seconds = time.perf_counter() - began
    changed = [c.to_dict() for c in sorted(result.changed, key=lambda c: not c.milder)]
    if json_:
        moves = [{"old": o, "new": n, "prompts": k} for (o, n), k in sorted(result.transitions.items())]
        facts = {"prompts": result.prompts, "transitions": moves, "milder": result.milder, "seconds": seconds}
        emit(json.dumps({**facts, "changed": changed}, indent=1, ensure_ascii=False))
    else:
        table("verdicts: a row for each old one, a column for each new one", result.matrix())
        for one in changed[:show]:
            said = "; ".join(one["reasons"])
            emit(
                f"{one['old']['verdict']} -> {one['new']['verdict']}: {one['prompt']}" + (f"  ({said})" if said else "")
            )
        say(f"{result.prompts} prompts in {seconds:.2f} s, {len(changed)} change, {result.milder} for the milder")
    raise typer.Exit(1 if result.milder else 0)


@policy_app.command()
def schema(json_: Annotated[bool, typer.Option("--json", help="No effect: a schema is always JSON.")] = False) -> None:
    """Print the JSON Schema of policy files, for editors."""
    from policies import json_schema

    print(json.dumps(json_schema(), indent=1))


add_bundles(policy_app)
