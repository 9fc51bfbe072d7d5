"""C2PA credentials: a signed statement in the picture's file, and what such statements in a file say.

The native library of `c2pa-python` makes and reads them. Nothing is fetched: no remote manifest, no revocation list, no
time stamp. Signing changes no pixel.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from palimpsest_base.files import read_file

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = [
    "BadSigner",
    "Credentials",
    "NotSigned",
    "Parent",
    "Signer",
    "Statement",
    "check_anchors",
    "read_credentials",
]

State = Literal["trusted", "valid", "invalid"]
_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_GENERATED = f"{_SOURCE}trainedAlgorithmicMedia"
_COMPOSITE = f"{_SOURCE}compositeWithTrainedAlgorithmicMedia"
_STEERING = "palimpsest.steering"
_MOST = 1 << 16  # bytes of a certificate chain, a key or a list of trust anchors
_UPLOAD = "upload"  # the name of the parent within a manifest


class BadSigner(ValueError):
    """The certificate or the key cannot sign credentials. The message is one line, without their content."""


class NotSigned(RuntimeError):
    """A file could not be signed."""


@dataclass(frozen=True, slots=True, eq=False)
class Parent:
    """An uploaded file, whose credentials are kept. `plain` gives a PNG of its pixels, which stands for it if its
    credentials cannot be read.
    """

    file: bytes
    media_type: str
    plain: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Statement:
    """What credentials say of a picture.

    Attributes:
        model: the model that drew it, or a part of it; None: no model drew any of it.
        how: what the rules did to it.
        kinds: the categories of the rules that took part, never a word.
        when: when it was made.
        watermark: the name of the watermark in its pixels, if any.
        parent: the upload that it was made from.
    """

    model: str | None
    how: str
    kinds: tuple[str, ...]
    when: datetime
    watermark: str | None = None
    parent: Parent | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the newest credentials in a file say.

    Attributes:
        state: `trusted` if a trust anchor stands behind the signer, `valid` if only signature and content fit, else
            `invalid`.
        generated: whether they say that a model drew the picture or a part of it.
    """

    state: State
    generated: bool = False
    issuer: str | None = None
    model: str | None = None
    generated_at: str | None = None


class Signer:
    """Signs with a certificate chain and its private key, both PEM files, which are read each time: files that are
    replaced are used at once.
    """

    def __init__(self, certificate: Path, key: Path, version: str) -> None:
        self._certificate = certificate
        self._key = key
        self._version = version

    def check(self) -> None:
        """Raises `BadSigner` if nothing could be signed now."""
        self._material()
        try:
            self.sign(_smallest(), "image/png", Statement("none", "untouched", (), datetime.now(UTC)))
        except NotSigned as error:
            raise BadSigner(str(error)) from None

    def ends(self) -> datetime:
        """When the certificate ends. Raises: BadSigner."""
        return _certificate(_read(self._certificate, "the certificate chain")).not_valid_after_utc

    def sign(self, file: bytes, media_type: str, statement: Statement) -> bytes:
        """The file with credentials. Raises: NotSigned."""
        from c2pa import C2paError

        parent = statement.parent
        try:
            if parent is None:
                return self._signed(file, media_type, statement, None)
            try:
                return self._signed(file, media_type, statement, (parent.file, parent.media_type))
            except C2paError:  # what cannot be read cannot be kept
                return self._signed(file, media_type, statement, (parent.plain(), "image/png"))
        except (C2paError, BadSigner) as error:
            why = " ".join(str(error).split())
            raise NotSigned(f"the credentials could not be signed: {why}") from None

    def _signed(self, file: bytes, media_type: str, statement: Statement, parent: tuple[bytes, str] | None) -> bytes:
        from c2pa import Builder, C2paSignerInfo
        from c2pa import Signer as NativeSigner

        thumbnails = () if parent is None else _thumbnails(*parent)
        definition = _definition(statement, media_type, self._version, thumbnails)
        signed = io.BytesIO()
        with (
            Builder(definition, _context("")) as builder,
            NativeSigner.from_info(C2paSignerInfo(*self._material(), None)) as signer,
        ):
            if parent is not None:
                about = {"title": "upload", "relationship": "parentOf", "label": _UPLOAD}
                builder.add_ingredient(about | {"instance_id": _UPLOAD}, parent[1], io.BytesIO(parent[0]))
            builder.sign(signer, media_type, io.BytesIO(file), signed)
        return signed.getvalue()

    def _material(self) -> tuple[str, bytes, bytes]:
        """The algorithm, the chain and the key. Raises: BadSigner."""
        from cryptography.hazmat.primitives import serialization

        chain, key = _read(self._certificate, "the certificate chain"), _read(self._key, "the signing key")
        try:
            private = serialization.load_pem_private_key(key, password=None)
        except (ValueError, TypeError):
            raise BadSigner(f"`{self._key}` must be a PEM private key without a password") from None
        public, kind = _certificate(chain).public_key(), serialization.Encoding.DER
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        if public.public_bytes(kind, form) != private.public_key().public_bytes(kind, form):
            raise BadSigner(f"`{self._key}` must be the key of the first certificate in `{self._certificate}`")
        return _algorithm(private), chain, key


def read_credentials(file: bytes, media_type: str, anchors: Path | None = None) -> Credentials | None:
    """What the credentials in a file say; None: it has none. `anchors`: PEM certificates that are trusted. Broken
    credentials are `invalid`.

    Raises: BadSigner, for anchors that cannot be read.
    """
    from c2pa import C2paError, Reader

    trusted = "" if anchors is None else _read(anchors, "the trust anchors").decode("ascii", "replace")
    try:
        reader = Reader.try_create(media_type, io.BytesIO(file), context=_context(trusted))
        if reader is None:
            return None
        with reader:
            told = json.loads(reader.json())
    except (C2paError, ValueError):
        return Credentials("invalid")
    state = str(told.get("validation_state", "")).lower()
    manifests = told.get("manifests") or {}
    newest = manifests.get(told.get("active_manifest")) or {}
    if state not in ("trusted", "valid"):
        return Credentials("invalid")
    drawn = next((a for a in _drawings(newest, manifests) if _draws(a)), None)
    return Credentials(
        "trusted" if state == "trusted" else "valid",
        generated=drawn is not None,
        issuer=_text((newest.get("signature_info") or {}).get("issuer")),
        model=None if drawn is None else _text(_named(drawn.get("softwareAgent"))),
        generated_at=None if drawn is None else _text(drawn.get("when")),
    )


def check_anchors(anchors: Path) -> None:
    """Raises `BadSigner` if the file of trust anchors cannot be read."""
    read_credentials(_smallest(), "image/png", anchors)


def _definition(statement: Statement, media_type: str, version: str, thumbnails: Iterable[str]) -> dict[str, Any]:
    """The manifest as c2pa's library takes it."""
    when = statement.when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    thumbnails = list(thumbnails)
    agent = {} if statement.model is None else {"softwareAgent": {"name": statement.model}}
    actions: list[dict[str, Any]] = []
    if statement.parent is None:
        actions.append({"action": "c2pa.created", "digitalSourceType": _GENERATED, "when": when, **agent})
    else:
        actions.append({"action": "c2pa.opened", "parameters": {"ingredientIds": [_UPLOAD]}})
        for each in thumbnails:
            redacted = {"action": "c2pa.redacted", "reason": "c2pa.trade-secret.present"}
            actions.append(redacted | {"parameters": {"redacted": each}})
        if statement.model is not None:
            actions.append({"action": "c2pa.edited", "digitalSourceType": _COMPOSITE, "when": when, **agent})
        if statement.how == "blurred":
            actions.append({"action": "c2pa.filtered", "when": when})
    if statement.watermark is not None:
        actions.append({"action": "c2pa.watermarked.unbound", "softwareAgent": {"name": statement.watermark}})
    return {
        "claim_generator_info": [{"name": "palimpsest", "version": version}],
        "format": media_type,
        "redactions": thumbnails or None,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": _STEERING, "data": {"how": statement.how, "kinds": list(statement.kinds)}},
        ],
    }


def _thumbnails(file: bytes, media_type: str) -> tuple[str, ...]:
    """The addresses of thumbnails in a file's credentials: pictures that nobody judged, which are left out. Raises
    `C2paError`.
    """
    from c2pa import Reader

    reader = Reader.try_create(media_type, io.BytesIO(file), context=_context(""))
    if reader is None:
        return ()
    with reader:
        told = json.loads(reader.json())
    holders: list[Mapping[str, Any]] = []
    for manifest in (told.get("manifests") or {}).values():
        holders += [manifest, *(manifest.get("ingredients") or ())]
    found = (each["thumbnail"].get("identifier") for each in holders if each.get("thumbnail"))
    return tuple(dict.fromkeys(str(each) for each in found))


def _drawings(manifest: Mapping[str, Any], manifests: Mapping[str, Any], depth: int = 8) -> Iterator[Mapping[str, Any]]:
    """The actions of a manifest, then those of the whole credentials that it was made from."""
    for assertion in manifest.get("assertions") or ():
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            yield from (assertion.get("data") or {}).get("actions") or ()
    for each in manifest.get("ingredients") or ():
        results = (each.get("validation_results") or {}).get("activeManifest") or {}
        broken = {f.get("code") for f in results.get("failure") or ()} - {"signingCredential.untrusted"}
        if depth and not broken and each.get("active_manifest") in manifests:
            yield from _drawings(manifests[each["active_manifest"]], manifests, depth - 1)


def _draws(action: Mapping[str, Any]) -> bool:
    """Whether a model drew something in this action. C2PA has had these source types at two addresses."""
    return str(action.get("digitalSourceType", "")).rpartition("/")[2] in (
        "trainedAlgorithmicMedia",
        "compositeWithTrainedAlgorithmicMedia",
    )


def _named(agent: Any) -> Any:
    return agent.get("name") if isinstance(agent, Mapping) else agent


def _text(value: Any) -> str | None:
    return value[:256] if isinstance(value, str) else None


def _algorithm(private: Any) -> str:
    """C2PA's name for the algorithm of a key. Raises: BadSigner."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in curves:
        return curves[private.curve.name]
    raise BadSigner("the signing key must be of P-256, P-384, P-521, Ed25519 or RSA")


def _certificate(chain: bytes) -> Certificate:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError):
        raise BadSigner("the certificate chain must be PEM certificates, the signer's first") from None


def _read(file: Path, what: str) -> bytes:
    try:
        return read_file(file, _MOST)
    except OSError as error:
        raise BadSigner(f"{what} `{file}` cannot be read: {error.strerror}") from None


@lru_cache(maxsize=4)
def _context(anchors: str) -> Any:
    """The library's settings: nothing is fetched, and no thumbnail is made."""
    from c2pa import Context, Settings

    verify = {"verify_after_sign": True, "verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False}
    values: dict[str, Any] = {"version": 1, "builder": {"thumbnail": {"enabled": False}}, "verify": verify}
    if anchors:
        values["trust"] = {"trust_anchors": anchors}
    return Context(Settings.from_dict(values))


def _smallest() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    return file.getvalue()
