"""Drafts: the policies in use with one file changed, checked as a worker checks them. A draft is never put in use.

The console holds no signing key: what it made is downloaded, signed and pushed from elsewhere.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from policies import PolicyError, Problem, Remark, Snapshot, advice, open_bundle
from policies.store.diff import floor_losses

if TYPE_CHECKING:
    from service.worker.runtime import Ready

__all__ = ["Checked", "Drafts", "files_in_use", "policies_in_use"]

_SUFFIXES = (".yaml", ".yml")
_NEW = "new/draft.yaml"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found. `snapshot` is None if there are problems. `refused`: why a worker would not use a draft that
    is valid otherwise.
    """

    snapshot: Snapshot | None
    problems: tuple[Problem, ...] = ()
    hints: tuple[Remark, ...] = ()
    refused: tuple[str, ...] = ()


class Drafts:
    """Checks drafts, one at a time, and keeps the last check: the same text is tried many times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[tuple[str, str, str, str], Checked] | None = None

    def checked(self, ready: Ready, name: str, text: str) -> Checked:
        """The check of the policies in use with the file `name` changed to `text`. It takes as long as a reload."""
        key = (ready.model.shown, ready.store.state.digest, name, text)
        with self._lock:
            if self._last is None or self._last[0] != key:
                self._last = (key, _check(ready, name, text))
            return self._last[1]


def files_in_use(ready: Ready) -> dict[str, bytes]:
    """The files of the policies in use, lists included: `number/name`, the same number for a policy and its lists."""
    found: dict[str, bytes] = {}
    for name, content in ready.store.files.items():
        if name.endswith(".bundle"):
            bundle = open_bundle(content, label=name, keys=None, now=datetime.now(UTC), in_use=True)
            found |= {f"0/{path}": text for path, text in bundle.files.items()}
        else:
            found[name] = content
    return found


def policies_in_use(ready: Ready) -> dict[str, str]:
    """The texts of the policy files in use, by name, and an empty one for a new policy."""
    texts = {name: c.decode() for name, c in files_in_use(ready).items() if name.endswith(_SUFFIXES)}
    return texts | {_NEW: _SKELETON}


def _check(ready: Ready, name: str, text: str) -> Checked:
    loader, now = replace(ready.upload.loader, keys=()), datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="palimpsest-draft-") as folder:
        paths = _written(Path(folder), files_in_use(ready) | {name: text.encode()})
        try:
            loaded = loader.load_files(paths)
        except PolicyError as error:
            return Checked(None, tuple(_named(problem, folder) for problem in error.problems))
        hints = tuple(_named(h, folder) for h in sorted(advice(loaded, now, longest=ready.limits.max_prompt)))
    snapshot = loaded.snapshot
    refused = (*floor_losses(ready.store.snapshot, snapshot), *ready.upload.accept(snapshot))
    return Checked(snapshot, hints=tuple(h for h in hints if h.file == name), refused=refused)


def _written(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """The paths of the policies among `files`, written below `folder`."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return [folder / name for name in sorted(files) if name.endswith(_SUFFIXES)]


_R = TypeVar("_R", bound=Remark)


def _named(remark: _R, folder: str) -> _R:
    """The remark with the name of its file, without the folder."""
    clean = {field: getattr(remark, field).replace(f"{folder}/", "") for field in ("file", "message")}
    return replace(remark, **clean)


_SKELETON = """\
schema: palimpsest.policy/v1
name: my-policy
version: 1.0.0
owner: you@example.com

rules:
  - id: my-rule
    why: Say why this rule exists.
    category: other
    when: {prompt: {any_of: [example]}}
    then:
      - {do: label, value: example}
    on_error: block

tests:
  - name: the word is found
    given: {prompt: an example}
    expect: {rules: [my-rule]}
  - name: other words are left alone
    given: {prompt: a quiet lake}
    expect: {verdict: allow, rules: []}
"""
