"""Ed25519 keys that sign bundles, and the keys that a service trusts.

Keys are PEM files as openssl writes them. In settings a public key may also be one line: `ed25519:` and 32 bytes in
base64. The id of a key is the beginning of the hash of its public half.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from palimpsest_base.files import read_file

__all__ = ["KeyProblem", "SigningKey", "TrustedKey", "make_key", "trusted_keys"]

_INLINE = "ed25519:"
_MOST_BYTES = 1 << 20


class KeyProblem(ValueError):
    """A key that cannot be read or is of another kind; the message is one line."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key whose signatures are accepted."""

    id: str
    raw: bytes

    @classmethod
    def of(cls, raw: bytes) -> TrustedKey:
        return cls(hashlib.sha256(raw).hexdigest()[:16], raw)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return _INLINE + base64.b64encode(self.raw).decode()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its public half; never printed."""

    _private: Ed25519PrivateKey

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """The key in a PEM file without a pass phrase. Raises `KeyProblem`."""
        try:
            key = load_pem_private_key(read_file(path, _MOST_BYTES), password=None)
        except OSError as error:
            raise KeyProblem(f"no private key `{path}`: {error.strerror or error}") from None
        except (ValueError, TypeError) as error:
            raise KeyProblem(f"`{path}` is not a private key in PEM without a pass phrase: {error}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyProblem(f"`{path}` must be an Ed25519 key, got {type(key).__name__}")
        return cls(key)

    @property
    def public(self) -> TrustedKey:
        return TrustedKey.of(self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.public.id})"


def make_key(path: Path) -> SigningKey:
    """A new key, written to `path`, which only its owner may read; the public half is written to `path` plus `.pub`.

    Raises `KeyProblem` when either file exists.
    """
    private = Ed25519PrivateKey.generate()
    public = path.with_name(path.name + ".pub")
    for there in (path, public):
        if there.exists():
            raise KeyProblem(f"`{there}` exists; a key is never overwritten")
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(pem)
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return SigningKey(private)


def trusted_keys(given: Iterable[str]) -> tuple[TrustedKey, ...]:
    """The keys of `given`, each the path of a PEM file or `ed25519:BASE64`. Raises `KeyProblem`."""
    return tuple(dict.fromkeys(_trusted(item.strip()) for item in given if item.strip()))


def _trusted(item: str) -> TrustedKey:
    if item.startswith(_INLINE):
        try:
            raw = base64.b64decode(item.removeprefix(_INLINE), validate=True)
            Ed25519PublicKey.from_public_bytes(raw)
        except (binascii.Error, ValueError):
            raise KeyProblem(f"`{item}` must be `ed25519:` and 32 bytes in base64") from None
        return TrustedKey.of(raw)
    try:
        key = load_pem_public_key(read_file(item, _MOST_BYTES))
    except OSError as error:
        raise KeyProblem(f"no public key `{item}`: {error.strerror or error}") from None
    except ValueError:
        raise KeyProblem(f"`{item}` is not a public key in PEM; a private key is for signing only") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyProblem(f"`{item}` must be an Ed25519 key, got {type(key).__name__}")
    return TrustedKey.of(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
