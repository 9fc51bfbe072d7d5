"""Code that the policy commands share: policy loaders, prompts from a file, and error output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from palimpsest.cli.shared.console import emit, fail, say

if TYPE_CHECKING:
    from policies import Loader, PolicyError, Request, Snapshot, TrustedKey
    from service.settings import Settings

__all__ = ["existing", "keys_of", "load", "loader_for", "refuse", "requests_from", "settings_of"]


def settings_of() -> Settings:
    """The settings from the environment. An invalid setting ends the command with an error."""
    from service.settings import SettingsError, load_settings

    try:
        return load_settings().settings
    except SettingsError as error:
        fail(str(error))


def keys_of(given: Sequence[str]) -> tuple[TrustedKey, ...]:
    """The trusted keys: those `given`, else those of the settings."""
    from policies import KeyProblem, trusted_keys

    try:
        return trusted_keys(given or settings_of().policy_keys)
    except KeyProblem as error:
        fail(str(error))


def existing(*policies: str) -> tuple[Path, ...]:
    """The paths that `policies` name. All of them exist."""
    from palimpsest_base.suggest import did_you_mean
    from policies import policy_paths
    from service.rules.policy_store import NAMED

    if not all(each.strip() for each in policies):
        fail("policy must be `shipped`, `none`, a file, a folder or a bundle, got an empty name")
    try:
        paths = policy_paths(*policies)
    except ValueError as error:
        fail(str(error))
    for path in paths:
        if not path.exists():
            said = f"got `{path}`, which does not exist{did_you_mean(str(path), NAMED, list_all=False)}"
            fail(f"policy must be `shipped`, `none`, a file, a folder or a bundle, {said}")
    return paths


def loader_for(
    paths: Sequence[Path], *, keys: Sequence[str] = (), verify: bool = True, floor: bool | None = None
) -> Loader:
    """A loader for inspecting `paths`. Bundles are verified unless `verify` is false; plain files need no signature.

    `floor` None is the settings'.
    """
    from policies import Loader
    from policies.store.sources import bundle_of
    from service.reading.detectors import Detectors
    from service.settings import SettingsError

    settings = settings_of()
    try:
        detectors = Detectors(settings)
        detections = [detectors.of(each.settings) for each in settings.served()]
    except SettingsError as error:
        fail(str(error))
    signed = bundle_of(list(paths), []) is not None
    if signed and not verify:
        say("warning: the signature was not looked at")
    trusted = keys_of(keys) if signed and verify else ()
    # any key works, because no canary is drawn here
    return Loader(
        detections[0].sense,
        reads=frozenset().union(*(each.reads for each in detections)),
        canary_key=b"command line",
        keys=trusted,
        verify=verify,
        floor=settings.floor if floor is None else floor,
    )


def load(
    policy: str, *, keys: Sequence[str] = (), verify: bool = True, floor: bool | None = None
) -> tuple[Snapshot, Loader]:
    """The snapshot of `policy`, without running its tests, and its loader. Invalid policies end the command with an
    error.
    """
    from policies import PolicyError

    paths = existing(policy)
    loader = loader_for(paths, keys=keys, verify=verify, floor=floor)
    try:
        return loader.load_untested(paths), loader
    except PolicyError as error:
        fail(str(error))


def refuse(error: PolicyError, *, as_json: bool) -> NoReturn:
    """Prints the problems of policies and exits with code 1."""
    if as_json:
        print(json.dumps({"valid": False, "codes": list(error.codes), **error.to_dict()}, indent=1))
    else:
        emit(error)
    raise typer.Exit(1)


def requests_from(file: Path, *, tenant: str = "", now: datetime | None = None, strikes: int = 0) -> Iterator[Request]:
    """One request per line of `file` (`-`: standard input): a prompt, or a JSON object with `prompt` and others."""
    from policies import Strikes, parse_requests

    if str(file) != "-" and not file.is_file():
        fail(f"no file `{file}`")
    with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as lines:
        try:
            at, known = now or datetime.now(UTC), Strikes.of(strikes)
            yield from parse_requests(lines, tenant=tenant, now=at, strikes=known)
        except ValueError as error:
            fail(str(error))
