"""Signed bundles: what is not exactly what a trusted key signed, newer than before and in force, changes nothing.

Every way to be wrong is tried live and after a restart, and named by its code.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.text import sense
from policies import (
    KeyProblem,
    Loader,
    PolicyError,
    Request,
    SigningKey,
    Store,
    decide,
    make_key,
    open_bundle,
    sign_bundle,
    trusted_keys,
)
from tests.policies.helpers import policy, rule

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
GOOD = policy(rule())
OTHER = GOOD.replace("grumpf", "snirt")
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n" + GOOD


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[SigningKey, SigningKey]:
    """A trusted key and a stranger's."""
    folder = tmp_path_factory.mktemp("keys")
    return make_key(folder / "ours"), make_key(folder / "theirs")


class Desk:
    """A folder that a service follows, and whoever puts bundles into it."""

    def __init__(self, folder: Path, key: SigningKey) -> None:
        self.folder = folder / "live"
        self.folder.mkdir()
        self.keep = folder / "state"
        self.key = key
        self.now = NOW

    @property
    def path(self) -> Path:
        return self.folder / "house.bundle"

    def bundle(self, text: str = GOOD, *, sequence: int = 8, key: SigningKey | None = None, **more: object) -> bytes:
        options = {"name": "house", "created": NOW, "not_after": NOW + timedelta(days=30), **more}
        files = {"p.yaml": text.encode()}
        return sign_bundle(files, key or self.key, sequence=sequence, **options)  # type: ignore[arg-type]

    def put(self, content: bytes) -> None:
        fresh = self.folder / ".fresh"
        fresh.write_bytes(content)
        fresh.replace(self.path)

    def store(self, *, keep: bool = True, host: str = "signpost-pixart", expired: bool = False) -> Store:
        loader = Loader(sense, keys=(self.key.public,), host=host)
        return Store(loader, self.folder, keep=self.keep if keep else None, expired=expired, clock=lambda: self.now)


@pytest.fixture
def desk(tmp_path: Path, keys: tuple[SigningKey, SigningKey]) -> Desk:
    return Desk(tmp_path, keys[0])


def changed(content: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(content), **fields}).encode()


def signed_by_hand(desk: Desk, **fields: object) -> bytes:
    """A bundle whose manifest says what it likes, rightly signed."""
    content = json.loads(desk.bundle(OTHER, sequence=9))
    manifest = json.dumps({**json.loads(content["manifest"]), **fields})
    signature = base64.b64encode(desk.key.sign(b"palimpsest.bundle/v1\n" + manifest.encode())).decode()
    files = fields.get("texts", content["files"])
    return changed(
        json.dumps({**content, "files": files}).encode(),
        manifest=manifest,
        signatures=[{"key": desk.key.public.id, "signature": signature}],
    )


def climbing(desk: Desk) -> bytes:
    """A bundle that names a file outside of its folder."""
    text = OTHER.encode()
    entry = {"path": "../p.yaml", "sha256": sha256(text).hexdigest(), "bytes": len(text)}
    return changed(signed_by_hand(desk, files=[entry]), files={"../p.yaml": OTHER})


FAILING = OTHER + "\ntests:\n  - {name: a, given: {prompt: x}, expect: {verdict: block}}\n"
REFUSED = {
    "older": (lambda d, k: d.bundle(OTHER, sequence=7), "replayed", "its sequence number is 7, and 8 was in use"),
    "same-number": (lambda d, k: d.bundle(OTHER, sequence=8), "replayed", "another bundle with the sequence number 8"),
    "other-set": (lambda d, k: d.bundle(OTHER, sequence=9, name="staging"), "other-host", "of the set `staging`"),
    "stranger": (lambda d, k: d.bundle(OTHER, sequence=9, key=k[1]), "signature", "which is not trusted here"),
    "unsigned": (lambda d, k: changed(d.bundle(OTHER, sequence=9), signatures=[]), "signature", "signed by `nobody`"),
    "other-manifest": (
        lambda d, k: changed(
            d.bundle(OTHER, sequence=9), manifest=json.loads(d.bundle(OTHER, sequence=10))["manifest"]
        ),
        "signature",
        "was changed after",
    ),
    "other-file": (
        lambda d, k: changed(d.bundle(GOOD, sequence=9), files={"p.yaml": OTHER}),
        "damaged",
        "`p.yaml` is not the one that was signed",
    ),
    "more-files": (
        lambda d, k: changed(d.bundle(OTHER, sequence=9), files={"p.yaml": OTHER, "q.yaml": OTHER}),
        "damaged",
        "`q.yaml`",
    ),
    "truncated": (lambda d, k: d.bundle(OTHER, sequence=9)[:-200], "damaged", "may be cut off"),
    "empty": (lambda d, k: b"", "damaged", "may be cut off"),
    "not-ours": (lambda d, k: b'{"a": 1}', "damaged", "not a bundle of the format"),
    "twice": (lambda d, k: d.bundle(OTHER, sequence=9).replace(b'"files"', b'"format"', 1), "damaged", "twice"),
    "climbing": (lambda d, k: climbing(d), "damaged", "`../p.yaml`"),
    "odd-manifest": (lambda d, k: signed_by_hand(d, colour="red"), "damaged", "`colour`"),
    "expired": (
        lambda d, k: d.bundle(OTHER, sequence=9, not_after=NOW - timedelta(seconds=1)),
        "expired",
        "expired at 2026-11-21 11:59",
    ),
    "other-host": (
        lambda d, k: d.bundle(OTHER, sequence=9, hosts=["signpost-sdxl"]),
        "other-host",
        "made for `signpost-sdxl`, and this is `signpost-pixart`",
    ),
    "other-host-by-policy": (
        lambda d, k: d.bundle(OTHER.replace("\nrules:", "requires: {hosts: [a-host]}\nrules:", 1), sequence=9),
        "other-host",
        "made for `a-host`",
    ),
    "future-engine": (
        lambda d, k: d.bundle(OTHER.replace("\nrules:", "requires: {engine: 99.0.0}\nrules:", 1), sequence=9),
        "unmet",
        "needs version 99.0.0",
    ),
    "failing-test": (lambda d, k: d.bundle(FAILING, sequence=9), "tests", "test `a` fails"),
    "alias-bomb": (lambda d, k: d.bundle(BOMB, sequence=9), "syntax", "anchors and aliases are not allowed"),
    "wrong-rule": (lambda d, k: d.bundle(OTHER.replace("do: block", "do: blok"), sequence=9), "invalid", "`blok`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bundle_that_is_not_right_is_refused_by_name_and_the_last_good_one_stays(case, desk, keys):
    make, code, says = REFUSED[case]
    desk.put(desk.bundle())
    store = desk.store()
    before = store.snapshot
    desk.put(make(desk, keys))
    state = store.poll()
    assert (state.source, state.generation) == ("last-good", 1)
    assert {p.code for p in state.last_problems} == {code}
    assert says.replace("`nobody`", "nobody") in state.last_error
    assert store.snapshot is before
    assert verdict(store, "grumpf") == "block"
    desk.put(desk.bundle(OTHER, sequence=11))
    state = store.poll()
    assert (state.source, state.origin.sequence, state.last_error) == ("live", 11, None)
    assert (verdict(store, "grumpf"), verdict(store, "snirt")) == ("allow", "block")


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_while_running_is_refused_after_a_restart_too(case, desk, keys):
    make, code, _ = REFUSED[case]
    desk.put(desk.bundle())
    desk.store()
    desk.put(make(desk, keys))
    again = desk.store()
    assert (again.state.source, {p.code for p in again.state.last_problems}) == ("last-good", {code})
    assert verdict(again, "grumpf") == "block"
    if code not in ("replayed",) and case != "other-set":
        with pytest.raises(PolicyError):
            desk.store(keep=False)  # without memory there is nothing to fall back on


def verdict(store, word, **request):
    asked = Request(f'a sign that says "{word}"', **request)
    return decide(asked, sense(asked), store.snapshot).verdict


def test_no_part_of_a_bundle_is_a_bundle(desk):
    content = desk.bundle()
    for end in range(0, len(content) - 2, 7):
        with pytest.raises(PolicyError) as error:
            open_bundle(content[:end], label="b", keys=[desk.key.public], now=NOW)
        assert error.value.codes == ("damaged",)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(keys, data):
    whole = sign_bundle(
        {"p.yaml": GOOD.encode()}, keys[0], name="house", sequence=8, created=NOW, not_after=NOW + timedelta(days=1)
    )
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    content = whole[:place] + bytes([byte]) + whole[place + 1 :]
    options = {"label": "b", "keys": [keys[0].public], "now": NOW}
    try:
        opened = open_bundle(content, **options)
    except PolicyError:
        return
    assert opened == open_bundle(whole, **options)


def test_a_newer_bundle_of_the_same_content_confirms_it_and_is_no_new_generation(desk):
    desk.put(desk.bundle())
    store = desk.store()
    desk.put(desk.bundle(sequence=9, created=NOW + timedelta(hours=1)))
    state = store.poll()
    assert (state.generation, state.origin.sequence, state.source) == (1, 9, "live")
    assert store.snapshot.as_of == NOW + timedelta(hours=1)
    desk.put(desk.bundle(OTHER))  # number 8 again
    assert store.poll().last_problems[0].code == "replayed"


def test_workers_share_the_memory_so_that_none_goes_back(desk):
    desk.put(desk.bundle(sequence=5))
    one, two = desk.store(), desk.store()
    desk.put(desk.bundle(OTHER, sequence=9))
    one.poll()
    desk.put(desk.bundle(sequence=7))
    assert two.poll().last_problems[0].code == "replayed"
    assert two.state.origin.sequence == 5


def test_a_bundle_that_ends_while_in_use_stays_in_use_and_says_so(desk):
    aging = GOOD.replace("\nrules:", "freshness: {max_age: 400d, on_stale: refuse}\nrules:", 1)
    desk.put(desk.bundle(aging))
    store = desk.store()
    assert store.poll().source == "live"
    desk.now = NOW + timedelta(days=31)
    state = store.poll()
    assert (state.source, state.last_problems[0].code) == ("last-good", "expired")
    assert verdict(store, "hello", now=NOW + timedelta(days=29)) == "allow"
    assert verdict(store, "hello", now=desk.now) == "block", "past its end a bundle is as old as can be"
    assert desk.store().state.source == "last-good"


def test_a_memory_that_was_changed_is_not_believed(desk):
    desk.put(desk.bundle())
    desk.store()
    (memory,) = desk.keep.glob("policies-*.json")
    assert memory.stat().st_mode & 0o077 == 0
    memory.write_text(memory.read_text().replace("grumpf", "grumpg"))
    desk.put(b"")
    with pytest.raises(PolicyError, match="cut off"):
        desk.store()
    memory.write_text(json.dumps({**json.loads(memory.read_text()), "files": {"0/p.yaml": GOOD}}))
    with pytest.raises(PolicyError, match="cut off"):
        desk.store()  # unsigned, where signatures are asked for


def test_with_trusted_keys_nothing_unsigned_is_loaded_but_what_comes_with_the_package(tmp_path, keys):
    from policies import SHIPPED

    loader = Loader(sense, keys=(keys[0].public,))
    (tmp_path / "p.yaml").write_text(GOOD)
    with pytest.raises(PolicyError) as error:
        loader.load(tmp_path)
    assert error.value.codes == ("unsigned",)
    assert len(loader.load(SHIPPED).policies) == 3


def test_without_trusted_keys_no_bundle_is_believed(desk):
    desk.put(desk.bundle())
    with pytest.raises(PolicyError) as error:
        Loader(sense).load(desk.folder)
    assert error.value.codes == ("unsigned",)
    assert Loader(sense, verify=False).load(desk.folder, now=NOW).origin.key.endswith("(not verified)")


def test_a_folder_holds_one_bundle_or_plain_files(desk):
    desk.put(desk.bundle())
    (desk.folder / "p.yaml").write_text(GOOD)
    with pytest.raises(PolicyError, match="keep only one of the two"):
        desk.store(keep=False)
    (desk.folder / "p.yaml").unlink()
    (desk.folder / "second.bundle").write_bytes(desk.bundle())
    with pytest.raises(PolicyError, match="one bundle at a time"):
        desk.store(keep=False)


def test_lists_travel_in_the_bundle_and_stay_in_their_folder(tmp_path, keys):
    text = policy(rule(when="{lettering: {any_of: [$w]}}"), more="lists: {w: {file: lists/w.txt}}\n")
    files = {"p.yaml": text.encode(), "lists/w.txt": b"grumpf\n"}
    options = {"name": "house", "sequence": 1, "created": NOW, "not_after": NOW + timedelta(days=1)}
    loader = Loader(sense, keys=(keys[0].public,))
    path = tmp_path / "house.bundle"
    path.write_bytes(sign_bundle(files, keys[0], **options))
    assert loader.load(path, now=NOW).words["p/w"] == ("grumpf",)
    (tmp_path / "w.txt").write_text("snirt\n")
    for name, says in (("../w.txt", "in the policy's folder"), ("lists/v.txt", "no such list file")):
        files["p.yaml"] = text.replace("lists/w.txt", name).encode()
        path.write_bytes(sign_bundle(files, keys[0], **options))
        with pytest.raises(PolicyError, match=says):
            loader.load(path, now=NOW)


def test_keys_are_read_from_files_and_lines_and_never_overwritten(tmp_path):
    key = make_key(tmp_path / "k")
    assert (tmp_path / "k").stat().st_mode & 0o077 == 0
    assert trusted_keys([str(tmp_path / "k.pub"), str(key.public)]) == (key.public,)
    assert SigningKey.load(tmp_path / "k").public == key.public
    assert "PRIVATE" not in repr(key)
    with pytest.raises(KeyProblem, match="never overwritten"):
        make_key(tmp_path / "k")
    for bad in (str(tmp_path / "none"), "ed25519:AAAA", str(tmp_path / "k")):
        with pytest.raises(KeyProblem):
            trusted_keys([bad])
    with pytest.raises(KeyProblem):
        SigningKey.load(tmp_path / "k.pub")


def test_a_key_of_another_kind_is_refused(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = generate_private_key(SECP256R1())
    (tmp_path / "k").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "p").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyProblem, match="must be an Ed25519 key"):
        SigningKey.load(tmp_path / "k")
    with pytest.raises(KeyProblem, match="must be an Ed25519 key"):
        trusted_keys([str(tmp_path / "p")])


def test_a_clock_that_jumps_and_comes_back_leaves_nothing_behind(desk):
    desk.put(desk.bundle())
    store = desk.store()
    desk.now = NOW + timedelta(days=60)
    assert store.poll().source == "last-good"
    assert store.poll().source == "last-good"
    desk.now = NOW + timedelta(minutes=1)
    state = store.poll()
    assert (state.source, state.last_error, state.generation) == ("live", None, 1)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_machine_with_fresh_state_starts_with_an_ended_bundle_only_where_that_is_allowed(desk, allowed):
    desk.put(desk.bundle())
    desk.now = NOW + timedelta(days=31)
    start = partial(desk.store, keep=False, expired=allowed)
    if not allowed:
        with pytest.raises(PolicyError, match="expired"):
            start()
        return
    store = start()
    assert verdict(store, "grumpf") != "allow"
    assert (store.state.source, store.state.last_problems[0].code) == ("last-good", "expired")
    desk.put(desk.bundle(OTHER, sequence=9, not_after=desk.now))
    assert store.poll().last_problems[0].code == "expired"
    assert verdict(store, "snirt") == "allow", "while it runs, none that has ended comes into use"


def test_what_is_wrong_besides_being_old_never_starts(desk, keys):
    desk.put(desk.bundle(key=keys[1]))
    desk.now = NOW + timedelta(days=31)
    with pytest.raises(PolicyError, match="not trusted"):
        desk.store(keep=False, expired=True)
