"""Sessions of the console: who a browser is, sealed in a cookie that every worker can open.

The cookie has the digest of the caller's key, not the key, and opens nothing but the console. The key is looked up at
each request, so a session ends when its key is revoked or expires, and after `SESSION_SECONDS` in any case.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken

from service.http.keys import Caller, KeyRing, digest_of_key

__all__ = ["COOKIE", "SESSION_SECONDS", "Sessions"]

COOKIE = "palimpsest-console"
SESSION_SECONDS = 8 * 3600


class Sessions:
    """Seals and opens sessions. `secret` has 32 bytes; workers that share it open each other's sessions."""

    def __init__(self, keys: KeyRing, secret: bytes) -> None:
        self._keys = keys
        self._box = Fernet(urlsafe_b64encode(secret))

    def begin(self, key: str) -> str | None:
        """The cookie's value for a key that may use the console, else None."""
        digest = digest_of_key(key.strip())
        return self._box.encrypt(digest.encode()).decode() if self._may(digest) is not None else None

    def caller(self, value: str) -> Caller | None:
        """The caller of a cookie. None if the session is over, or was sealed by nobody of ours."""
        try:
            return self._may(self._box.decrypt(value, ttl=SESSION_SECONDS).decode())
        except (InvalidToken, ValueError):  # a cookie may hold what is no ASCII
            return None

    def _may(self, digest: str) -> Caller | None:
        caller = self._keys.holder(digest)
        return caller if caller is not None and "console" in caller.scopes else None
