"""The heads of audit files: how far each file goes, kept outside of the log's own folder.

Each audit file has one head: a small file of fixed size with a MAC, written over in place after each record, so that a
full disk does not stop it. Its process holds a lock on it, which the operating system takes away when the process ends,
however it ends. So a file that is gone or cut off is noticed, and a running worker's file is told from a killed one's.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palimpsest_base.files import read_file
from service.audit.keys import GENESIS, AuditKeys, canonical

__all__ = ["Head", "HeadWriter", "heads_of", "read_head"]

_SIZE = 512
_SUFFIX = ".head"


@dataclass(frozen=True, slots=True)
class Head:
    """How far a file goes: the number of its records, the MAC of the last one, and whether it was closed. `alive` tells
    that its process runs.
    """

    file: str
    records: int
    mac: str
    closed: bool
    alive: bool


def heads_of(folder: Path) -> Path:
    """Where the heads of the log in `folder` are: beside it."""
    return folder.with_name(f"{folder.name}-heads")


class HeadWriter:
    """The head of one file, in the folder `heads`. Raises `OSError` if it cannot be written."""

    def __init__(self, heads: Path, keys: AuditKeys, file: str, run: str) -> None:
        heads.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._keys = keys
        self._about: Mapping[str, Any] = {"v": 1, "file": file, "run": run, "key": keys.id}
        self._path = heads / f"{file}{_SUFFIX}"
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(handle, "r+b", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.write(0, GENESIS)

    def write(self, records: int, mac: str, *, closed: bool = False) -> None:
        """Tells that the file has `records` records, and the MAC of the last one."""
        line = {**self._about, "records": records, "last": mac, "closed": closed}
        text = canonical({**line, "mac": self._keys.mac(line)})
        os.pwrite(self._file.fileno(), text.ljust(_SIZE - 1) + b"\n", 0)

    def close(self) -> None:
        """Ends the lock: the process writes no more."""
        self._file.close()

    def remove(self) -> None:
        """Takes the head back, as that of a file that never came into use."""
        self.close()
        self._path.unlink(missing_ok=True)


def read_head(path: Path, keys: AuditKeys) -> Head:
    """The head in a file. Raises `ValueError` if it is no head, was changed, or is of another key."""
    try:
        line = json.loads(read_file(path, _SIZE))
        mac, key = line.pop("mac"), line["key"]
        head = Head(line["file"], int(line["records"]), line["last"], bool(line["closed"]), _locked(path))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise ValueError("is not a head of an audit file") from None
    if not hmac.compare_digest(keys.mac(line), str(mac)) or path.name != f"{head.file}{_SUFFIX}":
        other = key != keys.id
        raise ValueError(f"was made under the key `{key}`, not `{keys.id}`" if other else "was changed or renamed")
    return head


def _locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
