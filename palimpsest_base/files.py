"""Reads files that somebody else may have put there: regular files only, and never more than a limit."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["read_file"]


def read_file(file: str | Path, most: int) -> bytes:
    """The content of a regular file, or of one that a link leads to. Never waits for a writer, as a FIFO would.

    Raises: OSError, also for anything else than a regular file and for more than `most` bytes.
    """
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as opened:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(file))
        content = opened.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(file))
    return content
