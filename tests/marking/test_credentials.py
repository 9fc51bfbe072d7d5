"""C2PA credentials: what is signed is what is read, whatever the format, and broken ones are told apart.

| mutation | turns red |
|---|---|
| the parent's thumbnails are not redacted | a thumbnail of an upload does not leave |
| `remote_manifest_fetch` is true | nothing is fetched |
| `_signed` does not fall back to the plain parent | an upload with broken credentials |
"""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from marking.credentials import BadSigner, NotSigned, Parent, Signer, Statement, read_credentials
from tests.marking.chains import Chain, chain

WHEN = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
DRAWN = Statement("signpost", "steered", ("harassment",), WHEN, watermark="spread")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def signer(files: Chain) -> Signer:
    return Signer(files.certificate, files.key, "0.1")


def picture(form: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def edited(signer: Signer, parent: bytes, kind: str = "image/png", **options: Any) -> bytes:
    upload = Parent(parent, kind, lambda: picture("png"))
    values = {"model": "signpost", "how": "untouched", "kinds": (), "when": WHEN, "parent": upload}
    return signer.sign(picture("jpeg"), "image/jpeg", Statement(**{**values, **options}))


def manifest(file: bytes, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The newest manifest, and everything that the library tells."""
    import c2pa

    told = json.loads(c2pa.Reader(kind, io.BytesIO(file)).json())
    return told["manifests"][told["active_manifest"]], told


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_credentials_are_read_as_they_were_signed_and_the_pixels_stay(signer: Signer, files: Chain, form: str) -> None:
    plain, kind = picture(form), f"image/{form}"
    signed = signer.sign(plain, kind, DRAWN)
    pixels = [np.asarray(Image.open(io.BytesIO(file))) for file in (plain, signed)]
    assert np.array_equal(*pixels)
    found = read_credentials(signed, kind)
    assert found is not None
    assert (found.state, found.generated, found.issuer, found.model) == ("valid", True, "Example Org", "signpost")
    assert found.generated_at == "2026-11-29T10:00:00Z"
    trusted = read_credentials(signed, kind, files.root)
    assert trusted is not None
    assert trusted.state == "trusted"
    assert read_credentials(plain, kind) is None
    own, _ = manifest(signed, kind)
    actions, steering = (each["data"] for each in own["assertions"])
    assert [each["action"] for each in actions["actions"]] == ["c2pa.created", "c2pa.watermarked.unbound"]
    assert steering == {"how": "steered", "kinds": ["harassment"]}


def test_a_changed_pixel_and_broken_credentials_are_invalid(signer: Signer) -> None:
    signed = bytearray(signer.sign(picture(), "image/png", DRAWN))
    signed[-60] ^= 1
    found = read_credentials(bytes(signed), "image/png")
    assert found is not None
    assert (found.state, found.generated, found.issuer) == ("invalid", False, None)
    at = signed.find(b"jumb") + 30
    signed[at : at + 30] = bytes(30)
    broken = read_credentials(bytes(signed), "image/png")
    assert broken is not None
    assert broken.state == "invalid"


def test_the_credentials_of_an_upload_are_kept_as_those_of_the_parent(signer: Signer) -> None:
    upload = signer.sign(picture(), "image/png", DRAWN)
    own, told = manifest(edited(signer, upload), "image/jpeg")
    assert len(told["manifests"]) == 2
    (parent,) = own["ingredients"]
    assert parent["relationship"] == "parentOf"
    assert parent["active_manifest"] in told["manifests"]
    assert [a["action"] for a in own["assertions"][0]["data"]["actions"]] == ["c2pa.opened", "c2pa.edited"]
    assert own["assertions"][0]["data"]["actions"][1]["digitalSourceType"].endswith(
        "compositeWithTrainedAlgorithmicMedia"
    )


def test_what_no_model_drew_is_not_called_drawn_unless_its_parent_was(signer: Signer) -> None:
    for upload, drawn in ((picture(), False), (signer.sign(picture(), "image/png", DRAWN), True)):
        found = read_credentials(edited(signer, upload, model=None, how="blurred"), "image/jpeg")
        assert found is not None
        assert (found.state, found.generated) == ("valid", drawn)
        assert found.model == ("signpost" if drawn else None)


def test_an_upload_with_broken_credentials_is_a_plain_parent(signer: Signer) -> None:
    upload = bytearray(signer.sign(picture(), "image/png", DRAWN))
    at = upload.find(b"jumb") + 30
    upload[at : at + 30] = bytes(30)
    own, told = manifest(edited(signer, bytes(upload)), "image/jpeg")
    assert len(told["manifests"]) == 1
    assert "active_manifest" not in own["ingredients"][0]


def test_a_thumbnail_of_an_upload_does_not_leave(signer: Signer, files: Chain) -> None:
    import c2pa

    upload = io.BytesIO()
    info = c2pa.C2paSignerInfo("es256", files.certificate.read_bytes(), files.key.read_bytes(), None)
    made = {"action": "c2pa.created", "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalArt"}
    actions = {"label": "c2pa.actions.v2", "data": {"actions": [made]}}
    with c2pa.Builder({"claim_generator_info": [{"name": "other"}], "assertions": [actions]}) as builder:
        builder.sign(c2pa.Signer.from_info(info), "image/png", io.BytesIO(picture()), upload)
    assert "thumbnail" in manifest(upload.getvalue(), "image/png")[0], "as other programs write it"
    kept = edited(signer, upload.getvalue())
    own, told = manifest(kept, "image/jpeg")
    assert len(told["manifests"]) == 2
    assert "thumbnail" not in json.dumps([m.get("thumbnail", "") for m in told["manifests"].values()])
    assert len(kept) < len(picture("jpeg")) + 20_000
    assert not [
        r
        for r in own["ingredients"][0]["validation_results"]["activeManifest"]["failure"]
        if r["code"] != "signingCredential.untrusted"
    ]


def test_nothing_is_fetched_for_a_file_that_names_an_address(signer: Signer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa"
        xmp = (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="{address}"/>'
            "</rdf:RDF></x:xmpmeta>"
        )
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp)
        file = picture("png", pnginfo=info)
        found = read_credentials(file, "image/png")
        assert found is None or found.state == "invalid"
        edited(signer, file)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate,
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-384", "Ed25519", "RSA"],
)
def test_keys_of_other_kinds_sign(tmp_path: Path, make: Callable[[], Any]) -> None:
    files = chain(tmp_path, key=make())
    Signer(files.certificate, files.key, "0.1").check()


def test_what_cannot_sign_is_told_in_one_line_and_replaced_files_are_used_at_once(tmp_path: Path) -> None:
    files = chain(tmp_path)
    signer = Signer(files.certificate, files.key, "0.1")
    (tmp_path / "other").mkdir()
    other = chain(tmp_path / "other")
    files.key.write_bytes(other.key.read_bytes())
    with pytest.raises(BadSigner, match="must be the key of the first certificate"):
        signer.check()
    with pytest.raises(NotSigned, match="must be the key"):
        signer.sign(picture(), "image/png", DRAWN)
    files.certificate.write_bytes(other.certificate.read_bytes())
    signer.check()
    chain(tmp_path, days=(-9, -2))
    with pytest.raises(BadSigner, match="not valid at time of signing"):
        signer.check()
    files.key.write_text("secret words")
    with pytest.raises(BadSigner, match="must be a PEM private key") as told:
        signer.check()
    assert "secret words" not in str(told.value)
    files.certificate.unlink()
    with pytest.raises(BadSigner, match="cannot be read: No such file"):
        signer.check()
