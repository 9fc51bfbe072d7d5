"""Makes policy loaders and stores from the settings.

The loader of the command line checks policies without a model. The loader of a worker also checks them against its host
and packs. A worker remembers in the state folder which policies it used last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml

from palimpsest_base.suggest import did_you_mean
from policies import (
    SHIPPED,
    KeyProblem,
    Loader,
    PolicyError,
    Snapshot,
    Store,
    StoreState,
    TrustedKey,
    diff,
    policy_paths,
    trusted_keys,
)
from service.audit import AuditKeys
from service.reading.detectors import Detection
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from service.rules.support import PackIndex

__all__ = ["NAMED", "about", "check_policies", "follow", "make_loader", "public_note", "served_paths", "told_change"]
__all__ += ["trusted"]

NAMED = ("shipped", "none")  # policies that are no paths
_SHOWN = 20  # changes that one line names
log = logging.getLogger("bentoml.palimpsest.policies")


@contextmanager
def about(model: str | None) -> Iterator[None]:
    """Puts the name of a model of the table before mistakes in what is given for it. Raises `SettingsError`."""
    try:
        yield
    except (SettingsError, PolicyError) as error:
        if model is None:
            raise
        raise SettingsError(f"`models.{model}`: {error}") from error


def trusted(settings: Settings) -> tuple[TrustedKey, ...]:
    """The trusted public keys for bundles. Raises `SettingsError` for a key that cannot be read."""
    try:
        return trusted_keys(settings.policy_keys)
    except KeyProblem as error:
        raise SettingsError(f"`policy_keys`: {error}") from None


def make_loader(
    settings: Settings,
    detection: Detection,
    keys: AuditKeys,
    *,
    host: str | None = None,
    packs: PackIndex | None = None,
    others: Collection[str] = (),
) -> Loader:
    """The policy loader for these settings. With `host` and `packs` it also checks policies against the model.
    Policies that are made for `others`, the models beside it, are left out.
    """
    loader = Loader(
        detection.sense,
        reads=detection.reads,
        canary_key=keys.canary,
        keys=trusted(settings),
        floor=settings.floor,
    )
    if host is not None:
        loader = loader.for_host(host, None if packs is None else packs.why_missing_now, others=others)
    return loader


def served_paths(settings: Settings, reads: Collection[str]) -> tuple[Path, ...]:
    """The policies to serve, given the names that pictures can be read for (`reads`).

    Shipped policies that need other names are left out: the embedded judge covers pictures of the embedded models only.
    Raises `SettingsError`.
    """
    try:
        paths = policy_paths(*settings.policy)
    except ValueError as error:
        raise SettingsError(f"`policy`: {error}") from None
    if SHIPPED not in paths:
        return paths
    files = sorted(SHIPPED.glob("*.yaml"))
    fit = tuple(file for file in files if _looks_for(file) <= set(reads))
    if len(fit) == len(files):
        return paths
    return tuple(file for path in paths for file in (fit if path == SHIPPED else (path,)))


def _looks_for(policy: Path) -> set[str]:
    needs = yaml.safe_load(policy.read_text("utf-8")).get("requires", {})
    return set(needs.get("detectors", {}).get("picture", ()))


def check_policies(
    settings: Settings, detection: Detection, keys: AuditKeys, *, host: str | None = None, others: Collection[str] = ()
) -> None:
    """Checks that the policies load, or that the last good ones can be used instead. Raises `PolicyError`. `host` is
    the model's name in the table `models`, and `others` are all names there.

    A mistyped policy file stops the start. A broken bundle does not stop a restart if the last good bundle is
    remembered.
    """
    for each in settings.policy if not settings.policy_keys else ():
        if not Path(each).exists() and each not in NAMED and (near := did_you_mean(each, NAMED, list_all=False)):
            raise SettingsError(f"`policy`: no such file or folder `{each}`{near}")
    paths = served_paths(settings, detection.reads)
    if "shipped" in settings.policy and (left := sorted({p.stem for p in SHIPPED.glob("*.yaml")} - _names(paths))):
        log.warning(
            "shipped policies left out: %s; no classifier can check pictures of `%s` for what they erase. Set"
            " `judge` to a classifier and `policy` to a policy of your own",
            ", ".join(left),
            settings.model,
        )
    loader = make_loader(settings, detection, keys, host=host, others=others)
    try:
        loader.load(paths)
    except PolicyError as error:
        if not settings.policy_keys:
            raise
        # raises the same when nothing is remembered
        store = Store(loader, paths, keep=_memory(settings, host), expired=settings.start_expired)
        log.error("policies could not be loaded; using the last good ones, %s: %s", store.state.digest, error)


def _names(paths: Collection[Path]) -> set[str]:
    return {file.stem for path in paths for file in (path.glob("*.yaml") if path.is_dir() else (path,))}


def follow(
    settings: Settings,
    detection: Detection,
    loader: Loader,
    *,
    accept: Callable[[Snapshot], Sequence[str]],
    on_reload: Callable[[StoreState], None],
    on_poll: Callable[[], None],
    model: str | None = None,
) -> Store:
    """The policy store of a model, which polls for changes. `accept` returns the reasons why a snapshot must be
    refused. `model` is its name in the table `models`.
    """
    return Store(
        loader,
        served_paths(settings, detection.reads),
        interval=settings.policy_poll_seconds,
        accept=accept,
        on_reload=on_reload,
        on_poll=on_poll,
        keep=_memory(settings, model),
        expired=settings.start_expired,
    )


def public_note(state: StoreState, snapshot: Snapshot) -> dict[str, Any]:
    """The store's state without local paths, and where the floor of the policies in use comes from."""
    origin = state.origin
    bundle = (
        {
            "name": origin.name,
            "sequence": origin.sequence,
            "digest": origin.digest,
            "created": _stamp(origin.created),
            "not_after": _stamp(origin.not_after),
            "key": origin.key,
        }
        if origin
        else None
    )
    problems = [asdict(p) | {"file": Path(p.file).name} for p in state.last_problems]
    return {
        "digest": state.digest,
        "generation": state.generation,
        "loaded_at": _stamp(state.loaded_at),
        "source": state.source,
        "floor": snapshot.floor,
        "bundle": bundle,
        "failed_at": _stamp(state.failed_at) if state.failed_at else None,
        "problems": problems,
    }


def told_change(state: StoreState, old: Snapshot | None, new: Snapshot) -> str:
    """One line on policies that came into use: their digest, who signed them, and the rules and lists that differ from
    `old`. Words of lists stay out of logs.
    """
    signed = f", signed with {state.origin.key}" if state.origin else ""
    changes = () if old is None else diff(old, new)
    if not changes:
        return f"now {state.digest}{signed}"
    looser = {(c.where, c.name) for c in changes if c.loosens}
    names = dict.fromkeys((c.where, c.name) for c in changes)
    shown = [f"{where} `{name}`" + (" (may be milder)" if (where, name) in looser else "") for where, name in names]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"now {state.digest}{signed}; changed: {', '.join(shown[:_SHOWN])}{more}"


def _stamp(moment: Any) -> str:
    return str(moment.isoformat(timespec="milliseconds"))


def _memory(settings: Settings, model: str | None) -> Path:
    """Where the last good policies are kept: those of models of a table apart, since one may refuse what another
    accepts.
    """
    folder = settings.state_folder / "policies"
    return folder if model is None else folder / quote(model, safe="")
