"""Two servers behind one address keep one rate for a key through a real Redis; without it, each keeps its own.

| the law that goes red | when this is broken |
|---|---|
| two servers are one rate | the script's key has the server's name, or tokens are not written back |
| while Redis is away requests are answered at once | the client retries, or is asked for each request |
| strikes of two servers are counted together | the key has the server's name; the script keeps all, or the wrong ones |
| a server of another machine needs nothing but the address | `redis_url` is not passed on to workers |
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from policies import MOST_STRIKES
from service.errors import RateLimited
from service.http.keys import Caller
from service.http.limits import RateLimiter, RedisBuckets
from service.rules.strikes import Person, RedisStrikes, StrikeStore
from tests.running import free_port, serving, until
from tests.tiny import save_pixart

pytestmark = pytest.mark.system
STUDIO = Caller("studio", frozenset())


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts Redis at its port, again if need be."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server; `make test-system` installs it")
    port, running = free_port(), list[subprocess.Popen[bytes]]()

    def start() -> subprocess.Popen[bytes]:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        until(lambda: _answers(port), 20, "Redis answers")
        return running[-1]

    start.url = f"redis://127.0.0.1:{port}/0"  # type: ignore[attr-defined]
    yield start
    for process in running:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    from redis import Redis, RedisError

    try:
        return bool(Redis(port=port).ping())
    except RedisError:
        return False


def limiter(folder: Path, url: str, **options: Any) -> RateLimiter:
    return RateLimiter(folder, per_minute=600, burst=5, shared=RedisBuckets(url, burst=5), **options)


def admitted(one: RateLimiter) -> bool:
    try:
        one.take(STUDIO)
    except RateLimited:
        return False
    return True


def test_two_servers_under_load_are_one_rate(redis: Any, tmp_path: Path) -> None:
    redis()
    servers = [limiter(tmp_path / name, redis.url) for name in ("a", "b")]
    passed, began = [0, 0], time.monotonic()

    def load(k: int) -> None:
        while time.monotonic() - began < 2:
            passed[k] += admitted(servers[k])

    threads = [threading.Thread(target=load, args=(k,)) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    assert min(passed) > 0
    assert 5 + 10 * 1.8 <= sum(passed) <= 5 + 10 * took + 1
    assert not list((tmp_path / "a").iterdir()), "no bucket of its own"


def test_while_redis_is_away_each_server_keeps_the_rate_alone_at_once_and_then_again_together(
    redis: Any, tmp_path: Path
) -> None:
    process, apart = redis(), list[int]()
    one = limiter(tmp_path / "a", redis.url, apart=lambda: apart.append(1))
    assert sum(admitted(one) for _ in range(20)) in (5, 6)
    process.kill()
    process.wait()
    began = time.monotonic()
    assert sum(admitted(one) for _ in range(20)) in (5, 6), "the burst of its own bucket"
    assert time.monotonic() - began < 0.6, "one short try, and then none for a while"
    assert len(apart) == 20
    redis()
    one._ask_again = 0.0
    admitted(one)
    assert len(apart) == 20


def test_servers_count_strikes_together_and_each_keeps_its_own_while_redis_is_away(redis: Any) -> None:
    process, ada, hour = redis(), Person("studio", "k:ada"), timedelta(hours=1)
    one, other = (StrikeStore(RedisStrikes(redis.url)) for _ in range(2))

    def counts(store: StrikeStore) -> tuple[int, int, str | None]:
        got = asyncio.run(store.known(ada, hour))
        return got.count(hour, ("refused",)), got.count(hour, ("refused", "held"), "hate"), got.error

    for k in range(MOST_STRIKES + 5):
        asyncio.run(one.note(ada, f"a{k}", "refused", ("sexual",), hour))
    asyncio.run(other.note(ada, "b", "held", ("hate", "sexual"), hour))
    assert counts(one) == counts(other) == (MOST_STRIKES, 1, None)
    asyncio.run(other.note(ada, "c", "refused", ("hate",), timedelta(seconds=1)))
    time.sleep(1.1)
    assert counts(StrikeStore(RedisStrikes(redis.url))) == (0, 0, None), "kept no longer than was asked for last"
    asyncio.run(one.note(ada, "d", "refused", ("hate",), hour))
    process.kill()
    process.wait()
    began = time.monotonic()
    got = counts(other)
    assert (got[0], got[2] is None) == (1, False)
    assert time.monotonic() - began < 0.6
    redis()
    other._ask_again = 0.0
    assert counts(other)[2] is None


def test_two_services_share_a_rate_and_count_what_they_keep_alone(redis: Any, tmp_path: Path) -> None:
    process = redis()
    model = str(save_pixart(tmp_path / "model"))
    settings: dict[str, Any] = {"policy": "none", "rate_per_minute": 6, "rate_burst": 6, "redis_url": redis.url}
    with (
        serving(tmp_path / "a", model=model, **settings) as one,
        serving(tmp_path / "b", model=model, **settings) as other,
    ):

        def ask(server: Any) -> int:
            sent = httpx.post(f"{server.url}/v1/policies/evaluate", json={"prompt": "a moon"}, timeout=60)
            return sent.status_code

        codes = [ask(server) for server in (one, other) * 6]
        assert codes.count(200) in (6, 7)
        assert codes[-1] == 429
        assert one.metric("rate_fallbacks_total") == 0
        process.kill()
        process.wait()
        assert [ask(one) for _ in range(2)] == [200, 200], "its own bucket is full"
        assert one.metric("rate_fallbacks_total") == 2
        assert "this server keeps rates alone" in one.log
        assert redis.url not in one.log
