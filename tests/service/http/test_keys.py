"""Keys: what opens, for whom, until when; and how often a key may ask.

| the law that goes red | when this is broken |
|---|---|
| a key that has ended opens nothing | `now < record.expires` becomes `<=` reversed |
| a file that cannot be read leaves the keys at hand | `_reload` clears the records first |
| what is written opens nothing | `new_key` stores the key |
| a bucket never gives more than its rate | `min(self._burst, ...)` is dropped |
| workers share a bucket | the limiter keeps its tokens in memory |
"""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import RateLimited
from service.http.keys import NOBODY, Caller, KeyRing, load_keys_file, new_key, revoke, save_keys_file
from service.http.limits import RateLimiter, RedisBuckets
from service.settings import SettingsError

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def bearer(key: str) -> str:
    return f"Bearer {key}"


def test_without_any_key_everybody_is_nobody_who_may_not_write_policies() -> None:
    assert KeyRing().find("") == NOBODY
    assert "policy:write" not in NOBODY.scopes


def test_plain_keys_open_everything_but_writing_policies() -> None:
    ring = KeyRing(["first", "second"])
    assert ring.find("") is None
    assert ring.find(bearer("third")) is None
    assert ring.find("Basic first") is None
    assert ring.find(bearer("second")) == ring.find("bearer first") == NOBODY


def test_a_key_of_the_file_has_its_name_and_scopes_and_what_is_written_opens_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key, record = new_key("studio", ["generate", "metrics"], now=NOW, per_minute=5)
    save_keys_file(file, [record])
    ring = KeyRing(file=file)
    assert ring.find(bearer(key), now=NOW) == Caller("studio", frozenset(("generate", "metrics")), 5)
    assert key not in file.read_text()
    assert ring.find(bearer(record.sha256), now=NOW) is None
    assert ring.find(bearer(record.id), now=NOW) is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_keys_file(file) == (record,)


def test_keys_rotate_while_the_ring_is_in_use(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    old, first = new_key("studio", ["generate"], now=NOW)
    save_keys_file(file, [first])
    ring = KeyRing(file=file)
    assert ring.find(bearer(old), now=NOW)
    new, second = new_key("studio", ["generate"], now=NOW)
    save_keys_file(file, [first, second])
    assert ring.find(bearer(old), now=NOW) == ring.find(bearer(new), now=NOW)
    save_keys_file(file, revoke([first, second], first.id, now=NOW))
    assert ring.find(bearer(old), now=NOW) is None
    assert ring.find(bearer(new), now=NOW)


def test_a_key_lives_up_to_its_end_and_not_at_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key, record = new_key("studio", ["generate"], now=NOW, expires=NOW + timedelta(days=1))
    save_keys_file(file, [record])
    ring = KeyRing(file=file)
    assert ring.find(bearer(key), now=NOW + timedelta(hours=23, minutes=59))
    assert ring.find(bearer(key), now=NOW + timedelta(days=1)) is None


@pytest.mark.parametrize("damage", ["torn", "gone", "[" * 100_000, '{"format": "palimpsest.keys/v1", "keys": [""]}'])
def test_a_file_that_cannot_be_read_any_more_leaves_the_keys_at_hand(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "keys.json"
    key, record = new_key("studio", ["generate"], now=NOW)
    save_keys_file(file, [record])
    ring = KeyRing(file=file)
    assert ring.find(bearer(key), now=NOW)
    if damage == "gone":
        file.unlink()
    else:
        file.write_text(file.read_text()[:50] if damage == "torn" else damage)
    assert ring.find(bearer(key), now=NOW)
    assert ring.find("", now=NOW) is None, "a file that is gone opens nothing to everybody"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scopes": ["generate", "root"]}, "unknown scope `root`"),
        ({"scopes": []}, "needs a scope"),
        ({"name": "A B"}, "name must be"),
        ({"sha256": "abc"}, "64 hexadecimal"),
        ({"created": "2030-01-01T00:00:00"}, "time zone"),
        ({"per_minute": 0}, "must be positive"),
        ({"per_minute": float("nan")}, "must be positive and finite"),
        ({"id": []}, "id must be a string"),
        ({"colour": "red"}, "unknown field `colour`"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    file = tmp_path / "keys.json"
    save_keys_file(file, [new_key("studio", ["generate"], now=NOW)[1]])
    values = json.loads(file.read_text())
    values["keys"][0] |= change
    file.write_text(json.dumps(values))
    with pytest.raises(SettingsError, match=said):
        load_keys_file(file)


def test_the_commands_make_show_and_end_keys(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from palimpsest.cli.main import app

    file, runner = tmp_path / "keys.json", CliRunner()
    made = runner.invoke(app, ["keys", "new", "studio", "--scopes", "generate,policy:write", "--file", str(file)])
    key = made.stdout.strip()
    ring = KeyRing(file=file)
    caller = ring.find(bearer(key))
    assert caller is not None
    assert caller.scopes == {"generate", "policy:write"}
    shown = runner.invoke(app, ["keys", "list", "--file", str(file), "--json"])
    (row,) = json.loads(shown.stdout)
    assert (row["name"], key in shown.stdout, "sha256" in row) == ("studio", False, False)
    assert runner.invoke(app, ["keys", "revoke", row["id"], "--file", str(file)]).exit_code == 0
    assert ring.find(bearer(key)) is None
    assert runner.invoke(app, ["keys", "new", "x", "--scopes", "root", "--file", str(file)]).exit_code == 2
    assert runner.invoke(app, ["keys", "new", "x", "--expires", "soon", "--file", str(file)]).exit_code == 2


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_the_rate_is_kept_and_the_way_out_is_true(tmp_path: Path) -> None:
    clock = Clock()
    limiter = RateLimiter(tmp_path, per_minute=30, burst=3, clock=clock)
    caller = Caller("studio", frozenset())
    for _ in range(3):
        limiter.take(caller)
    with pytest.raises(RateLimited) as error:
        limiter.take(caller)
    wait = int(error.value.headers["Retry-After"])
    clock.now += wait
    limiter.take(caller)
    with pytest.raises(RateLimited):
        limiter.take(caller)
    limiter.take(Caller("other", frozenset()))


def test_workers_share_a_bucket_and_a_key_may_have_its_own_rate(tmp_path: Path) -> None:
    clock = Clock()
    one, other = (RateLimiter(tmp_path, per_minute=60, burst=2, clock=clock) for _ in range(2))
    caller = Caller("studio", frozenset())
    one.take(caller)
    other.take(caller)
    with pytest.raises(RateLimited):
        one.take(caller)
    clock.now += 1
    other.take(caller)
    slow = Caller("slow", frozenset(), per_minute=1)
    one.take(slow), one.take(slow)
    clock.now += 59
    with pytest.raises(RateLimited):
        one.take(slow)


@settings(max_examples=60, deadline=None)
@given(waits=st.lists(st.sampled_from((0.0, 0.1, 0.5, 3.0)), min_size=8, max_size=60))
def test_no_pattern_of_asking_gets_more_than_the_burst_and_the_rate(
    tmp_path_factory: pytest.TempPathFactory, waits: list[float]
) -> None:
    clock, burst, rate = Clock(), 4, 2.0
    limiter = RateLimiter(tmp_path_factory.mktemp("limits"), per_minute=60 * rate, burst=burst, clock=clock)
    caller, passed = Caller("studio", frozenset()), list[float]()
    for wait in waits:
        clock.now += wait
        try:
            limiter.take(caller)
            passed.append(clock.now)
        except RateLimited:
            continue
    for i, began in enumerate(passed):  # in every stretch of time, not only from the beginning on
        for k, now in enumerate(passed[i:], 1):
            assert k <= burst + rate * (now - began) + 1e-6


class Shared:
    """Redis as a script tells it: the waits that it answers, or that it fails."""

    failures = (ConnectionError,)

    def __init__(self) -> None:
        self.answers: float | None = 0.0
        self.asked: list[tuple[str, float]] = []

    def taken(self, name: str, rate: float) -> float:
        self.asked.append((name, rate))
        if self.answers is None:
            raise ConnectionError
        return self.answers


def test_a_shared_bucket_decides_while_it_answers_and_each_server_alone_while_it_does_not(tmp_path: Path) -> None:
    clock, shared, apart = Clock(), Shared(), list[int]()
    options: dict[str, Any] = {"clock": clock, "shared": shared, "apart": lambda: apart.append(1)}
    limiter = RateLimiter(tmp_path, per_minute=60, burst=2, **options)
    caller = Caller("studio", frozenset())
    for _ in range(5):
        limiter.take(caller)  # more than the burst of this server
    assert shared.asked[0][1] == 1.0
    assert "studio" not in shared.asked[0][0], "no name leaves this machine"
    shared.answers = 3.0
    with pytest.raises(RateLimited) as error:
        limiter.take(caller)
    assert error.value.headers["Retry-After"] == "3"
    shared.answers, asked = None, len(shared.asked)
    limiter.take(caller), limiter.take(caller)
    with pytest.raises(RateLimited):
        limiter.take(caller)
    assert len(apart) == 3
    assert len(shared.asked) == asked + 1, "one failure is enough for a while"
    clock.now += 5
    shared.answers = 0.0
    for _ in range(9):
        limiter.take(caller)
    assert len(apart) == 3


def test_waiting_for_redis_does_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    import asyncio
    import threading

    threads: list[str] = []

    class Slow(Shared):
        def taken(self, name: str, rate: float) -> float:
            threads.append(threading.current_thread().name)
            return 0.0

    limiter = RateLimiter(tmp_path, per_minute=60, burst=2, shared=Slow())  # type: ignore[arg-type]
    asyncio.run(limiter.admit(Caller("studio", frozenset())))
    assert threads != [threading.current_thread().name]


def test_a_redis_that_cannot_be_one_is_a_mistake() -> None:
    with pytest.raises(SettingsError, match="`redis_url` must be `redis://host:port/number`"):
        RedisBuckets("http://127.0.0.1", burst=1)


def test_no_rate_asks_for_no_bucket(tmp_path: Path) -> None:
    limiter = RateLimiter(tmp_path, per_minute=0, burst=1)
    for _ in range(100):
        limiter.take(NOBODY)
    assert os.listdir(tmp_path) == []


def test_a_revoked_key_stays_revoked_when_the_clock_goes_back(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key, record = new_key("studio", ["generate", "console"], now=NOW)
    save_keys_file(file, revoke([record], record.id, now=NOW))
    ring = KeyRing(file=file)
    assert ring.find(bearer(key), now=NOW - timedelta(days=1)) is None
    assert not ring.offers("console", now=NOW - timedelta(days=1))
    assert load_keys_file(file)[0].revoked == NOW


def test_a_key_that_is_revoked_behind_a_swapped_link_opens_nothing(tmp_path: Path) -> None:
    """As Kubernetes swaps a Secret, and with the path that the service hands to its workers."""
    from service.settings import Settings
    from service.worker.launch import environment

    key, record = new_key("studio", ["generate"], now=NOW)
    secret = tmp_path / "secret"
    for name, records in (("..1", [record]), ("..2", revoke([record], record.id, now=NOW))):
        save_keys_file(secret / name / "keys.json", records)
    (secret / "..data").symlink_to("..1")
    (secret / "keys.json").symlink_to("..data/keys.json")
    handed = environment(Settings(keys_file=secret / "keys.json"), tmp_path)["PALIMPSEST_KEYS_FILE"]
    ring = KeyRing(file=Path(handed))
    assert ring.find(bearer(key), now=NOW)
    (secret / "..fresh").symlink_to("..2")
    (secret / "..fresh").rename(secret / "..data")
    (secret / "..1" / "keys.json").unlink()
    (secret / "..1").rmdir()
    assert ring.find(bearer(key), now=NOW) is None


def test_no_path_is_resolved_when_it_is_handed_to_the_workers(tmp_path: Path) -> None:
    from service.settings import Settings
    from service.worker.launch import environment

    (tmp_path / "v1").mkdir()
    (tmp_path / "key.pub").write_text("-")
    for name, target in (("current", "v1"), ("key", "key.pub")):
        (tmp_path / name).symlink_to(target)
    current = tmp_path / "current"
    handed = environment(
        Settings(policy=(str(current),), policy_keys=(str(tmp_path / "key"),), packs=current, state=current), tmp_path
    )
    for name, path in (("PACKS", current), ("STATE", current)):
        assert handed[f"PALIMPSEST_{name}"] == str(path)
    for name, path in (("POLICY", current), ("POLICY_KEYS", tmp_path / "key")):
        assert json.loads(handed[f"PALIMPSEST_{name}"]) == [str(path)]


def test_a_key_is_revoked_where_a_link_leads(tmp_path: Path) -> None:
    file, link = tmp_path / "keys.json", tmp_path / "link.json"
    key, record = new_key("studio", ["generate"], now=NOW)
    save_keys_file(file, [record])
    link.symlink_to(file.name)
    ring = KeyRing(file=file)
    assert ring.find(bearer(key), now=NOW)
    save_keys_file(link, revoke(load_keys_file(link), record.id, now=NOW))
    assert ring.find(bearer(key), now=NOW) is None
    assert link.is_symlink()


@pytest.mark.parametrize("kind", ["fifo", "zero"])
def test_a_keys_file_that_is_no_regular_file_is_refused_and_nothing_waits(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "keys.json"
    os.mkfifo(file) if kind == "fifo" else file.symlink_to("/dev/zero")
    with pytest.raises(SettingsError, match="not a regular file"):
        load_keys_file(file)
