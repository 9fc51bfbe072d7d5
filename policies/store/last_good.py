"""Keeps the policies that were last in use on disk, for a restart.

There is one file for each setting of `--policy`. It holds the policy files and, for a bundle, the name of its set and
its sequence number. After a restart an older bundle is still refused, and if the files in the folder cannot be used,
the kept ones are. A bundle is verified again when it is read back. The file's time stamp is the time when its content
was last known to be current.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from palimpsest_base.files import read_file
from policies.decide.snapshot import Origin, Snapshot
from policies.store.bundle import MAX_BUNDLE

__all__ = ["LastGood", "RememberedFiles"]

_log = logging.getLogger("palimpsest.policies")
_FORMAT = "palimpsest.last-good/v1"
_TOUCH_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RememberedFiles:
    """The policies that were in use: their files, when they were last confirmed, and their bundle, if any."""

    files: Mapping[str, bytes]
    as_of: datetime
    name: str | None = None
    sequence: int = 0
    bundle: str | None = None


class LastGood:
    """The kept policies of `paths` in `folder`. All workers of a machine share the file; each write replaces it."""

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        followed = "\n".join(str(p.absolute()) for p in paths)
        self.file = folder / f"policies-{sha256(followed.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.json"
        self._touched = 0.0

    def read(self) -> RememberedFiles | None:
        """The kept policies; None when there are none, or none that can be used."""
        try:
            note = json.loads(read_file(self.file, 2 * MAX_BUNDLE))
            if note["format"] != _FORMAT:
                raise ValueError(f"format `{note['format']}`")
            files = {str(name): str(text).encode() for name, text in note["files"].items()}
            as_of = datetime.fromtimestamp(self.file.stat().st_mtime, UTC)
            return RememberedFiles(files, as_of, note["name"], int(note["sequence"]), note["bundle"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("the memory of the last good policies cannot be used: %s", error)
            return None

    def write(self, snapshot: Snapshot, files: Mapping[str, bytes]) -> None:
        """Keeps `files`, from which `snapshot` was made, in place of the former ones."""
        origin: Origin | None = snapshot.origin
        note = {
            "format": _FORMAT,
            "digest": snapshot.digest,
            "name": origin.name if origin else None,
            "sequence": origin.sequence if origin else 0,
            "bundle": origin.digest if origin else None,
            "files": {name: content.decode() for name, content in files.items()},
        }
        fresh = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                json.dump(note, out)
                out.flush()
                os.fsync(out.fileno())
            fresh.replace(self.file)
            self._touched = time.monotonic()
        except OSError as error:  # the policies are in use all the same
            _log.warning("the policies in use could not be remembered for a restart: %s", error)

    def confirm(self) -> None:
        """Marks the kept policies as current now; cheap enough to call at every poll."""
        if time.monotonic() - self._touched >= _TOUCH_SECONDS:
            self._touched = time.monotonic()
            try:
                os.utime(self.file)
            except OSError:
                return
