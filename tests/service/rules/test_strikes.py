"""Strikes of persons in the service: counted for rules that ask, by keyed hash, for a while, and never too many.

Mutations seen red: the hash without the tenant, or under the key of prompts; strikes of another key counted; persons
not forgotten; the newest person dropped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from policies import MOST_STRIKES, Strikes
from service.audit import AuditKeys, find
from service.rules.strikes import Person, RedisStrikes, StrikeStore
from tests.running import free_port
from tests.service.serving import POLICY

TOXIC, BENIGN = 'a red star with a sign that says "idiot"', "a red star on a blue background"
DAY = timedelta(days=1)
PATIENT = {"detector_seconds": 300.0, "deadline_seconds": 900.0}  # beside whatever else runs
ASKS = """
  - id: patience
    why: Who asks for insults again and again is looked at.
    category: patience
    when: {strikes: {at_least: 2, within: 24h, category: harassment}}
    then: [{do: block}]
    disclose: category
"""


def test_a_person_is_refused_after_strikes_and_nobody_else_is(
    serve: Callable[..., Any], policy: Path, settings: Callable[..., Any]
) -> None:
    policy.write_text(POLICY + ASKS)
    client = serve(**PATIENT)

    def ask(prompt: str, **fields: Any) -> Any:
        return client.post("/v1/images/generations", json={"prompt": prompt, **fields})

    mine = {"safety_identifier": "wanda@example.com"}
    first = ask(TOXIC, **mine)
    hashed = first.json()["steering"]["safety_identifier"]
    assert first.headers["palimpsest-safety-identifier"] == hashed
    assert ask(BENIGN, **mine).status_code == 200
    assert ask("forbidden", **mine).status_code == 400, "of another category"
    assert ask(TOXIC, user="wanda@example.com").status_code == 200, "the older field is the same person"
    for _ in range(2):  # a refusal for strikes is none itself
        refused = ask(BENIGN, **mine)
        assert refused.json()["error"]["moderation_details"]["categories"] == ["patience"]
        assert refused.headers["palimpsest-safety-identifier"] == hashed
    assert [ask(prompt).status_code for prompt in (TOXIC, TOXIC, BENIGN)] == [200, 200, 200], "nobody is named"
    assert [ask(prompt, user="bob").status_code for prompt in (TOXIC, TOXIC, TOXIC)] == [200, 200, 400]
    evaluated = client.post("/v1/policies/evaluate", json={"prompt": BENIGN, **mine})
    assert evaluated.json()["verdict"] == "block"
    runtime = client.runtime
    counts = {kind: runtime.recorder.series("strikes_total", kind)._value.get() for kind in ("refused", "repaired")}
    assert counts == {"refused": 2, "repaired": 4}, "an insult counts, refused or not"

    runtime.stop()
    folder = settings().state_folder / "audit"
    found = [line for _, _, line in find(folder, keys=runtime.keys, identifier="wanda@example.com")]
    assert [line["strike"] for line in found] == ["repaired", None, "refused", "repaired", None, None]
    assert {line["safety_identifier"] for line in found} == {hashed}
    assert "wanda" not in "".join(path.read_text() for path in folder.glob("*"))


def test_a_hash_tells_nothing_of_another_tenant_s_persons_or_of_prompts() -> None:
    keys, other = AuditKeys.derive(b"a secret"), AuditKeys.derive(b"another")
    hashed = keys.identified("studio", "ada")
    assert hashed == keys.identified("studio", "ada")
    assert len({hashed, keys.identified("press", "ada"), keys.hashed("ada"), keys.hashed("studio\0ada")}) == 4
    assert hashed.partition(":")[2] != other.identified("studio", "ada").partition(":")[2]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def known(store: StrikeStore, person: Person, keep: timedelta = DAY) -> Strikes:
    return asyncio.run(store.known(person, keep))


def note(store: StrikeStore, person: Person, request: str, kind: Any = "refused", *categories: str) -> None:
    asyncio.run(store.note(person, request, kind, categories or ("hate",), DAY))


def test_strikes_are_forgotten_and_never_too_many() -> None:
    clock = Clock()
    store = StrikeStore(clock=clock, most=2)
    ada, bob, eve, abroad = Person("s", "ada"), Person("s", "bob"), Person("s", "eve"), Person("t", "ada")
    note(store, ada, "0")
    clock.now += 3600
    note(store, bob, "1")
    note(store, ada, "2", "repaired", "hate", "sexual")
    assert [(s.kind, s.ago) for s in known(store, ada).items] == [("refused", DAY / 24), ("repaired", DAY * 0)]
    assert not known(store, abroad).items, "of another key"
    assert len(known(store, ada, timedelta(minutes=5)).items) == 1
    note(store, eve, "3")
    assert [len(known(store, who).items) for who in (ada, bob, eve)] == [2, 0, 1], "the oldest person goes"
    for k in range(MOST_STRIKES + 20):
        note(store, ada, f"a{k}", "refused", "other")
    counted = known(store, ada).count(DAY, ("refused",), "other"), known(store, ada).count(DAY, ("refused",), "hate")
    assert counted == (MOST_STRIKES, 1), "many of one kind push no other out"
    clock.now += 86_400.5
    assert not known(store, ada).items
    assert not store._tenants, "nothing is kept of it"


def test_while_redis_is_away_a_worker_says_that_there_may_be_more(caplog: Any) -> None:
    clock = Clock()
    store = StrikeStore(RedisStrikes(f"redis://127.0.0.1:{free_port()}/0"), clock=clock)
    ada = Person("s", "ada")
    note(store, ada, "1")
    got = known(store, ada)
    assert (len(got.items), got.error is None) == (1, False)
    assert len(caplog.records) == 1, "it was not asked again so soon"
    clock.now += 6
    assert known(store, ada).error
    assert len(caplog.records) == 2
    assert "ada" not in json.dumps([record.getMessage() for record in caplog.records])
