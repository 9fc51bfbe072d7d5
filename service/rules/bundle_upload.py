"""Takes signed bundles over HTTP and writes them where the workers look for policies.

A bundle first passes every check that a worker would make: signature, host, sequence, its own tests, packs. Only then
it replaces the file. The workers find it by polling and check it again. So a refused bundle was never in the folder. An
accepted one is in use within the polling interval, or `GET /v1/policies` says which worker refused it and why.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from policies import Loader, Origin, PolicyError, Snapshot, Store, open_bundle
from policies.store.diff import floor_losses
from service.errors import ApiError, BadRequest, Conflict, Forbidden

__all__ = ["BundleUpload", "bundle_place"]

_SHOWN = 20
_UNTRUSTED = frozenset(("signature", "unsigned"))


def bundle_place(policy: str) -> Path | None:
    """The folder or file in which a service looks for bundles; None when its policies are not replaced by writing."""
    path = Path(policy)
    if policy in ("shipped", "none") or not (path.is_dir() or path.suffix == ".bundle"):
        return None
    return path


@dataclass(frozen=True, slots=True)
class BundleUpload:
    """Checks bundles against one worker's model, packs and policies in use. `place` None: policies are read-only."""

    place: Path | None
    loader: Loader
    store: Store
    accept: Callable[[Snapshot], Sequence[str]]

    def take(self, content: bytes) -> dict[str, Any]:
        """What was taken, once it stands in its place. Raises `Forbidden`, `Conflict` or `BadRequest`."""
        if self.place is None or not self.loader.keys:
            raise Forbidden(
                "policies are read-only here: the service follows no bundle, or trusts no key that signs them",
                code="policies_read_only",
            )
        snapshot = self._checked(content)
        assert snapshot.origin is not None  # INVARIANT: only bundles are loaded here
        changed = self._put(content, self.place, snapshot.origin)
        origin = snapshot.origin
        return {
            "object": "policy.bundle",
            "digest": snapshot.digest,
            "bundle": {"name": origin.name, "sequence": origin.sequence, "digest": origin.digest},
            "changed": changed,
        }

    def _checked(self, content: bytes) -> Snapshot:
        """The snapshot of a bundle that may be used here."""
        with tempfile.TemporaryDirectory(prefix="palimpsest-bundle-") as folder:
            sent = Path(folder) / "sent.bundle"
            sent.write_bytes(content)
            try:
                snapshot = self.loader.load(sent)
            except PolicyError as error:
                raise _refusal(error, folder) from None
        _not_older(snapshot.origin, self.store.state.origin)
        losses = [*floor_losses(self.store.snapshot, snapshot), *self.accept(snapshot)]
        if losses:
            raise BadRequest("; ".join(losses[:_SHOWN]), code="invalid_bundle")
        return snapshot

    def _put(self, content: bytes, place: Path, origin: Origin) -> bool:
        """Whether the file changed; it is replaced at once, and never by what is older than it."""
        with _locked(place if place.is_dir() else place.parent):
            target = _target(place, origin.name)
            if target.exists():
                if target.read_bytes() == content:
                    return False
                _not_older(origin, _standing(target))
            fresh = target.with_name(f".{target.name}.{os.getpid()}")
            with fresh.open("wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            fresh.replace(target)
        return True


def _target(place: Path, name: str) -> Path:
    """The bundle that stands in a folder, or a new one of this name: a service follows one."""
    if not place.is_dir():
        return place
    there = sorted(place.glob("*.bundle"))
    return there[0] if len(there) == 1 else place / f"{name}.bundle"


def _standing(target: Path) -> Origin | None:
    try:
        return open_bundle(target.read_bytes(), label=target.name, keys=None, now=datetime.now(UTC), in_use=True).origin
    except PolicyError:
        return None  # what cannot be read is worth nothing


def _not_older(new: Origin | None, old: Origin | None) -> None:
    """Nothing, when `new` may follow `old`. Raises `Conflict`."""
    if new is None or old is None or new.digest == old.digest:
        return
    if new.name != old.name:
        raise Conflict(f"it is a bundle of the set `{new.name}`, and `{old.name}` is in use", code="other_set")
    if new.sequence <= old.sequence:
        raise Conflict(
            f"its sequence number is {new.sequence}, and {old.sequence} is in use already", code="bundle_replayed"
        )


def _refusal(error: PolicyError, folder: str) -> ApiError:
    """What the sender of a bad bundle learns: all that is wrong with it, and no path of this machine."""
    codes = set(error.codes)
    if codes & _UNTRUSTED:
        return Forbidden("the bundle is not signed by a key that is trusted here", code="untrusted_bundle")
    lines = str(error).replace(f"{folder}/", "").splitlines()
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return BadRequest("; ".join(lines[:_SHOWN]) + more, code="invalid_bundle")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, so that of two bundles sent at once the newer one stays."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
