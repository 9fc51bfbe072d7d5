"""Signed bundles: policies and their lists in one file, with its signer, its hosts, its date and its expiry.

A bundle is one JSON document: the manifest as the exact text that was signed, the signatures, and the files. There is
no archive to unpack, so no file can be written outside a folder and no content can expand. The manifest lists every
file with its SHA-256, and the SHA-256 of the manifest identifies the bundle. A bundle is used only after the signature
of a trusted key is verified.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from policies.decide.snapshot import Origin
from policies.fields import FormatModel, Name, Text
from policies.problems import Code, PolicyError, Problem
from policies.store.keys import SigningKey, TrustedKey

__all__ = ["FORMAT", "MAX_BUNDLE", "SUFFIX", "Bundle", "open_bundle", "sign_bundle"]

FORMAT = "palimpsest.bundle/v1"
SUFFIX = ".bundle"
MAX_BUNDLE = 64 << 20
_MOST_FILES = 1000
_DOMAIN = FORMAT.encode() + b"\n"  # so that a signature of a bundle is valid for nothing else


class ManifestFile(FormatModel):
    """One file of a bundle by its content."""

    path: Annotated[str, Field(pattern=r"^[^/\\\x00]+(/[^/\\\x00]+)*$", max_length=400)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Manifest(FormatModel):
    """What is signed. `name` is the set of policies that the bundle belongs to; its `sequence` only ever grows."""

    format: Literal["palimpsest.bundle/v1"]
    name: Name
    sequence: Annotated[int, Field(ge=1, lt=2**53)]
    created: AwareDatetime
    not_after: AwareDatetime
    hosts: list[Text] = []
    files: Annotated[list[ManifestFile], Field(min_length=1, max_length=_MOST_FILES)]


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: where it comes from, the models it is made for (none: any), and its files by path."""

    origin: Origin
    hosts: tuple[str, ...]
    files: Mapping[str, bytes]


def sign_bundle(
    files: Mapping[str, bytes],
    key: SigningKey,
    *,
    name: str,
    sequence: int,
    created: datetime,
    not_after: datetime,
    hosts: Collection[str] = (),
) -> bytes:
    """The bytes of a bundle of `files`. Raises `ValueError` when the manifest would not be valid."""
    listed = [{"path": p, "sha256": sha256(b).hexdigest(), "bytes": len(b)} for p, b in sorted(files.items())]
    manifest = {
        "format": FORMAT,
        "name": name,
        "sequence": sequence,
        "created": created.astimezone(UTC).isoformat(timespec="seconds"),
        "not_after": not_after.astimezone(UTC).isoformat(timespec="seconds"),
        "hosts": sorted(hosts),
        "files": listed,
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    Manifest.model_validate_json(text)
    signature = base64.b64encode(key.sign(_DOMAIN + text.encode())).decode()
    document = {
        "format": FORMAT,
        "manifest": text,
        "signatures": [{"key": key.public.id, "signature": signature}],
        "files": {path: content.decode() for path, content in sorted(files.items())},
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def open_bundle(
    content: bytes,
    *,
    label: str,
    keys: Collection[TrustedKey] | None,
    now: datetime,
    host: str | None = None,
    in_use: bool = False,
) -> Bundle:
    """The bundle in `content`. Raises `PolicyError` with the reason for a refusal.

    With `keys` None no signature is checked; use that to show a bundle, never to serve it. `host` None is not compared.
    With `in_use`, for a bundle that was in use before, it may have expired since.
    """

    def refuse(code: Code, message: str) -> PolicyError:
        return PolicyError([Problem(label, 0, 0, "", message, code)])

    document = _document(content, refuse)
    signer = _signer(document, keys, refuse)
    try:
        manifest = Manifest.model_validate_json(document["manifest"])
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise refuse("damaged", f"its manifest is not valid: `{where}`: {error.errors()[0]['msg']}") from None
    if manifest.not_after <= now and not in_use:
        raise refuse("expired", f"it expired at {manifest.not_after:%Y-%m-%d %H:%M} UTC; sign it again")
    if host is not None and manifest.hosts and host not in manifest.hosts:
        made_for = ", ".join(f"`{h}`" for h in manifest.hosts)
        raise refuse("other-host", f"it is made for {made_for}, and this is `{host}`")
    files = _files(document, manifest, refuse)
    digest = "sha256:" + sha256(document["manifest"].encode("utf-8", "surrogatepass")).hexdigest()
    origin = Origin(manifest.name, manifest.sequence, digest, manifest.created, manifest.not_after, signer)
    return Bundle(origin, tuple(manifest.hosts), files)


def _document(content: bytes, refuse: Any) -> dict[str, Any]:
    if len(content) > MAX_BUNDLE:
        raise refuse("unreadable", f"a bundle may have {MAX_BUNDLE} bytes at most, got {len(content)}")
    try:
        document = json.loads(content, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise refuse("damaged", f"it is not a complete bundle; it may be cut off ({error})") from None
    shaped = (
        isinstance(document, dict)
        and document.get("format") == FORMAT
        and isinstance(document.get("manifest"), str)
        and isinstance(document.get("signatures"), list)
        and isinstance(document.get("files"), dict)
    )
    if not shaped:
        raise refuse("damaged", f"it is not a bundle of the format `{FORMAT}`")
    return dict(document)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _signer(document: Mapping[str, Any], keys: Collection[TrustedKey] | None, refuse: Any) -> str:
    """The id of the trusted key that signed the manifest; without `keys`, the ids that the signatures claim."""
    signatures = [s for s in document["signatures"] if isinstance(s, dict)]
    if keys is None:
        return ", ".join(str(s.get("key")) for s in signatures) + " (not verified)"
    if not keys:
        raise refuse(
            "unsigned", "no trusted key is configured, so no bundle can be verified; set `policy_keys`, or pass `--key`"
        )
    message = _DOMAIN + document["manifest"].encode("utf-8", "surrogatepass")
    by_id = {key.id: key for key in keys}
    known = [(by_id[str(s["key"])], s) for s in signatures if str(s.get("key")) in by_id]
    for key, signature in known:
        try:
            raw = base64.b64decode(str(signature.get("signature")), validate=True)
        except binascii.Error:
            continue
        if key.verifies(message, raw):
            return key.id
    if known:
        raise refuse("signature", f"its manifest was changed after `{known[0][0].id}` had signed it")
    by = ", ".join(f"`{s.get('key')}`" for s in signatures) or "nobody"
    trusted = ", ".join(f"`{k}`" for k in by_id)
    raise refuse("signature", f"it is signed by {by}, which is not trusted here; trusted: {trusted}")


def _files(document: Mapping[str, Any], manifest: Manifest, refuse: Any) -> dict[str, bytes]:
    listed = {f.path: f for f in manifest.files}
    if set(listed) != set(document["files"]) or len(listed) != len(manifest.files):
        odd = ", ".join(f"`{p}`" for p in sorted(set(listed) ^ set(document["files"]))) or "one twice"
        raise refuse("damaged", f"its files are not those that were signed: {odd}")
    files: dict[str, bytes] = {}
    for path, file in listed.items():
        text = document["files"][path]
        content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else b""
        if ".." in path.split("/") or sha256(content).hexdigest() != file.sha256:
            raise refuse("damaged", f"its file `{path}` is not the one that was signed")
        files[path] = content
    return files
