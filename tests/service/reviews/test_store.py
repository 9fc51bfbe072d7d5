"""The store of held cases: what two workers, a crash, a full disk and a changed file do to it.

| break | red |
|---|---|
| `decide` without `AND state = 'pending'` | of two connections one decides |
| write the row before the file, or no unlink | a crash leaves no row without its file |
| no associated data | a file in the place of another does not open |
| no check of the room | both quotas |
| no check in the transaction | the last room is given once |
| `sweep` forgets the files | what expires is gone from the disk |
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.reviews import store as module
from service.reviews.cases import Case, Content, Reason, pack, unpack
from service.reviews.store import CaseStore, Decided, Full, NoCase, Quota, new_id
from service.sealing import Tampered

CANARY = "a zebra-crossing palindrome"
DAY = 86_400.0
EVERY: dict[str, Any] = {"state": None, "queue": None, "tenant": None, "after": None, "limit": 100}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_store(tmp_path: Path, clock: Clock) -> Iterator[Any]:
    opened: list[CaseStore] = []

    def make(cases: int = 10, size: int = 1 << 20) -> CaseStore:
        opened.append(CaseStore(tmp_path, Quota(cases, size, DAY), clock=clock))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def content(size: int = 100, *, repaired: bool = False) -> Content:
    picture = CANARY.encode() * size
    about = {"prompt": CANARY}
    return Content(about, {"size": "1x1"}, (picture, b""), {"size": "2x2"} if repaired else None, (picture,) * repaired)


def keep(store: CaseStore, clock: Clock | None = None, queue: str = "default", tenant: str = "studio") -> Case:
    if clock is not None:
        clock.now += 1
    return store.keep(new_id(), queue, tenant, ("no-zebras",), content())


def ids(store: CaseStore, **asked: Any) -> list[str]:
    return [case.id for case in store.page(**{**EVERY, **asked})]


def files(folder: Path) -> set[str]:
    return {file.name for file in (folder / "reviews").glob("*.case*")}


@pytest.mark.parametrize("repaired", [False, True])
def test_what_is_packed_comes_back(repaired: bool) -> None:
    assert unpack(pack(content(repaired=repaired))) == content(repaired=repaired)


def test_a_case_is_found_again_after_a_restart_and_by_another_worker(open_store: Any) -> None:
    store, other = open_store(), open_store()
    case = keep(store)
    assert other.find(case.id) == case
    assert other.content(case) == content()
    store.close()
    assert open_store().find(case.id) == case
    with pytest.raises(NoCase):
        other.find(new_id())


def test_nothing_is_in_clear_on_disk_and_only_the_owner_reads_it(open_store: Any, tmp_path: Path) -> None:
    store = open_store()
    case = keep(store)
    store.decide(keep(store).id, "released", chosen=False, reason=Reason(CANARY, told=True))
    assert store.content(case).about["prompt"] == CANARY
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"review.key", "index.sqlite", f"{case.id}.case"} <= {path.name for path in found}
    for path in found:
        raw = path.read_bytes()
        assert not any(word.encode() in raw for word in CANARY.split()[1:]), path.name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_of_two_connections_one_decides(open_store: Any) -> None:
    stores, won, lost = [open_store() for _ in range(4)], [], []
    case, start = keep(stores[0]), threading.Barrier(4)

    def decide(store: CaseStore, state: Any) -> None:
        start.wait()
        try:
            won.append(store.decide(case.id, state, chosen=False, reason=None))
        except Decided as error:
            lost.append(error.args[0])

    threads = [
        threading.Thread(target=decide, args=(store, "released" if k % 2 else "rejected"))
        for k, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert lost == [won[0].state] * 3


def test_cases_kept_by_two_connections_at_once_are_all_there_once(open_store: Any, tmp_path: Path) -> None:
    stores = [open_store(cases=100), open_store(cases=100)]
    threads = [threading.Thread(target=lambda s=store: [keep(s) for _ in range(15)]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = ids(stores[0])
    assert len(got) == len(set(got)) == 30
    assert files(tmp_path) == {f"{each}.case" for each in got}


def test_a_crash_leaves_no_row_without_its_file_and_no_file_for_long(
    open_store: Any, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    (tmp_path / "reviews" / f"{new_id()}.case").write_bytes(b"written, and then the worker was killed")
    (tmp_path / "reviews" / f"{new_id()}.case.part").write_bytes(b"killed while it wrote")
    for file in (tmp_path / "reviews").glob("*.case*"):
        os.utime(file, (clock.now, clock.now))
    case = keep(store)
    store.sweep()
    assert len(files(tmp_path)) == 3, "another worker may be about to write the row"
    clock.now += 3601
    os.utime(tmp_path / "reviews" / f"{case.id}.case", (1, 1))
    store.sweep()
    assert files(tmp_path) == {f"{case.id}.case"}

    def broken(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="no space"):
        keep(store)
    assert files(tmp_path) == {f"{case.id}.case"}, "before anything sweeps"
    assert ids(store) == [case.id]


def test_there_is_room_for_so_many_cases_that_wait(open_store: Any, tmp_path: Path) -> None:
    store, other = open_store(cases=2), open_store(cases=2)
    first, _ = keep(store), keep(other)
    with pytest.raises(Full):
        keep(store)
    assert len(files(tmp_path)) == 2
    store.decide(first.id, "released", chosen=False, reason=None)
    keep(other)


def test_the_last_room_is_given_once_and_the_file_of_who_came_late_is_gone(
    open_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other, write = open_store(cases=1), open_store(cases=1), module.write_private

    def while_another_is_faster(file: Path, raw: bytes) -> None:
        write(file, raw)
        monkeypatch.setattr(module, "write_private", write)
        keep(other)

    monkeypatch.setattr(module, "write_private", while_another_is_faster)
    with pytest.raises(Full):
        keep(store)
    assert files(tmp_path) == {f"{each}.case" for each in ids(store)}
    assert len(ids(store)) == 1


def test_there_is_room_for_so_many_bytes_also_of_released_cases(open_store: Any) -> None:
    size = keep(open_store()).bytes
    store = open_store(size=2 * size)
    second = keep(store)
    store.decide(second.id, "released", chosen=False, reason=None)
    with pytest.raises(Full):
        keep(store)
    store.decide(ids(store, state="pending")[0], "rejected", chosen=False, reason=None)
    keep(store)


def test_the_file_of_a_rejected_case_is_gone_at_once_and_of_a_released_one_at_the_end(
    open_store: Any, clock: Clock, tmp_path: Path
) -> None:
    store = open_store()
    no, yes = keep(store), keep(store)
    store.decide(no.id, "rejected", chosen=False, reason=None)
    store.decide(yes.id, "released", chosen=False, reason=None)
    store.sweep()
    assert files(tmp_path) == {f"{yes.id}.case"}
    clock.now += DAY + 1
    assert store.find(yes.id).state == "expired", "before anything sweeps"
    assert store.sweep() == 0
    assert files(tmp_path) == set()
    assert (store.find(no.id).state, store.find(yes.id).state) == ("rejected", "expired")
    clock.now += DAY
    store.sweep()
    assert ids(store) == []


def test_what_nobody_decides_expires_once_and_cannot_be_decided_then(
    open_store: Any, clock: Clock, tmp_path: Path
) -> None:
    store, other = open_store(cases=1), open_store(cases=1)
    case = keep(store)
    clock.now += DAY + 1
    for state in ("released", "rejected"):
        with pytest.raises(Decided, match="expired"):
            other.decide(case.id, state, chosen=False, reason=None)
    keep(other)
    assert store.sweep() + other.sweep() == 1
    assert case.id not in {name.partition(".")[0] for name in files(tmp_path)}


def test_a_changed_file_and_one_in_the_place_of_another_do_not_open_and_harm_no_other(
    open_store: Any, tmp_path: Path
) -> None:
    store = open_store()
    good, changed, moved, gone = (keep(store) for _ in range(4))
    place = {case.id: tmp_path / "reviews" / f"{case.id}.case" for case in (good, changed, moved, gone)}
    raw = bytearray(place[changed.id].read_bytes())
    raw[40] ^= 1
    place[changed.id].write_bytes(raw)
    place[moved.id].write_bytes(place[good.id].read_bytes())
    place[gone.id].unlink()
    for case, error in ((changed, Tampered), (moved, Tampered), (gone, NoCase)):
        with pytest.raises(error):
            store.content(case)
    assert store.content(good) == content()
    assert len(ids(store)) == 4
    store.decide(changed.id, "rejected", chosen=False, reason=None)


def test_pages_follow_each_other_and_filters_hold(open_store: Any, clock: Clock) -> None:
    store = open_store()
    cases = [keep(store, clock if k % 2 else None, f"q{k % 2}", f"t{k % 3}") for k in range(7)]
    got: list[str] = []
    while page := ids(store, limit=2, after=got[-1] if got else None):
        got += page
    assert sorted(got) == sorted(case.id for case in cases)
    assert got == [case.id for case in sorted(cases, key=lambda c: (c.created, c.id))]
    assert set(ids(store, queue="q1", tenant="t0")) == {cases[3].id}
    assert ids(store, state="released") == []
    assert {name: depth for name, (depth, _) in store.depths().items()} == {"q0": 4, "q1": 3}
    assert min(since for _, since in store.depths().values() if since) == cases[0].created


def test_a_reason_is_sealed_to_its_case(open_store: Any) -> None:
    store = open_store()
    case = keep(store)
    assert store.reason(case.id) is None
    store.decide(case.id, "released", chosen=True, reason=Reason("harmless", told=False))
    assert store.reason(case.id) == Reason("harmless", told=False)
    assert store.find(case.id).chosen
