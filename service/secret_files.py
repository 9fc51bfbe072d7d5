"""Files of the state folder that only their owner can read, and the secrets in them, each of which is made once."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["load_secret", "write_private"]


def load_secret(folder: Path, name: str) -> bytes:
    """The secret in the file `name` of `folder`. It is made if there is none, and all processes get the same one."""
    file = folder / name
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = folder / f".{name}.{os.getpid()}"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secrets.token_hex(32))
        try:
            os.link(fresh, file)  # fails if another worker was first; its secret is then ours too
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return file.read_bytes().strip()


def write_private(file: Path, content: bytes) -> None:
    """Writes a file that is there as a whole or not at all. Raises: OSError."""
    fresh = file.with_name(f"{file.name}.part")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(file)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
