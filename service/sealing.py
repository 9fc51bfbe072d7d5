"""Seals what is kept in the state folder, so that the disk holds nothing in clear.

AES-256-GCM. The name of what is sealed is associated data: a file that was changed, or put in the place of another,
does not open.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["Seal", "Tampered"]

_NONCE = 12


class Tampered(ValueError):
    """The sealed bytes were changed, cut, moved, or sealed under another key."""


class Seal:
    """Seals and opens bytes under a key that is derived from a secret, for one purpose."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._cipher = AESGCM(HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(secret))

    def seal(self, raw: bytes, name: str) -> bytes:
        """`raw`, encrypted and bound to `name`."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, raw, name.encode())

    def open(self, sealed: bytes, name: str) -> bytes:
        """What was sealed under `name`. Raises `Tampered`."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
        except (InvalidTag, ValueError):
            raise Tampered(f"the sealed file `{name}` was changed, or sealed under another key") from None
