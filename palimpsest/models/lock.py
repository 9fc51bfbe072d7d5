"""The lock of a fetched model: which files it has, of which commit, with their digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LOCK", "Finding", "Lock", "LockError", "digests_of", "read_lock", "verify", "write_lock"]

LOCK = "palimpsest.lock.json"
_OWN = ("defaults.json",)  # what an operator may lay beside the files: call defaults
_CHUNK = 1 << 20


class LockError(ValueError):
    """A lock is missing or is none. The message is one line."""


@dataclass(frozen=True, slots=True)
class Lock:
    """What was fetched: the model, its commit, the variant of its weights, and of each file size and sha256."""

    model: str
    revision: str
    variant: str | None
    files: Mapping[str, tuple[int, str]]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())


@dataclass(frozen=True, slots=True)
class Finding:
    """A file that is not as the lock says: `missing`, `changed`, or `unknown` to it."""

    file: str
    what: str


def write_lock(folder: Path, lock: Lock) -> Path:
    """Writes the lock into a folder, whole or not at all, and returns its path."""
    files = [
        f"  {json.dumps(name)}: {json.dumps({'size': size, 'sha256': digest})}"
        for name, (size, digest) in sorted(lock.files.items())
    ]
    head = {"version": 1, "model": lock.model, "revision": lock.revision, "variant": lock.variant}
    text = json.dumps(head, indent=1)[:-2] + ',\n "files": {\n' + ",\n".join(files) + "\n }\n}\n"
    file = folder / LOCK
    fresh = file.with_suffix(".new")
    fresh.write_text(text, "utf-8")
    fresh.replace(file)
    return file


def read_lock(file: Path) -> Lock:
    """The lock in a file. Raises `LockError`."""
    try:
        told = json.loads(file.read_text("utf-8"))
        if told["version"] != 1:
            raise LockError(f"`{file}` must be of version 1, got `{told['version']}`")
        files = {str(name): (int(of["size"]), str(of["sha256"])) for name, of in told["files"].items()}
        return Lock(str(told["model"]), str(told["revision"]), told["variant"], files)
    except FileNotFoundError:
        raise LockError(f"no lock at `{file}`; `palimpsest models fetch` writes one") from None
    except LockError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LockError(f"`{file}` must be a lock of `palimpsest models fetch`: {error!r}") from None


def verify(folder: Path, lock: Lock) -> list[Finding]:
    """What in `folder` is not as the lock says, by file; empty: all is."""
    found = []
    for name, (size, digest) in sorted(lock.files.items()):
        file = folder / name
        if not file.is_file():
            found.append(Finding(name, "missing"))
        elif file.stat().st_size != size or digests_of(file)[0] != digest:
            found.append(Finding(name, "changed"))
    return found + [Finding(name, "unknown") for name in sorted(_names(folder)) if name not in lock.files]


def _names(folder: Path) -> Iterator[str]:
    """The files that a loader might read. Hidden ones are other tools', or parts of a download."""
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if file.is_file() and not hidden and name.as_posix() not in (LOCK, *_OWN):
            yield name.as_posix()


def digests_of(file: Path) -> tuple[str, str]:
    """The sha256 of a file's content, and the sha1 that git gives it."""
    whole, git = hashlib.sha256(), hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            whole.update(chunk)
            git.update(chunk)
    return whole.hexdigest(), git.hexdigest()
