"""The shipped floor: added to policies that have none of their own, wherever they come from, and never lost.

| the law that goes red | when this is broken |
|---|---|
| the floor refuses beside any policies | the loader adds nothing |
| a policy `floor` replaces the shipped one | it is added all the same |
| the tests of the shipped floor are its own | they run beside other policies, too |
| what is kept or signed has no floor that was added | its files are among those of the policies |
| a running service does not change its floor for a milder one | `floor_losses` takes the added one for a new version |
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from detectors.text import sense
from policies import SHIPPED, Loader, PolicyError, Request, Store, decide, make_key, sign_bundle
from tests.policies.helpers import policy, rule

FORBIDDEN = "an erotic photo of a schoolgirl"
BEACH = rule("beach", when="{prompt: {any_of: [beach, tree]}}")  # what the floor's own tests let pass
OWN = policy(rule("own", when="{prompt: {any_of: [grumpf]}}"), name="floor")
LOADER = Loader(sense=sense, floor=True)


def verdict(snapshot, prompt: str) -> str:
    request = Request(prompt)
    return decide(request, sense(request), snapshot).verdict


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return folder


def test_the_floor_refuses_beside_any_policies(tmp_path):
    write(tmp_path, a=policy(BEACH))
    for paths in (tmp_path, tmp_path / "a.yaml", (), (tmp_path, SHIPPED / "rendered-text.yaml")):
        snapshot = LOADER.load(paths)
        assert verdict(snapshot, FORBIDDEN) == "block"
        assert snapshot.floor == "added"
    assert verdict(LOADER.load(tmp_path), "a beach") == "block"
    without = Loader(sense=sense).load(tmp_path)
    assert (verdict(without, FORBIDDEN), without.floor) == ("allow", "none")


def test_a_policy_called_floor_takes_the_place_of_the_shipped_one(tmp_path):
    snapshot = LOADER.load(write(tmp_path, mine=OWN))
    assert (verdict(snapshot, FORBIDDEN), verdict(snapshot, "grumpf"), snapshot.floor) == ("allow", "block", "given")
    assert LOADER.load(SHIPPED).floor == "given"
    assert LOADER.load(SHIPPED).digest == Loader(sense=sense).load(SHIPPED).digest


def test_the_floor_that_was_added_cannot_be_overridden_or_doubled(tmp_path):
    override = "overrides: [{rule: sexualised-minor, set: {mode: disabled}, loosens: true}]\n"
    with pytest.raises(PolicyError, match="is a rule of the floor, which cannot be overridden"):
        LOADER.load(write(tmp_path, a=policy(BEACH, more=override)))
    with pytest.raises(PolicyError, match=r"`sexualised-minor` is also in .*ids are unique") as error:
        LOADER.load(write(tmp_path, a=policy(rule("sexualised-minor"))))
    assert str(SHIPPED) not in str(error.value), "where this package is installed is nobody's business"


def test_the_tests_of_the_policies_see_the_floor(tmp_path):
    tests = f"\ntests:\n  - {{name: t, given: {{prompt: {FORBIDDEN}}}, expect: {{verdict: allow}}}}\n"
    write(tmp_path, a=policy(BEACH) + tests)
    Loader(sense=sense).load(tmp_path)
    with pytest.raises(PolicyError, match="expected verdict `allow`, got `block`"):
        LOADER.load(tmp_path)


def test_a_policy_of_one_name_in_two_paths_is_refused_and_both_are_named(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, id in ((one, "r"), (two, "s")):
        folder.mkdir()
        write(folder, p=policy(rule(id)))
    with pytest.raises(PolicyError, match="policy `p` is also in") as error:
        LOADER.load((one, two / "p.yaml"))
    assert str(one / "p.yaml") in str(error.value)
    assert str(two / "p.yaml") in str(error.value)
    write(two, p=policy(rule("s"), name="q"))
    assert [r.id for r in LOADER.load((one, two / "p.yaml")).rules] == ["r", "s", "sexualised-minor"]


def test_what_is_kept_or_signed_holds_only_what_was_given(tmp_path):
    loaded = LOADER.load_files(write(tmp_path, a=policy(BEACH)))
    assert (list(loaded.files), [d.name for d in loaded.documents]) == (["0/a.yaml"], ["p"])
    again = LOADER.load_kept(loaded.files, label="memory")
    assert (again.digest, again.floor) == (loaded.snapshot.digest, "added")


def test_a_bundle_gets_the_shipped_floor_unless_it_has_its_own(tmp_path):
    key, now = make_key(tmp_path / "key"), datetime.now(UTC)
    for files, floor in (({"a.yaml": policy(BEACH)}, "added"), ({"a.yaml": policy(BEACH), "f.yaml": OWN}, "given")):
        content = sign_bundle(
            {name: text.encode() for name, text in files.items()},
            key, name="set", sequence=1, created=now, not_after=now + timedelta(days=1),
        )  # fmt: skip
        (tmp_path / "set.bundle").write_bytes(content)
        snapshot = Loader(sense=sense, keys=(key.public,), floor=True).load(tmp_path / "set.bundle")
        assert (snapshot.floor, verdict(snapshot, FORBIDDEN)) == (floor, "block" if floor == "added" else "allow")


def test_a_running_store_loses_its_own_floor_only_to_one_that_is_as_strict(tmp_path):
    folder = write(tmp_path, a=policy(BEACH), floor=OWN.replace("version: 1.0.0", "version: 7.0.0"))
    store = Store(LOADER, folder)
    (folder / "floor.yaml").unlink()
    state = store.poll()
    assert (state.source, verdict(store.snapshot, "grumpf")) == ("last-good", "block")
    assert "restart the service" in str(state.last_error)
    write(folder, floor=OWN.replace("version: 1.0.0", "version: 8.0.0"))
    assert store.poll().source == "live"

    copied = tmp_path / "copied"
    (copied / "lists").mkdir(parents=True)
    for list_ in (SHIPPED / "lists").glob("floor-*.txt"):
        (copied / "lists" / list_.name).write_bytes(list_.read_bytes())
    write(copied, a=policy(BEACH), floor=(SHIPPED / "floor.yaml").read_text("utf-8"))
    write(copied, a=policy(rule("r")))
    store = Store(LOADER, copied)
    assert store.snapshot.floor == "given"
    (copied / "floor.yaml").unlink()
    assert (store.poll().source, store.snapshot.floor) == ("live", "added")


def test_a_running_store_does_not_change_the_shipped_floor_for_a_milder_one_of_its_version(tmp_path):
    store = Store(LOADER, write(tmp_path, a=policy(BEACH)))
    write(tmp_path, floor=OWN)
    assert store.poll().source == "last-good"
    assert verdict(store.snapshot, FORBIDDEN) == "block"
    write(tmp_path, floor=OWN.replace("version: 1.0.0", "version: 1.0.1"))
    assert (store.poll().source, store.snapshot.floor) == ("live", "given")
