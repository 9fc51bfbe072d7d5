"""Pictures behind links: each is kept for a while under a name that nobody can guess.

The name is the only secret. It has 256 random bits; the file is called by its hash, and sealed under a key that comes
from it. So whoever reads the state folder, a backup of it, or these files later, can open none of them without its
link. Workers share the folder and need no index: a file's age says when it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from service.image_files import Format
from service.sealing import Seal, Tampered
from service.secret_files import write_private

__all__ = ["Full", "NoPicture", "PictureLinks"]

MOST_FILES = 10_000
_NAME = re.compile(r"([A-Za-z0-9_-]{43})\.(png|webp|jpeg)")


class Full(Exception):
    """There is no room for another picture."""


class NoPicture(KeyError):
    """There is no such picture, or its time is over."""


@dataclass(frozen=True, slots=True)
class PictureLinks:
    """The pictures in `folder`, each for `seconds`, at most `most_bytes` in all. Threads and processes may share it.
    `clock` is Unix time.
    """

    folder: Path
    seconds: float
    most_bytes: int
    clock: Callable[[], float] = time.time

    def keep(self, file: bytes, form: Format) -> str:
        """The name of the picture, which is kept from now on. Raises `Full`, or `OSError` if it cannot be written."""
        name = f"{secrets.token_urlsafe(32)}.{form}"
        place = self._place(name)
        sealed = _seal(name).seal(file, place.name)
        with self._locked():
            self.check_room(len(sealed))
            write_private(place, sealed)
        return name

    def open(self, name: str) -> bytes:
        """The picture of that name. Raises `NoPicture`, also for one whose file was changed."""
        if not _NAME.fullmatch(name):
            raise NoPicture(name)
        place = self._place(name)
        try:
            if self._over(place.stat()):
                raise NoPicture(name)
            return _seal(name).open(place.read_bytes(), place.name)
        except (FileNotFoundError, Tampered):
            raise NoPicture(name) from None

    def check_room(self, size: int = 0) -> None:
        """Raises `Full` if there is no room for `size` bytes more."""
        live = [status for _, status in self._files() if not self._over(status)]
        if len(live) >= MOST_FILES or sum(s.st_size for s in live) + size > self.most_bytes:
            raise Full

    def sweep(self) -> None:
        """Deletes what is over, and what a killed worker left half written."""
        for place, status in self._files():
            if self._over(status):
                with contextlib.suppress(OSError):
                    place.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        with contextlib.suppress(FileNotFoundError):  # nothing was kept yet
            for entry in os.scandir(self.folder):
                with contextlib.suppress(FileNotFoundError):  # another worker swept it
                    if entry.name != _LOCK:
                        yield Path(entry.path), entry.stat(follow_symlinks=False)

    def _over(self, status: os.stat_result) -> bool:
        return status.st_mtime + self.seconds <= self.clock()

    def _place(self, name: str) -> Path:
        return self.folder / hashlib.sha256(name.encode()).hexdigest()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the lock that only one of all workers has."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


_LOCK = ".lock"


def _seal(name: str) -> Seal:
    return Seal(name.encode(), "palimpsest-picture")
