"""API keys: each has a name, scopes and an expiry, and is stored as a digest in a file that may change at any time.

A key is 256 random bits, so a plain SHA-256 digest is safe and fast to compare; slow hashes are for passwords that
people choose. Several keys with one name may be valid at once. To rotate a key, make a new one, move its users, then
revoke the old one. The name is the tenant that policies see. Keys in the settings (`api_keys`) have no name, never
expire, and may not write policies.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import os
import re
import secrets
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from palimpsest_base.files import read_file
from service.settings import SettingsError

__all__ = ["LOCAL", "NOBODY", "SCOPES", "Caller", "KeyRecord", "KeyRing", "Scope", "load_keys_file", "new_key"]
__all__ += ["digest_of_key", "revoke", "save_keys_file"]

Scope = Literal["generate", "policy:read", "policy:write", "metrics", "review", "console"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_FORMAT = "palimpsest.keys/v1"
_PLAIN: frozenset[Scope] = frozenset(("generate", "policy:read", "metrics"))
_MOST_BYTES = 16 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

log = logging.getLogger("bentoml.palimpsest.keys")


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: tenant name, scopes, and its own rate limit, if any."""

    name: str
    scopes: frozenset[Scope]
    per_minute: float | None = None


# a caller without a key, if the service requires none; writing policies always requires one
NOBODY = Caller("", _PLAIN)
# a caller without a key where only this machine can reach the service
LOCAL = Caller("", _PLAIN | {"review", "console"})


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key of a keys file. `per_minute` overrides the settings' rate limit. Without `expires` the key is valid until
    revoked. A key that has `revoked` opens nothing, whatever the clock says.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    sha256: str
    created: datetime
    expires: datetime | None = None
    per_minute: float | None = None
    revoked: datetime | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise ValueError(f"a key's id must be a string, got `{self.id}`")
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"a key's name must be lower-case letters, digits and `._-`, 64 at most, got `{self.name}`"
            )
        if unknown := sorted(self.scopes - set(SCOPES)):
            raise ValueError(f"unknown scope `{unknown[0]}`; known: {', '.join(SCOPES)}")
        if not self.scopes:
            raise ValueError(f"a key needs a scope; known: {', '.join(SCOPES)}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"the digest of key `{self.id}` must be 64 hexadecimal digits")
        for when in (self.created, self.expires, self.revoked):
            if when is not None and when.tzinfo is None:
                raise ValueError(f"the times of key `{self.id}` must have a time zone")
        if self.per_minute is not None and not 0 < self.per_minute < math.inf:
            raise ValueError(f"the rate of key `{self.id}` must be positive and finite, got `{self.per_minute:g}`")

    def opens(self, now: datetime) -> bool:
        """Whether the key is valid at this time."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    @property
    def caller(self) -> Caller:
        """The caller that this key identifies."""
        return Caller(self.name, self.scopes, self.per_minute)

    def to_dict(self) -> dict[str, Any]:
        """The record as stored in JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": sorted(self.scopes),
            "sha256": self.sha256,
            "created": self.created.isoformat(timespec="seconds"),
            "expires": self.expires.isoformat(timespec="seconds") if self.expires else None,
            "per_minute": self.per_minute,
            "revoked": self.revoked.isoformat(timespec="seconds") if self.revoked else None,
        }


def new_key(
    name: str,
    scopes: Collection[Scope],
    *,
    now: datetime,
    expires: datetime | None = None,
    per_minute: float | None = None,
) -> tuple[str, KeyRecord]:
    """A new key, to be shown once, and its record. Raises `ValueError`."""
    ident = secrets.token_hex(4)
    key = f"pk_{ident}_{secrets.token_urlsafe(32)}"
    return key, KeyRecord(ident, name, frozenset(scopes), _digest(key).hex(), now, expires, per_minute)


def load_keys_file(file: Path) -> tuple[KeyRecord, ...]:
    """The records of a file. Raises `SettingsError` if the file is missing or invalid."""
    try:
        values = json.loads(read_file(file, _MOST_BYTES))
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise ValueError(f"it must contain `format`: `{_FORMAT}`")
        records = tuple(map(_record, values["keys"]))
    except OSError as error:
        raise SettingsError(f"the keys file `{file}` cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(f"the keys file `{file}` is invalid: {error}") from None
    if len({r.id for r in records}) != len(records):
        raise SettingsError(f"the keys file `{file}` contains the same key id twice")
    return records


def save_keys_file(file: Path, records: Sequence[KeyRecord]) -> None:
    """Writes the records to `file`, or to where it leads as a link, atomically, readable by its owner only."""
    file = file.resolve()
    text = json.dumps({"format": _FORMAT, "keys": [r.to_dict() for r in records]}, indent=1) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    fresh.replace(file)


class KeyRing:
    """The valid keys of a service: those in the settings and those in `file`, which is checked before each use.

    Without any key source every caller is `NOBODY`, or `LOCAL` if only this machine can reach the service (`local`). If
    the file becomes unreadable, the last keys stay valid; a revocation needs a readable file.
    """

    def __init__(self, plain: Sequence[str] = (), file: Path | None = None, *, local: bool = False) -> None:
        self._plain = tuple(_digest(key) for key in plain)
        self._file = file
        self._nobody = LOCAL if local else NOBODY
        self._seen: tuple[int, int, int] | None = None
        self._records: tuple[KeyRecord, ...] = ()
        self._lock = threading.Lock()

    @property
    def asks(self) -> bool:
        """Whether callers need a key."""
        return bool(self._plain) or self._file is not None

    def find(self, authorization: str, *, now: datetime | None = None) -> Caller | None:
        """The caller for an `Authorization` header. None if a key is needed and no valid one is given.

        Takes the same time for every wrong key.
        """
        if not self.asks:
            return self._nobody
        scheme, _, key = authorization.partition(" ")
        got = _digest(key.strip())
        plain = sum(hmac.compare_digest(got, digest) for digest in self._plain)
        found = self.holder(got.hex(), now=now) or (NOBODY if plain else None)
        return found if scheme.lower() == "bearer" else None

    def holder(self, sha256: str, *, now: datetime | None = None) -> Caller | None:
        """The caller of the key in the file that has this digest, as long as the key is valid. A console's session
        remembers the digest only, so it ends with its key.
        """
        found, now = None, now or datetime.now(UTC)
        for record in self._live():
            if hmac.compare_digest(sha256, record.sha256) and record.opens(now):
                found = record.caller
        return found

    def offers(self, scope: Scope, *, now: datetime | None = None) -> bool:
        """Whether a valid key in the file has this scope."""
        now = now or datetime.now(UTC)
        return any(scope in r.scopes and r.opens(now) for r in self._live())

    def _live(self) -> tuple[KeyRecord, ...]:
        """The current records of the file."""
        if self._file is None:
            return ()
        try:
            stat = self._file.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            seen = (0, 0, 0)
        if seen != self._seen:
            with self._lock:
                self._reload(self._file)
                self._seen = seen
        return self._records

    def _reload(self, file: Path) -> None:
        try:
            self._records = load_keys_file(file)
            log.info("loaded %d API keys", len(self._records))
        except SettingsError as error:
            log.error("API keys could not be reloaded; the last %d stay valid: %s", len(self._records), error)


def digest_of_key(key: str) -> str:
    """The digest under which a keys file holds `key`."""
    return _digest(key).hex()


def revoke(records: Sequence[KeyRecord], ident: str, *, now: datetime) -> tuple[KeyRecord, ...]:
    """The records with the key `ident` revoked. Raises `ValueError` if there is no such key."""
    if ident not in {r.id for r in records}:
        raise ValueError(f"no key with the id `{ident}`")
    return tuple(replace(r, revoked=r.revoked or now) if r.id == ident else r for r in records)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _record(values: Any) -> KeyRecord:
    if not isinstance(values, dict):
        raise ValueError(f"each of `keys` must be an object, got `{str(values)[:64]}`")
    if unknown := sorted(set(values) - set(KeyRecord.__dataclass_fields__)):
        raise ValueError(f"unknown field `{unknown[0]}`")
    ends = {name: datetime.fromisoformat(values[name]) for name in ("expires", "revoked") if values.get(name)}
    return KeyRecord(
        **{
            **values,
            "scopes": frozenset(values["scopes"]),
            **dict.fromkeys(("expires", "revoked")),
            "created": datetime.fromisoformat(values["created"]),
            **ends,
        }
    )
