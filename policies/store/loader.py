"""Loads policy files into a snapshot, or reports all their problems.

Parsing, validating, compiling and testing are separate steps, and a snapshot has passed all four: its files are
well-formed, every list and every signal that they name exists, and their own tests pass. A signed bundle is opened
first and then takes the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from palimpsest_base.files import read_file
from policies.decide.compiler import compile_snapshot
from policies.decide.example_tests import run_tests
from policies.decide.snapshot import Origin, Snapshot
from policies.format.model import FLOOR
from policies.problems import PolicyError, Problem
from policies.store.approvals import review_approvals
from policies.store.bundle import MAX_BUNDLE, SUFFIX, open_bundle
from policies.store.document import Document, parse_document
from policies.store.environment import Environment, covered_by, engine_version
from policies.store.keys import TrustedKey
from policies.store.review import review
from policies.store.sources import (
    SHIPPED,
    SHIPPED_FLOOR,
    DiskSource,
    Paths,
    PolicySource,
    bundle_of,
    disk_sources,
    memory_sources,
    policy_paths,
)
from policies.types import Request, Signals

__all__ = ["SHIPPED", "LoadedPolicies", "Loader", "Sense", "no_policy", "policy_paths"]

Sense = Callable[[Request], Signals]


@dataclass(frozen=True, slots=True)
class LoadedPolicies:
    """A snapshot and what it was made of: the documents, and their files under the number of each, or one bundle.

    A floor that the loader added is neither among the documents nor among the files.
    """

    snapshot: Snapshot
    documents: tuple[Document, ...]
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads snapshots, and holds everything that policies are checked against.

    `sense` turns a request into signals (the service passes `detectors.text.sense`). The tests in policy files run
    with it, and a concept that it does not cover is an error. `reads`, if given, are the names that picture detectors
    can read. `canary_key` draws canaries. `host` is the model's name; `packs` returns why the model has no pack of a
    concept, or None when it has one (see `for_host`). With `keys`, the loader accepts only bundles that one of them
    has signed, and the policies of this package. With `verify` False it opens bundles without checking signatures;
    use that to show them, never to serve them. With `floor`, the shipped policy `floor` is added to policies that have
    none of that name, without its tests: they are about its own words. A policy that is made for some of `others`, the
    models that are served beside `host`, and not for `host` is left out; for a model that nobody serves it is an error.
    """

    sense: Sense
    reads: frozenset[str] | None = None
    canary_key: bytes | None = None
    keys: tuple[TrustedKey, ...] = ()
    host: str | None = None
    packs: Callable[[str], str | None] | None = None
    engine: str = field(default_factory=engine_version)
    verify: bool = True
    floor: bool = False
    others: frozenset[str] = frozenset()

    def for_host(self, host: str, packs: Callable[[str], str | None] | None, *, others: Collection[str] = ()) -> Loader:
        """The same loader for policies that will steer the model `host`, which has `packs`, beside `others`."""
        return replace(self, host=host, packs=packs, others=frozenset(others) - {host})

    def load(self, paths: Paths, *, now: datetime | None = None) -> Snapshot:
        """The snapshot of all policy files in `paths` (files and folders), its tests passed; raises `PolicyError`.

        `now` is the time that a bundle's end is compared with; by default the clock's.
        """
        return self.load_files(paths, now=now).snapshot

    def load_untested(self, paths: Paths, *, now: datetime | None = None) -> Snapshot:
        """The snapshot of `paths`, checked, with its tests not run; use it to show test results, never to serve."""
        return self._compile(*self._reviewed(*self._sources(paths, now)))

    def load_files(self, paths: Paths, *, now: datetime | None = None, ended: bool = False) -> LoadedPolicies:
        """As `load`, with the files that were read. With `ended`, a bundle may have expired."""
        sources, origin, problems, bundle = self._opened(paths, now, ended=ended)
        documents, added, origin = self._reviewed(sources, origin, problems)
        files = bundle or {f"{i}/{n}": c for i, d in enumerate(documents) for n, c in d.files.items()}
        return LoadedPolicies(self._tested(documents, added, origin), documents, files)

    def load_kept(self, files: Mapping[str, bytes], *, label: str) -> Snapshot:
        """The snapshot of files that were in use before, as in `LoadedPolicies.files`.

        A bundle may have expired since.
        """
        bundles = [name for name in files if name.endswith(SUFFIX)]
        if not bundles and self.keys:
            said = "policies must be signed, because trusted keys are configured; these are not signed"
            raise PolicyError([Problem(label, 0, 0, "", said, "unsigned")])
        if not bundles:
            return self._tested(*self._reviewed(memory_sources(files, label), None, []))
        keys = self.keys if self.verify else None
        bundle = open_bundle(
            files[bundles[0]], label=label, keys=keys, now=datetime.now(UTC), host=self.host, in_use=True
        )
        return self._tested(*self._reviewed(memory_sources(bundle.files, label), bundle.origin, []))

    def parse(self, paths: Paths) -> tuple[Document, ...]:
        """The documents of `paths`, validated one by one but not against each other.

        Raises `PolicyError` with all problems.
        """
        sources, _, problems = self._sources(paths, None)
        documents = [d for s in sources if (d := parse_document(s, problems)) is not None]
        if problems:
            raise PolicyError(problems)
        return tuple(documents)

    def _sources(
        self, paths: Paths, now: datetime | None
    ) -> tuple[Sequence[PolicySource], Origin | None, list[Problem]]:
        sources, origin, problems, _ = self._opened(paths, now)
        return sources, origin, problems

    def _opened(
        self, paths: Paths, now: datetime | None, *, ended: bool = False
    ) -> tuple[Sequence[PolicySource], Origin | None, list[Problem], Mapping[str, bytes] | None]:
        """The sources of `paths`, the bundle that they come from, the problems so far, and the bundle's own bytes."""
        problems: list[Problem] = []
        path = bundle_of(paths, problems)
        if problems:
            raise PolicyError(problems)
        if path is not None:
            content = _content(path)
            keys = self.keys if self.verify else None
            bundle = open_bundle(
                content, label=str(path), keys=keys, now=now or datetime.now(UTC), host=self.host, in_use=ended
            )
            return memory_sources(bundle.files, str(path)), bundle.origin, problems, {path.name: content}
        found = disk_sources(paths, problems)
        if self.keys and self.verify:
            said = "policies must be signed, because trusted keys are configured; pass a bundle"
            strange = [s for s in found if SHIPPED not in s.path.resolve().parents]
            problems += [Problem(s.label, 0, 0, "", said, "unsigned") for s in strange]
        return found, None, problems, None

    def _reviewed(
        self, sources: Sequence[PolicySource], origin: Origin | None, problems: list[Problem]
    ) -> tuple[tuple[Document, ...], Document | None, Origin | None]:
        """The documents of `sources` and the floor to add to them, checked together; raises `PolicyError`."""
        before = len(problems)
        documents = tuple(d for s in sources if (d := parse_document(s, problems)) is not None)
        whole = len(documents) == len(sources) and not before
        documents = tuple(d for d in documents if not self._is_anothers(d))
        added = None if not self.floor or any(d.name == FLOOR for d in documents) else _shipped_floor(problems)
        together = documents if added is None else (*documents, added)
        environment = Environment(
            covered_by(self.sense), self.reads, self.canary_key is not None, self.engine, self.host, self.packs
        )
        problems += review(together, environment, whole=whole)
        problems += review_approvals(together, environment, whole=whole)
        if problems:
            raise PolicyError(problems)
        return documents, added, origin

    def _is_anothers(self, document: Document) -> bool:
        made_for = document.requires.hosts or ()
        return self.host is not None and self.host not in made_for and not self.others.isdisjoint(made_for)

    def _tested(self, documents: tuple[Document, ...], added: Document | None, origin: Origin | None) -> Snapshot:
        snapshot = self._compile(documents, added, origin)
        failed = [r for r in run_tests(snapshot, self.sense) if not r.passed]
        if failed:
            raise PolicyError(_failure(r.policy, r.index, r.name, r.message, documents) for r in failed)
        return snapshot

    def _compile(self, documents: tuple[Document, ...], added: Document | None, origin: Origin | None) -> Snapshot:
        documents = documents if added is None else (*documents, added)
        words = {f"{d.name}/{name}": entries for d in documents for name, entries in d.words.items()}
        models = [d.model for d in documents if d.model is not None]
        assert len(models) == len(documents)  # INVARIANT: a document without a model has problems, and those are raised
        snapshot = compile_snapshot(models, words, canary_key=self.canary_key, origin=origin)
        return replace(snapshot, floor_added=added is not None)


def no_policy() -> Snapshot:
    """The snapshot without rules: everything is allowed, no picture is read."""
    return compile_snapshot((), {})


def _shipped_floor(problems: list[Problem]) -> Document | None:
    """The policy `floor` of this package, without its tests."""
    document = parse_document(DiskSource(SHIPPED_FLOOR), problems)
    if document is None or document.model is None:
        return None  # its problems are told
    model = document.model.model_copy(update={"tests": []})
    return replace(document, file=f"shipped:{SHIPPED_FLOOR.name}", model=model, tests=())


def _content(path: Path) -> bytes:
    try:
        return read_file(path, MAX_BUNDLE)
    except OSError as error:
        raise PolicyError([Problem(str(path), 0, 0, "", f"cannot be read: {error}", "unreadable")]) from None


def _failure(policy: str, index: int, name: str, message: str, documents: Sequence[Document]) -> Problem:
    document = next(d for d in documents if d.name == policy)
    line, column = document.marks.get(("tests", index), (0, 0))
    said = f"test `{name}` fails: {message}"
    return Problem(document.file, line, column, f"tests[{index}]", said, "tests")
