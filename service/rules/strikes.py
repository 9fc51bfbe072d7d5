"""Strikes: what a service remembers of requests on which rules acted, for policies that ask for them.

A strike belongs to an API key's name and a person, who is known only by the keyed hash of `safety_identifier`. Nothing
is remembered unless a policy asks, and no longer than it asks for. Each worker has a memory of its own. With
`redis_url` strikes are also in Redis, and all servers with the same `audit_key` count them together. While Redis does
not answer, a worker knows its own strikes and that there may be more: a rule that these are not enough for cannot be
judged, and does what its `on_error` says.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from policies import MOST_STRIKES, Strike, StrikeKind, Strikes
from service.engine.outcome import Outcome
from service.errors import without_message
from service.redis_client import APART_SECONDS, redis_client
from service.settings import Settings

__all__ = ["Person", "RedisStrikes", "StrikeStore", "kind_of", "shared_strikes"]

T = TypeVar("T")

log = logging.getLogger("bentoml.palimpsest.strikes")
_MOST_PERSONS = 20_000  # of one API key in the memory of a worker; the one whose last strike is oldest goes
_UNKNOWN = "Redis does not answer, so strikes that other workers noted are not known"
# KEYS: a person; ARGV: seconds. The clock is Redis', which all servers share
_KNOWN = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local found = {}
local kept = redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[1], '+inf', 'WITHSCORES')
for i = 1, #kept, 2 do
  found[#found + 1] = kept[i]
  found[#found + 1] = tostring(math.max(0, now - kept[i + 1]))
end
return found
"""
# KEYS: a person; ARGV: what the strike is, the id of its request, seconds, most strikes that are the same
_NOTE = """
local time = redis.call('TIME')
local now, start = time[1] + time[2] / 1e6, ARGV[1] .. '|'
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
redis.call('ZADD', KEYS[1], now, start .. ARGV[2])
local same = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(member, 1, #start) == start then same[#same + 1] = member end
end
for i = 1, #same - ARGV[4] do redis.call('ZREM', KEYS[1], same[i]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a request is for: the name of the API key, and the keyed hash of what this calls the person."""

    tenant: str
    hashed: str


@dataclass(frozen=True, slots=True)
class _Noted:
    """A strike: the id of its request, and when it was on the monotonic clock."""

    request: str
    kind: StrikeKind
    categories: frozenset[str]
    at: float


class RedisStrikes:
    """The strikes that all servers of one Redis share. Raises `SettingsError` for a bad `url`."""

    def __init__(self, url: str) -> None:
        client, self.failures = redis_client(url)
        self._known, self._note = client.register_script(_KNOWN), client.register_script(_NOTE)

    def known(self, hashed: str, keep: float) -> dict[str, Strike]:
        """The strikes of the last `keep` seconds by the id of their request. Raises one of `failures`."""
        said = [each.decode() for each in self._known(keys=[_key(hashed)], args=[keep])]
        return dict(_read(member, float(ago)) for member, ago in zip(said[::2], said[1::2], strict=True))

    def note(self, hashed: str, noted: _Noted, keep: float) -> None:
        """Adds a strike. Raises one of `failures`."""
        what = f"{noted.kind}|{','.join(sorted(noted.categories))}"
        self._note(keys=[_key(hashed)], args=[what, noted.request, math.ceil(keep), MOST_STRIKES])


def _key(hashed: str) -> str:
    return f"palimpsest:strikes:{hashed}"


def _read(member: str, ago: float) -> tuple[str, Strike]:
    kind, categories, request = member.split("|")
    return request, Strike(kind, frozenset(categories.split(",")), timedelta(seconds=ago))  # type: ignore[arg-type]


def shared_strikes(settings: Settings) -> RedisStrikes | None:
    """The strikes in the Redis of the settings; None: there is none. Raises `SettingsError`."""
    return None if settings.redis_url is None else RedisStrikes(settings.redis_url.get_secret_value())


class StrikeStore:
    """The strikes that a worker knows. All methods are called on its event loop.

    Of a person at most `MOST_STRIKES` that are the same (in kind and categories) are kept, and of each API key at most
    `most` persons.
    """

    def __init__(
        self,
        shared: RedisStrikes | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        most: int = _MOST_PERSONS,
    ) -> None:
        self._shared = shared
        self._clock = clock
        self._most = most
        self._tenants: dict[str, OrderedDict[str, list[_Noted]]] = {}  # by the time of a person's last strike
        self._ask_again = -math.inf

    async def known(self, person: Person, keep: timedelta) -> Strikes:
        """The strikes of a person that are not older than `keep`. `error` is set if Redis should have been asked and
        did not answer.
        """
        now, seconds = self._clock(), keep.total_seconds()
        self._forget(person.tenant, now - seconds)
        persons = self._tenants.get(person.tenant, OrderedDict())
        found = {
            each.request: Strike(each.kind, each.categories, timedelta(seconds=now - each.at))
            for each in persons.get(person.hashed, ())
            if now - each.at <= seconds
        }
        if self._shared is None:
            return Strikes(tuple(found.values()))
        shared = await self._asked(self._shared.known, person.hashed, seconds)
        error = _UNKNOWN if shared is None else None
        return Strikes(tuple((found | (shared or {})).values()), error)

    async def note(
        self, person: Person, request: str, kind: StrikeKind, categories: Iterable[str], keep: timedelta
    ) -> None:
        """Remembers a strike for as long as `keep`: at once in this worker, then in Redis if there is one."""
        noted = _Noted(request, kind, frozenset(categories), self._clock())
        seconds = keep.total_seconds()
        persons = self._tenants.setdefault(person.tenant, OrderedDict())
        kept = [each for each in persons.pop(person.hashed, ()) if noted.at - each.at <= seconds]
        same = [each for each in kept if (each.kind, each.categories) == (kind, noted.categories)]
        if len(same) >= MOST_STRIKES:
            kept.remove(same[0])
        persons[person.hashed] = [*kept, noted]
        self._forget(person.tenant, noted.at - seconds)
        if self._shared is not None:
            await self._asked(self._shared.note, person.hashed, noted, seconds)

    def _forget(self, tenant: str, since: float) -> None:
        """Drops the persons whose last strike was before `since`, and those who are too many."""
        persons = self._tenants.get(tenant)
        if persons is None:
            return
        while persons and (len(persons) > self._most or next(iter(persons.values()))[-1].at < since):
            persons.popitem(last=False)
        if not persons:
            del self._tenants[tenant]

    async def _asked(self, ask: Callable[..., T], *args: object) -> T | None:
        """The answer of Redis, which is not waited for on the event loop. None if there is none, or was none a moment
        ago.
        """
        assert self._shared is not None  # INVARIANT: `ask` is its method
        if self._clock() < self._ask_again:
            return None
        try:
            return await asyncio.to_thread(ask, *args)
        except self._shared.failures as error:
            self._ask_again = self._clock() + APART_SECONDS
            log.error("Redis does not answer, this worker knows its own strikes only: %s", without_message(error))
            return None


def kind_of(outcome: Outcome) -> StrikeKind | None:
    """What became of a request on which rules acted; None: its pictures left as they were drawn, or labelled."""
    if outcome.held is not None:
        return "held"
    if outcome.refused is not None:
        return "refused"
    return "repaired" if outcome.verdict == "steer" else None
