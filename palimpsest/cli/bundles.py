"""`palimpsest policy keygen | sign | verify | push | status`: signs policy bundles and delivers them to services."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer

from palimpsest.cli.shared.console import fail, say, table
from palimpsest.cli.shared.options import Json
from palimpsest.cli.shared.policy_files import existing, loader_for, refuse
from palimpsest.cli.shared.service import ask, service_url

if TYPE_CHECKING:
    from policies import Origin

__all__ = ["Json", "Keys", "Verify", "add_bundles"]

Keys = Annotated[
    list[str] | None, typer.Option(help="Trusted public key: PEM file or `ed25519:...`; default: the settings'.")
]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Verify the signature of a bundle.")]
BundleFile = Annotated[Path, typer.Argument(help="A signed bundle.", metavar="BUNDLE")]


def keygen(
    key: Annotated[
        Path, typer.Argument(help="File for the private key; the public key is written beside it, with `.pub` added.")
    ],
    json_: Json = False,
) -> None:
    """Create an Ed25519 key pair for signing bundles. Keep the private key secret."""
    from policies import KeyProblem, make_key

    try:
        if not key.name:  # the working directory, or a root
            raise KeyProblem(f"a key needs the name of a file, got `{key}`")
        public = make_key(key).public
    except (KeyProblem, OSError) as error:
        fail(str(error))
    if json_:
        print(
            json.dumps({"key": public.id, "private": str(key), "public": f"{key}.pub", "line": str(public)}, indent=1)
        )
    else:
        say(f"key `{public.id}`: sign with {key}; services trust it by PALIMPSEST_POLICY_KEYS={key}.pub or {public}")


def sign(
    policy: Annotated[str, typer.Argument(help="Policies to sign: `shipped`, a file or a folder.", metavar="POLICY")],
    key: Annotated[Path, typer.Option(help="The private key, a PEM file.")],
    out: Annotated[Path, typer.Option(help="The bundle to write, a .bundle file.")],
    name: Annotated[str | None, typer.Option(help="Name of the bundle's set; default: the name of the source.")] = None,
    sequence: Annotated[
        int | None, typer.Option(min=1, help="Sequence number; must increase. Default: Unix time.")
    ] = None,
    expires: Annotated[str, typer.Option(help="How long services may start to use it, such as 24h or 90d.")] = "90d",
    host: Annotated[list[str] | None, typer.Option(help="Restrict it to models of this name; repeatable.")] = None,
    json_: Json = False,
) -> None:
    """Sign policies and their lists as one bundle. Policies that do not load or fail their tests are not signed."""
    from policies import KeyProblem, PolicyError, SigningKey, open_bundle, sign_bundle

    if out.suffix != ".bundle":
        fail(f"`--out` must end in `.bundle`, got `{out}`")
    if not re.fullmatch(r"[1-9][0-9]{0,5}[smhd]", expires):
        fail(f"`--expires` must be a length of time such as 24h or 90d, got `{expires}`")
    paths = existing(policy)
    try:
        loaded = loader_for(paths).load_files(paths)
    except PolicyError as error:
        refuse(error, as_json=json_)
    if loaded.snapshot.origin is not None:
        fail(f"`{policy}` is a bundle already; sign its source files")
    now = datetime.now(UTC)
    try:
        signer = SigningKey.load(key)
        content = sign_bundle(
            {path.partition("/")[2]: text for path, text in loaded.files.items()},
            signer,
            name=name or re.sub(r"[^a-z0-9]+", "-", Path(policy).stem.lower()).strip("-"),
            sequence=sequence or int(now.timestamp()),
            created=now,
            not_after=now + _length(expires),
            hosts=host or (),
        )
    except (KeyProblem, ValueError) as error:
        fail(str(error))
    _write(out, content)
    _tell(open_bundle(content, label=str(out), keys=[signer.public], now=now).origin, json_, file=str(out))


def verify(
    bundle: BundleFile,
    key: Keys = None,
    host: Annotated[str | None, typer.Option(help="Check it for this model name.")] = None,
    json_: Json = False,
) -> None:
    """Check whether a service that trusts the key would use a bundle, including its tests. Exit code 1 if not."""
    from dataclasses import replace

    from policies import PolicyError

    paths = existing(str(bundle))
    try:
        snapshot = replace(loader_for(paths, keys=key or ()), host=host).load(paths)
    except PolicyError as error:
        refuse(error, as_json=json_)
    if snapshot.origin is None:
        fail(f"`{bundle}` is not a signed bundle")
    _tell(snapshot.origin, json_, rules=len(snapshot.rules), policy=snapshot.digest)


def push(
    bundle: BundleFile,
    to: Annotated[str, typer.Argument(help="The policy folder of a service, or the service's URL.", metavar="TO")],
    model: Annotated[
        str | None, typer.Option(help="With a URL: the model whose policies they are. Default: the first one.")
    ] = None,
    key: Keys = None,
    json_: Json = False,
) -> None:
    """Verify a bundle and copy it to a service. A newer bundle is never replaced. Exit code 1 if it is refused."""
    from policies import PolicyError

    paths = existing(str(bundle))
    try:
        snapshot = loader_for(paths, keys=key or ()).load(paths)
        if snapshot.origin is None:
            fail(f"`{bundle}` is not a signed bundle; sign the policies first")
        if re.match(r"https?://", to):
            answer = _put(to, bundle.read_bytes(), model)
        elif model is not None:
            fail(f"--model needs the URL of a service, got `{to}`; each model has a policy folder of its own")
        else:
            answer = _place(bundle.read_bytes(), Path(to), snapshot.origin)
    except PolicyError as error:
        refuse(error, as_json=json_)
    _tell(snapshot.origin, json_, **answer)


def status(
    where: Annotated[
        str | None, typer.Argument(help="A service's URL or a folder; default: the service of the settings.")
    ] = None,
    key: Keys = None,
    json_: Json = False,
) -> None:
    """Show the policies in use. Exit code 1 if workers disagree, or do not use the policies in their folder."""
    if where is not None and not re.match(r"https?://", where):
        verify(Path(where), key=key, host=None, json_=json_)
        return
    url = service_url(where)
    answer = _ask("GET", url)
    if answer.status_code != 200:
        fail(f"`{url}` answered {answer.status_code}: {answer.text[:200]}")
    note = answer.json()
    rows = [row for worker in note["workers"] for row in _rows(worker)]
    well = note["converged"] and all(row["source"] == "live" for row in rows)
    if json_:
        print(json.dumps({"url": url, "well": well, **note}, indent=1))
    else:
        if rows:
            table(f"policies in use at {url}", rows)
        say("all workers use the current policies" if well else "not all workers use the current policies")
    raise typer.Exit(0 if well else 1)


def add_bundles(app: typer.Typer) -> None:
    """Adds these commands to the group."""
    for command in (keygen, sign, verify, push, status):
        app.command()(command)


def _length(text: str) -> timedelta:
    from policies.fields import length

    return length(text)


def _tell(origin: Origin, as_json: bool, **more: Any) -> None:
    facts = {
        "bundle": origin.name,
        "sequence": origin.sequence,
        "digest": origin.digest,
        "created": f"{origin.created:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{origin.not_after:%Y-%m-%dT%H:%M:%SZ}",
        "key": origin.key,
        **more,
    }
    if as_json:
        print(json.dumps({"valid": True, **facts}, indent=1))
    else:
        say(", ".join(f"{name} {value}" for name, value in facts.items()))


def _place(content: bytes, folder: Path, origin: Origin) -> dict[str, Any]:
    """Writes the bundle into `folder`, unless the folder contains a newer bundle or other policies. Raises
    `PolicyError`.
    """
    from policies import PolicyError, Problem, open_bundle
    from policies.store.sources import disk_sources

    if not folder.is_dir():
        fail(f"target must be a folder or a URL, got `{folder}`")
    target = folder / f"{origin.name}.bundle"
    others = [p for p in folder.glob("*.bundle") if p != target] + [s.path for s in disk_sources(folder, [])]
    if others:
        said = f"policies of another kind stand in `{folder}`; a service follows one bundle"
        raise PolicyError([Problem(str(others[0]), 0, 0, "", said)])
    if target.exists():
        try:
            there = open_bundle(
                target.read_bytes(), label=str(target), keys=None, now=datetime.now(UTC), in_use=True
            ).origin
        except PolicyError as error:
            say(f"warning: replacing a file that is not a valid bundle: {error}")
        else:
            if there.digest == origin.digest:
                return {"pushed": str(target), "changed": False}
            if there.sequence >= origin.sequence:
                said = f"its sequence number is {origin.sequence}, and {there.sequence} stands in `{folder}` already"
                raise PolicyError([Problem(str(target), 0, 0, "", said, "replayed")])
    _write(target, content)
    return {"pushed": str(target), "changed": True}


def _put(url: str, content: bytes, model: str | None) -> dict[str, Any]:
    """Sends the bundle to a service. Raises `PolicyError` with the reason if the service refuses it."""
    from policies import PolicyError, Problem

    answer = _ask("PUT", url, content, query="" if model is None else f"?{urlencode({'model': model})}")
    if answer.status_code in (404, 405) and "model_not_found" not in answer.text:
        fail(f"`{url}` does not accept policies over HTTP; push to its policy folder")
    if answer.status_code >= 500:
        fail(f"`{url}` answered {answer.status_code}: {answer.text[:200]}")
    if answer.status_code >= 400:
        said = f"the service refused it ({answer.status_code}): {answer.text[:500]}"
        raise PolicyError([Problem(url, 0, 0, "", said)])
    return {"pushed": url, "answer": answer.status_code, **({} if model is None else {"model": model})}


def _ask(method: str, url: str, content: bytes | None = None, query: str = "") -> Any:
    headers = {} if content is None else {"Content-Type": "application/json"}
    return ask(method, url.rstrip("/"), f"/v1/policies{query}", content=content, headers=headers)


def _rows(worker: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a worker, or one for each of its models."""
    if "models" not in worker:
        return [_row(worker)]
    return [{"model": name, **_row({**worker, **own})} for name, own in worker["models"].items()]


def _row(worker: Mapping[str, Any]) -> dict[str, Any]:
    policy = worker.get("policy") or {}
    bundle = policy.get("bundle") or {}
    return {
        "worker": worker.get("worker"),
        "state": worker.get("state"),
        "source": policy.get("source"),
        "generation": policy.get("generation"),
        "bundle": f"{bundle['name']} {bundle['sequence']}" if bundle else None,
        "digest": policy.get("digest"),
        "problems": "; ".join(_placed(p) for p in policy.get("problems", ())) or None,
    }


def _placed(problem: Mapping[str, Any]) -> str:
    """A problem with its file and line, as far as the service tells them."""
    place = ":".join(str(problem[part]) for part in ("file", "line", "column") if problem.get(part))
    return f"{place}: {problem['message']}" if place else str(problem["message"])


def _write(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically."""
    import os

    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(path)
    except OSError as error:
        fail(f"`{path}` cannot be written: {error.strerror or error}")
