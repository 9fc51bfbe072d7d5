"""The keys of the audit log, derived from one secret, and the bytes that they are applied to."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.secret_files import load_secret

__all__ = ["GENESIS", "AuditKeys", "canonical", "load_keys"]

GENESIS = "0" * 64  # what the first record of a file follows


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """The keys derived from one secret, and the id that log lines use to name them."""

    id: str
    text: bytes
    chain: bytes
    canary: bytes  # selects the requests of canary rules, so that outsiders cannot predict them
    session: bytes  # seals the sessions of the console
    person: bytes  # hashes what callers call the persons for whom they ask

    @classmethod
    def derive(cls, secret: bytes) -> AuditKeys:
        def part(label: bytes) -> bytes:
            return hmac.new(secret, b"palimpsest-audit/" + label, hashlib.sha256).digest()

        keys = (part(label) for label in (b"text", b"chain", b"canary", b"session", b"person"))
        return cls(part(b"id").hex()[:8], *keys)

    def hashed(self, text: str) -> str:
        """`text` as `keyid:hash`. Equal texts have equal hashes; without the key the hash reveals nothing else."""
        digest = hmac.new(self.text, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"{self.id}:{digest[:32]}"

    def identified(self, tenant: str, identifier: str) -> str:
        """A caller's `safety_identifier` as `keyid:hash`. It is another hash for each tenant, and never a text's: so
        what one tenant is told says nothing of another's persons or of prompts.
        """
        said = f"{tenant}\0{identifier}".encode("utf-8", "surrogatepass")
        return f"{self.id}:{hmac.new(self.person, said, hashlib.sha256).hexdigest()[:32]}"

    def mac(self, line: Mapping[str, Any]) -> str:
        """The MAC of a line without its own `mac`. The line includes `prev`, which makes the chain."""
        return hmac.new(self.chain, canonical(line), hashlib.sha256).hexdigest()


def load_keys(state: Path, secret: str | None = None) -> AuditKeys:
    """The keys derived from `secret`, or else from the file `audit.key` in `state`.

    The file is created once and is readable by its owner only.
    """
    return AuditKeys.derive(load_secret(state, "audit.key") if secret is None else secret.encode())


def canonical(line: Mapping[str, Any]) -> bytes:
    """The only bytes that a line may be written as."""
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
