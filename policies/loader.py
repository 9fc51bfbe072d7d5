"""Reads policy files into a snapshot, or says everything that is wrong with them.

Parsing, validating, compiling and testing are separate steps, and a file is live only after all four: what reaches
`decide` is known to be well-formed, to name lists that exist, to ask for nothing that cannot be honoured, and to pass
its own tests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import ValidationError

from policies.model import PolicyModel
from policies.problems import PolicyError, Problem
from policies.review import review
from policies.snapshot import Snapshot, compile_snapshot
from policies.strict_yaml import Marks, parse_yaml
from policies.testing import run_tests
from policies.types import Request, Signals
from policies.validation import problems_of

__all__ = ["SHIPPED", "Document", "Loader", "Sense", "fingerprint", "no_policy", "policy_paths"]

SHIPPED = Path(__file__).parent / "shipped"
Sense = Callable[[Request], Signals]

_SUFFIXES = (".yaml", ".yml")
_LIST_BYTES = 16 << 20
_LIST_ENTRIES = 200_000
_RACY_SECONDS = 2.0  # a file written this lately may change again without its time stamp moving


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed policy file: its model, the entries of its lists, and where everything stands in it."""

    file: str
    model: PolicyModel
    marks: Marks
    words: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads snapshots; knows what the policies must be checked against.

    `sense` turns a request into signals (the service passes `detectors.text.sense`); tests in files run with it, and
    concepts that it does not cover are errors. `reads`, if given, are the names that picture detectors can read.
    `canary_key` draws canaries.
    """

    sense: Sense
    reads: frozenset[str] | None = None
    canary_key: bytes | None = None

    def load(self, paths: str | Path | Sequence[str | Path]) -> Snapshot:
        """The snapshot of all policy files in `paths` (files and folders), its tests passed; raises `PolicyError`."""
        documents = self._reviewed(paths)
        snapshot = self._compile(documents)
        failed = [r for r in run_tests(snapshot, self.sense) if not r.passed]
        if failed:
            raise PolicyError(_failure(r.policy, r.index, r.name, r.message, documents) for r in failed)
        return snapshot

    def load_untested(self, paths: str | Path | Sequence[str | Path]) -> Snapshot:
        """The snapshot of `paths`, checked but with its tests not run: to show how they come out, never to serve."""
        return self._compile(self._reviewed(paths))

    def _reviewed(self, paths: str | Path | Sequence[str | Path]) -> tuple[Document, ...]:
        documents = self.parse(paths)
        problems = list(review(documents, self.sense, reads=self.reads, canaries=self.canary_key is not None))
        if problems:
            raise PolicyError(problems)
        return documents

    def parse(self, paths: str | Path | Sequence[str | Path]) -> tuple[Document, ...]:
        """The documents of `paths`, validated one by one but not against each other.

        Raises `PolicyError` with all problems.
        """
        documents: list[Document] = []
        problems: list[Problem] = []
        for path in _files(paths, problems):
            document = _parse_file(path, problems)
            if document is not None:
                documents.append(document)
        if problems:
            raise PolicyError(problems)
        return tuple(documents)

    def _compile(self, documents: Iterable[Document]) -> Snapshot:
        documents = tuple(documents)
        words = {f"{d.model.name}/{name}": entries for d in documents for name, entries in d.words.items()}
        return compile_snapshot((d.model for d in documents), words, canary_key=self.canary_key)


def policy_paths(setting: str) -> tuple[Path, ...]:
    """The paths meant by a setting: `shipped`, `none` (no path at all, so an empty snapshot), or a file or folder."""
    return {"shipped": (SHIPPED,), "none": ()}.get(setting, (Path(setting),))


def no_policy() -> Snapshot:
    """The snapshot without any rule: everything is allowed, nothing is read."""
    return compile_snapshot((), {})


def fingerprint(paths: str | Path | Sequence[str | Path]) -> str:
    """A word that changes when any policy or list file of `paths` does; cheap enough to ask twice a second.

    Made of names, sizes, times and inodes, and of the content where a file is so young that its time may not move
    again.
    """
    digest = sha256()
    for path in _watched(paths):
        try:
            stat = path.stat()
            digest.update(
                f"{path}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}\n".encode("utf-8", "surrogateescape")
            )
            if time.time() - stat.st_mtime < _RACY_SECONDS and stat.st_size <= _LIST_BYTES:
                digest.update(path.read_bytes())
        except OSError as error:
            digest.update(f"{path}|{error.errno}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _as_paths(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]


def _watched(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Every file that may matter: those of a folder and below it, and for a single file what stands beside and below
    it."""
    found: set[Path] = set()
    for path in _as_paths(paths):
        folder = path if path.is_dir() else path.parent
        for root, folders, files in os.walk(folder):
            folders[:] = [f for f in folders if not f.startswith(".")]
            found.update(Path(root) / f for f in files if f.endswith((*_SUFFIXES, ".txt")))
        found.add(path)
    return sorted(found)


def _files(paths: str | Path | Sequence[str | Path], problems: list[Problem]) -> list[Path]:
    found: list[Path] = []
    for path in _as_paths(paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES and not p.name.startswith("."))
            if not inside:
                problems.append(Problem(str(path), 0, 0, "", "the folder holds no policy (*.yaml)"))
            found += inside
        elif not path.exists():
            problems.append(Problem(str(path), 0, 0, "", "no such file or folder"))
        elif path.suffix not in _SUFFIXES:
            problems.append(
                Problem(
                    str(path),
                    0,
                    0,
                    "",
                    "not a policy file: signed bundles are not supported yet; pass a .yaml file or a folder",
                )
            )
        else:
            found.append(path)
    return found


def _parse_file(path: Path, problems: list[Problem]) -> Document | None:
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(str(path), 0, 0, "", f"cannot be read: {error}"))
        return None
    value, marks, found = parse_yaml(text, file=str(path))
    problems += found
    if found:
        return None
    try:
        model = PolicyModel.model_validate(value)
    except ValidationError as error:
        problems += problems_of(error, value, marks, file=str(path))
        return None
    words = _lists(model, path, marks, problems)
    return Document(str(path), model, marks, words)


def _lists(model: PolicyModel, path: Path, marks: Marks, problems: list[Problem]) -> dict[str, tuple[str, ...]]:
    words: dict[str, tuple[str, ...]] = {}
    for name, entry in model.lists.items():
        if entry.values is not None:
            words[name] = tuple(entry.values)
            continue
        assert entry.file is not None
        try:
            words[name] = _list_file(path.parent, entry.file)
        except (OSError, ValueError) as error:
            line, column = marks.get(("lists", name, "file"), (0, 0))
            problems.append(Problem(str(path), line, column, f"lists.{name}.file", f"`{entry.file}`: {error}"))
    return words


def _list_file(folder: Path, name: str) -> tuple[str, ...]:
    """The entries of a list file, one a line; `#` at the start of a line, or after a blank, starts a comment."""
    path = (folder / name).resolve()
    if Path(name).is_absolute() or not path.is_relative_to(folder.resolve()):
        raise ValueError("a list must stand in the policy's folder or below it")
    if not path.is_file():
        raise ValueError("no such list file")
    if path.stat().st_size > _LIST_BYTES:
        raise ValueError(f"a list may have {_LIST_BYTES} bytes at most")
    lines = path.read_bytes().decode("utf-8-sig").splitlines()
    entries = [line.partition(" #")[0].strip() for line in lines if not line.lstrip().startswith("#")]
    kept = tuple(e for e in entries if e)
    if not kept:
        raise ValueError("the list is empty")
    if len(kept) > _LIST_ENTRIES:
        raise ValueError(f"a list may have {_LIST_ENTRIES} entries at most, got {len(kept)}")
    return kept


def _failure(policy: str, index: int, name: str, message: str, documents: Sequence[Document]) -> Problem:
    document = next(d for d in documents if d.model.name == policy)
    line, column = document.marks.get(("tests", index), (0, 0))
    return Problem(document.file, line, column, f"tests[{index}]", f"test `{name}` fails: {message}")
