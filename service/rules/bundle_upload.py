"""Accepts signed policy bundles over HTTP, and stores them where the workers look for policies.

A bundle must pass every check of a worker (signature, host, sequence, its own tests, packs) before it replaces the
file. The workers then find it by polling and check it again. So a refused bundle never reaches the folder. An accepted
bundle is in use within the polling interval, unless a worker refuses it; `GET /v1/policies` shows this.
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

from palimpsest_base.files import read_file
from policies import Loader, Origin, PolicyError, Snapshot, Store, open_bundle
from policies.store.bundle import MAX_BUNDLE
from policies.store.diff import floor_losses
from service.errors import ApiError, BadRequest, Conflict, Forbidden

__all__ = ["BundleUpload", "bundle_place"]

_SHOWN = 20
_UNTRUSTED = frozenset(("signature", "unsigned"))


def bundle_place(policy: Sequence[str]) -> Path | None:
    """The folder or file in which a service looks for bundles. None if its policies cannot be replaced by an upload."""
    path = Path(policy[0])
    if len(policy) > 1 or policy[0] in ("shipped", "none") or not (path.is_dir() or path.suffix == ".bundle"):
        return None
    return path


@dataclass(frozen=True, slots=True)
class BundleUpload:
    """Checks bundles against the model, packs and policies of one worker. `place` None: policies are read-only."""

    place: Path | None
    loader: Loader
    store: Store
    accept: Callable[[Snapshot], Sequence[str]]

    def take(self, content: bytes) -> dict[str, Any]:
        """Stores a bundle and describes it. Raises `Forbidden`, `Conflict` or `BadRequest`."""
        if self.place is None or not self.loader.keys:
            raise Forbidden(
                "policies are read-only here: the service uses no bundle, or has no trusted signing key",
                code="policies_read_only",
            )
        snapshot = self.check(content)
        assert snapshot.origin is not None  # INVARIANT: only bundles are loaded here
        changed = self._put(content, self.place, snapshot.origin)
        origin = snapshot.origin
        return {
            "object": "policy.bundle",
            "digest": snapshot.digest,
            "bundle": {"name": origin.name, "sequence": origin.sequence, "digest": origin.digest},
            "changed": changed,
        }

    def check(self, content: bytes) -> Snapshot:
        """The snapshot of a bundle, if it may be used here. Raises `Forbidden`, `Conflict` or `BadRequest`."""
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
        """Replaces the file atomically unless the new bundle is older. Returns whether the file changed."""
        with _locked(place if place.is_dir() else place.parent):
            target = _target(place, origin.name)
            standing = _content(target)
            if standing == content:
                return False
            _not_older(origin, _origin(standing, target.name))
            fresh = target.with_name(f".{target.name}.{os.getpid()}")
            with fresh.open("wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            fresh.replace(target)
        return True


def _target(place: Path, name: str) -> Path:
    """The bundle in the folder, or the path of a new one with this name. A service uses one bundle."""
    if not place.is_dir():
        return place
    there = sorted(place.glob("*.bundle"))
    return there[0] if len(there) == 1 else place / f"{name}.bundle"


def _content(target: Path) -> bytes | None:
    try:
        return read_file(target, MAX_BUNDLE)
    except OSError:
        return None


def _origin(content: bytes | None, label: str) -> Origin | None:
    if content is None:
        return None
    try:
        return open_bundle(content, label=label, keys=None, now=datetime.now(UTC), in_use=True).origin
    except PolicyError:
        return None  # an unreadable file may be replaced


def _not_older(new: Origin | None, old: Origin | None) -> None:
    """Checks that `new` may replace `old`. Raises `Conflict`."""
    if new is None or old is None or new.digest == old.digest:
        return
    if new.name != old.name:
        raise Conflict(f"the bundle must belong to the set in use, `{old.name}`, got `{new.name}`", code="other_set")
    if new.sequence <= old.sequence:
        raise Conflict(
            f"the sequence number must be above {old.sequence}, which is in use, got {new.sequence}",
            code="bundle_replayed",
        )


def _refusal(error: PolicyError, folder: str) -> ApiError:
    """The error for the sender of a bad bundle: all problems, without local paths."""
    codes = set(error.codes)
    if codes & _UNTRUSTED:
        return Forbidden("the bundle is not signed by a trusted key", code="untrusted_bundle")
    lines = str(error).replace(f"{folder}/", "").splitlines()
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return BadRequest("; ".join(lines[:_SHOWN]) + more, code="invalid_bundle")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, so that the newer of two bundles sent at the same time wins."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
