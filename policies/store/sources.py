"""The sources of policies: files and folders on disk, and the files of a bundle, with one interface.

A source gives one policy file and, by name, the list files beside and below it. It never reads outside its folder.
"""

from __future__ import annotations

import os
import posixpath
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from palimpsest_base.files import read_file
from policies.problems import Problem
from policies.store.bundle import MAX_BUNDLE, SUFFIX

__all__ = ["SHIPPED", "DiskSource", "MemorySource", "Paths", "PolicySource", "bundle_of", "disk_sources"]
__all__ += ["SHIPPED_FLOOR", "FileWatcher", "memory_sources", "policy_paths"]

SHIPPED = Path(__file__).parent.parent / "shipped"
SHIPPED_FLOOR = SHIPPED / "floor.yaml"
Paths = str | Path | Sequence[str | Path]

POLICY_BYTES = 16 << 20
LIST_BYTES = 16 << 20
_SUFFIXES = (".yaml", ".yml")
_LIST = ".txt"
_RACY_SECONDS = 2.0  # a file this young may change again without a new time stamp


@dataclass(frozen=True, slots=True)
class DiskSource:
    """A policy file on disk; `label` is what problems call it."""

    path: Path

    @property
    def label(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    def read(self) -> bytes:
        return read_file(self.path, POLICY_BYTES)

    def fetch(self, name: str) -> bytes:
        """The list file `name`. Raises `ValueError` or `OSError`."""
        folder = self.path.parent
        path = (folder / name).resolve()
        if Path(name).is_absolute() or not path.is_relative_to(folder.resolve()):
            raise ValueError("a list file must be in the policy's folder or below it")
        if any(part.startswith(".") for part in Path(name).parts):
            raise ValueError("a list file must not be hidden, nor be in a hidden folder: changes there go unnoticed")
        if path.suffix != _LIST:
            raise ValueError(f"a list file must end in `{_LIST}`: changes of others go unnoticed")
        if not path.is_file():
            raise ValueError("no such list file")
        if path.stat().st_size > LIST_BYTES:
            raise ValueError(f"a list may have {LIST_BYTES} bytes at most")
        return read_file(path, LIST_BYTES)


@dataclass(frozen=True, slots=True)
class MemorySource:
    """A policy file among `files`, such as those of a bundle called `origin`."""

    origin: str
    path: str
    files: Mapping[str, bytes]

    @property
    def label(self) -> str:
        return f"{self.origin}:{self.path}"

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)

    def read(self) -> bytes:
        return self.files[self.path]

    def fetch(self, name: str) -> bytes:
        """The list file `name`. Raises `ValueError`."""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(self.path), name))
        if posixpath.isabs(name) or path.startswith("../"):
            raise ValueError("a list file must be in the policy's folder or below it")
        if path not in self.files:
            raise ValueError("no such list file")
        return self.files[path]


PolicySource = DiskSource | MemorySource


def policy_paths(*settings: str) -> tuple[Path, ...]:
    """The paths of settings: `shipped`, `none` (no path, so an empty snapshot), files, folders or a bundle.

    Raises `ValueError` for `none` beside others.
    """
    if "none" in settings and len(settings) > 1:
        others = ", ".join(f"`{s}`" for s in settings if s != "none") or "`none` again"
        raise ValueError(f"`none` must be the only policy, got {others} beside it")
    named: dict[str, tuple[Path, ...]] = {"shipped": (SHIPPED,), "none": ()}
    return tuple(path for setting in settings for path in named.get(setting, (Path(setting),)))


def bundle_of(paths: Paths, problems: list[Problem]) -> Path | None:
    """The bundle among `paths`, or in the one folder that they name; None when they hold plain files."""
    found = [b for p in _as_paths(paths) for b in _bundles(p)]
    if not found:
        return None
    if len(found) > 1:
        problems.append(_unreadable(found[1], f"there is also {found[0]}; a service follows one bundle at a time"))
    others = [p for p in _as_paths(paths) if p not in found and (not p.is_dir() or _policies(p))]
    if others:
        said = f"there are policy files beside the bundle {found[0]}; keep only one of the two"
        problems.append(_unreadable(others[0], said))
    return found[0]


def disk_sources(paths: Paths, problems: list[Problem]) -> list[DiskSource]:
    """One source for each policy file of `paths`; any other path adds a problem."""
    found: list[DiskSource] = []
    for path in _as_paths(paths):
        if path.is_dir():
            inside = _policies(path)
            if not inside:
                problems.append(_unreadable(path, "the folder holds no policy (*.yaml) and no bundle"))
            found += map(DiskSource, inside)
        elif not path.exists():
            problems.append(_unreadable(path, "no such file or folder"))
        elif path.suffix not in _SUFFIXES:
            said = "not a policy file; pass a .yaml file, a signed .bundle, or a folder of one of them"
            problems.append(_unreadable(path, said))
        else:
            found.append(DiskSource(path))
    return found


def memory_sources(files: Mapping[str, bytes], origin: str) -> list[MemorySource]:
    """One source for each policy file of `files`."""
    return [MemorySource(origin, path, files) for path in sorted(files) if path.endswith(_SUFFIXES)]


class FileWatcher:
    """Detects changes of the policies, lists and bundles of `paths`, cheaply enough to ask twice a second.

    Links are followed anew each time, as Kubernetes swaps them: of files, of the folders in `paths`, and of folders
    below these as far as they stay inside, which is where lists are read from. A file is read again when its size, time
    stamp or inode changes. A file that was written less than two seconds ago is read every time, because it may change
    again within the resolution of its time stamp. What is no regular file is never opened.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def fingerprint(self) -> str:
        """A hash of all names and contents."""
        digest = sha256()
        for path in _watched(self._paths):
            digest.update(f"{path}|{self._content(path)}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _content(self, path: Path) -> str:
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                return "not a regular file"
            key = (found.st_size, found.st_mtime_ns, found.st_ino)
            known, content = self._known.get(path, (None, ""))
            if known != key or time.time() - found.st_mtime < _RACY_SECONDS:
                # a file that is too large is refused, so its content does not matter
                content = sha256(read_file(path, MAX_BUNDLE)).hexdigest() if found.st_size <= MAX_BUNDLE else repr(key)
                self._known[path] = (key, content)
            return content
        except OSError as error:
            return f"errno {error.errno}"


def _as_paths(paths: Paths) -> list[Path]:
    return [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]


def _watched(paths: Paths) -> list[Path]:
    """Every file that may matter: all below a folder, and for a single file all below the folder that holds it."""
    found: set[Path] = set()
    for path in _as_paths(paths):
        if path.suffix != SUFFIX:
            folder = path if path.is_dir() else path.parent
            for root, files in _walk(folder):
                kept = (f for f in files if f.endswith((*_SUFFIXES, _LIST, SUFFIX)) and not f.startswith("."))
                found.update(Path(root) / f for f in kept)
        found.add(path)
    return sorted(found)


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """As `os.walk`, without hidden folders, and with links to folders that stay inside of `folder`. Each folder is
    visited once, so links in a circle end.
    """
    top, visited = folder.resolve(), {folder.resolve()}
    for root, folders, files in os.walk(folder, followlinks=True):
        real = {name: (Path(root) / name).resolve() for name in folders if not name.startswith(".")}
        folders[:] = [n for n, place in real.items() if place.is_relative_to(top) and place not in visited]
        visited.update(real[n] for n in folders)
        yield root, files


def _policies(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and not p.name.startswith("."))


def _bundles(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix == SUFFIX and not p.name.startswith("."))
    return [path] if path.suffix == SUFFIX else []


def _unreadable(path: Path, message: str) -> Problem:
    return Problem(str(path), 0, 0, "", message, "unreadable")
