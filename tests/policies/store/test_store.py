"""A changed file goes live within a second, and nothing that is wrong with it takes the last good policy away."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from detectors.text import sense
from policies import Loader, PolicyError, Request, Store, decide
from tests.policies.helpers import policy, rule

GOOD = policy(rule())
OTHER = GOOD.replace("grumpf", "snirt")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def store(file):
    store = Store(Loader(sense=sense), file)
    yield store
    store.close()


def verdict(store, word):
    request = Request(f'a sign that says "{word}"')
    return decide(request, sense(request), store.snapshot).verdict


def test_the_first_load_raises_and_later_ones_never_do(file, store):
    assert store.state.generation == 1
    file.write_text("nonsense: [")
    assert store.poll().source == "last-good"
    with pytest.raises(PolicyError):
        Store(Loader(sense=sense), file)


@pytest.mark.parametrize(
    "broken",
    [
        "",
        GOOD[: len(GOOD) // 2],
        GOOD[:-3],
        GOOD.replace("schema: palimpsest.policy/v1", "schema: palimpsest.policy/v9"),
        GOOD + "a: &x [1]\nb: *x\n",
        GOOD + "\ntests:\n  - {name: a, given: {prompt: x}, expect: {verdict: block}}\n",
        "\x00\x01",
        None,
    ],
    ids=["empty", "half", "truncated", "schema", "alias", "failing-test", "binary", "deleted"],
)
def test_a_broken_file_keeps_the_last_good_policy_and_says_why(file, store, broken):
    before = store.snapshot
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    state = store.poll()
    assert store.snapshot is before
    assert (state.source, state.generation) == ("last-good", 1)
    assert str(file) in state.last_error
    assert verdict(store, "grumpf") == "block"
    file.write_text(OTHER)
    state = store.poll()
    assert (state.source, state.generation, state.last_error) == ("live", 2, None)
    assert (verdict(store, "grumpf"), verdict(store, "snirt")) == ("allow", "block")


def test_a_change_of_layout_alone_is_no_new_generation(file, store):
    before = store.snapshot
    file.write_text("# a comment\n" + GOOD)
    assert store.poll().generation == 1
    assert store.snapshot is before


def test_a_change_that_keeps_size_and_time_is_seen_while_the_file_is_young(file, store):
    stat = file.stat()
    file.write_text(GOOD.replace("grumpf", "snirtt"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size
    assert store.poll().generation == 2


def test_a_file_whose_content_stays_is_loaded_once(file):
    heard = []
    store = Store(Loader(sense=sense), file, on_reload=heard.append)
    for stamp in (1_000_000_000, 1_700_000_000):
        os.utime(file, (stamp, stamp))
        store.poll()
    assert heard == []


def test_a_restart_beside_a_broken_file_keeps_what_was_in_use(file, tmp_path):
    first = Store(Loader(sense=sense), file, keep=tmp_path / "state")
    file.write_text("nonsense: [")
    again = Store(Loader(sense=sense), file, keep=tmp_path / "state")
    assert (again.state.source, again.state.digest) == ("last-good", first.state.digest)
    assert verdict(again, "grumpf") == "block"
    assert "nonsense" not in str(again.snapshot.words)
    file.write_text(OTHER)
    assert (again.poll().source, verdict(again, "snirt")) == ("live", "block")
    (tmp_path / "other.yaml").write_text("nonsense: [")
    with pytest.raises(PolicyError):  # what was in use under another path is no stand-in
        Store(Loader(sense=sense), tmp_path / "other.yaml", keep=tmp_path / "state")


def test_a_policy_ages_from_when_its_file_was_last_good(tmp_path):
    now = [datetime(2026, 11, 21, 12, tzinfo=UTC)]
    aging = GOOD.replace("\nrules:", "freshness: {max_age: 1h, on_stale: refuse}\nrules:", 1)
    (tmp_path / "p.yaml").write_text(aging)
    store = Store(Loader(sense=sense), tmp_path / "p.yaml", clock=lambda: now[0])

    def calm():
        request = Request("a hill", now=now[0])
        return decide(request, sense(request), store.snapshot).verdict

    now[0] += timedelta(days=3)
    store.poll()
    assert calm() == "allow", "a file that can be read is current"
    (tmp_path / "p.yaml").write_text("nonsense: [")
    store.poll()
    assert calm() == "allow"
    now[0] += timedelta(minutes=61)
    store.poll()
    assert calm() == "block"
    (tmp_path / "p.yaml").write_text(aging)
    store.poll()
    assert calm() == "allow"


def test_a_changed_list_file_is_a_change_of_policy(tmp_path):
    (tmp_path / "w.txt").write_text("grumpf\n")
    (tmp_path / "p.yaml").write_text(
        policy(rule(when="{lettering: {any_of: [$w]}}"), more="lists: {w: {file: w.txt}}\n")
    )
    store = Store(Loader(sense=sense), tmp_path)
    (tmp_path / "w.txt").write_text("grumpf\nsnirt\n")
    assert store.poll().generation == 2
    assert verdict(store, "snirt") == "block"


def test_the_caller_may_refuse_a_snapshot_that_loads_well(file):
    def accept(snapshot):
        return ["no pack fits `snirt`"] if "snirt" in str(snapshot.words) else []

    store = Store(Loader(sense=sense), file, accept=accept)
    file.write_text(OTHER)
    assert "no pack fits `snirt`" in store.poll().last_error
    assert verdict(store, "grumpf") == "block"
    with pytest.raises(PolicyError, match="no pack fits"):
        Store(Loader(sense=sense), file, accept=accept)


def test_a_change_is_in_force_within_a_second_and_nobody_sees_two_versions_at_once(file):
    heard = []
    store = Store(Loader(sense=sense), file, interval=0.1, on_reload=heard.append)
    stop, mixed = threading.Event(), []

    def reader():
        while not stop.is_set():
            snapshot = store.snapshot
            words = str(snapshot.words)
            if ("grumpf" in words) == ("snirt" in words):
                mixed.append(words)

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        for text, word in ((OTHER, "snirt"), (GOOD, "grumpf"), (OTHER, "snirt")):
            start = time.monotonic()
            file.write_text(text)
            while verdict(store, word) != "block":
                assert time.monotonic() - start < 1.0
                time.sleep(0.01)
    finally:
        stop.set()
        thread.join()
        store.close()
    assert mixed == []
    assert [s.generation for s in heard if s.last_error is None] == [2, 3, 4]


def test_the_polling_ends_with_close(file):
    store = Store(Loader(sense=sense), file, interval=0.05)
    store.close()
    file.write_text(OTHER)
    time.sleep(0.2)
    assert verdict(store, "grumpf") == "block"
