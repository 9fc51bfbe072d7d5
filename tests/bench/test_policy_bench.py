"""What policies cost: 1,000 rules over 50,000 list entries, loaded as a writer would load them.

Run by `make bench`; not part of `make test`. Times of decisions are of processor time, because the machine may do other
things too; the time of loading is both. Two bounds are asserted at p99: 1 ms for a decision whose rules have lists of
their own, and 2 ms for the views of a prompt. All other figures are only printed.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detectors.text import make_views, sense
from policies import SHIPPED, Loader, Request, Snapshot, decide, replay

RULES, ENTRIES, LONG = 1_000, 50_000, 300
N = 2_000

HEAD = "schema: palimpsest.policy/v1\nname: large\nversion: 1.0.0\nowner: bench@example.com\n"


def words(rng: random.Random, n: int) -> list[str]:
    """`n` different words that nobody says, of four to ten letters."""
    found: set[str] = set()
    while len(found) < n:
        found.add("".join(rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 5))))
    return sorted(found)


def write(folder: Path, *, lists: int) -> list[str]:
    """A policy of 1,000 rules over 50,000 entries in `lists` lists, each rule over one and words of its own."""
    rng = random.Random(5)
    entries = words(rng, ENTRIES)
    rng.shuffle(entries)
    (folder / "lists").mkdir()
    size = ENTRIES // lists
    for k in range(lists):
        (folder / "lists" / f"{k}.txt").write_text("\n".join(entries[k * size : (k + 1) * size]))
    named = "lists:\n" + "".join(f"  l{k}: {{file: lists/{k}.txt}}\n" for k in range(lists))
    whens = (
        "{{lettering: {{any_of: [$l{k}, {own}]}}}}",
        "{{any: [{{prompt: {{any_of: [{own}]}}}}, {{lettering: {{any_of: [$l{k}], unless: [{other}]}}}}]}}",
        "{{all: [{{prompt: {{any_of: [$l{k}]}}}}, {{lettering: {{asked: true}}}}]}}",
        "{{any: [{{all: [{{tenant: {{any_of: [acme-*]}}}}, {{prompt: {{any_of: [{own}]}}}}]}},"
        " {{prompt: {{any_of: [$l{k}]}}}}]}}",
    )
    thens = ("[{do: block}]", "[{do: label, value: seen}]", "[{do: review-hold}]")

    def place(i: int) -> int:
        return (i if lists == RULES else i // 4) % lists

    rules = "rules:\n" + "".join(
        f"  - id: r{i}\n    why: bench\n    category: bench\n"
        f"    when: {whens[i % 4].format(k=place(i), own=rng.choice(entries), other=rng.choice(entries))}\n"
        f"    then: {thens[i % 3]}\n"
        f"    rollout: {{mode: {'shadow' if i % 10 == 0 else 'enforce'}}}\n"
        for i in range(RULES)
    )
    (folder / "large.yaml").write_text(HEAD + named + rules)
    return entries


def prompts(entries: list[str]) -> list[Request]:
    """Prompts of 300 characters: three of four innocent, the fourth with a listed word on its sign."""
    rng = random.Random(7)
    calm = [
        "a",
        "red",
        "star",
        "above",
        "quiet",
        "hills",
        "and",
        "a",
        "great",
        "river",
        "with",
        "two",
        "boats",
        "near",
        "the",
        "old",
        "town",
    ]
    made = []
    for i in range(40):
        said = rng.choice(entries) if i % 4 == 0 else "HELLO"
        text = f'a sign that says "{said}" beside '
        while len(text) < LONG:
            text += rng.choice(calm) + " "
        made.append(Request(text[:LONG], tenant="acme-1" if i % 2 else "", id=str(i)))
    return made


Large = tuple[Path, list[str], Snapshot]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    """Every rule has a list of its own, of fifty entries."""
    machine = f"{platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores"
    print(f"\n{machine}, load {os.getloadavg()[0]:.1f}")
    return load(tmp_path_factory.mktemp("large"), RULES)


def load(folder: Path, lists: int) -> Large:
    entries = write(folder, lists=lists)
    sense(Request("whoever reads first loads the detectors"))
    wall, cpu = time.perf_counter(), time.process_time()
    snapshot = Loader(sense).load(folder)
    took = f"{time.perf_counter() - wall:.2f} s, {time.process_time() - cpu:.2f} s of processor time"
    print(f"load of {len(snapshot.rules)} rules and {ENTRIES} entries in {lists} lists: {took}")
    return folder, entries, snapshot


def quantiles(times: list[float]) -> str:
    cut = statistics.quantiles(times, n=100)
    return f"p50 {cut[49] * 1e3:.3f} ms, p99 {cut[98] * 1e3:.3f} ms, max {max(times) * 1e3:.3f} ms, n = {len(times)}"


def timed(work: Any, items: list[Any]) -> list[float]:
    """Processor time of `work` on each item, N times in all."""
    gc.collect()
    times = []
    for i in range(N):
        item = items[i % len(items)]
        began = time.thread_time()
        work(item)
        times.append(time.thread_time() - began)
    return times


def test_decisions_of_a_thousand_rules(large: Large) -> None:
    _, entries, snapshot = large
    times = decisions("every rule its own list", entries, snapshot)
    assert statistics.quantiles(times, n=100)[98] <= 1e-3


def test_decisions_in_which_fifty_rules_share_each_list(tmp_path: Path) -> None:
    """Only measures: the bound of 1 ms is for rules with lists of their own."""
    _, entries, snapshot = load(tmp_path, 20)
    decisions("fifty rules on each list, so that a hit wakes all of them", entries, snapshot)


def decisions(name: str, entries: list[str], snapshot: Snapshot) -> list[float]:
    """The processor times of N decisions, printed."""
    asked = [(r, sense(r)) for r in prompts(entries)]
    hits = [pair for pair in asked if decide(*pair, snapshot).verdict != "allow"]
    assert 0 < len(hits) < len(asked)
    matched = max(len(decide(*pair, snapshot).rules) for pair in hits)
    times = timed(lambda pair: decide(*pair, snapshot), asked)
    print(f"decision, signals given, lists matched, {LONG} characters, {name}: {quantiles(times)}")
    some = quantiles(timed(lambda pair: decide(*pair, snapshot), hits))
    print(f"  only the {len(hits)} of {len(asked)} prompts with a listed word (up to {matched} rules match): {some}")
    return times


def test_views_of_a_prompt(large: Large) -> None:
    times = timed(make_views, [r.prompt for r in prompts(large[1])])
    print(f"views of {LONG} characters: {quantiles(times)}")
    assert statistics.quantiles(times, n=100)[98] <= 2e-3


def test_memory_of_a_snapshot(large: Large) -> None:
    code = (
        "import gc, json, sys; from detectors.text import sense; from policies import Loader, Request\n"
        "def now(): gc.collect(); return int(open('/proc/self/statm').read().split()[1]) * 4096 / 2**20\n"
        "Loader(sense).load(()); before = now(); s = Loader(sense).load(sys.argv[1])\n"
        "print(json.dumps([before, now(), len(s.rules)]))"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code, str(large[0])]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    before, after, rules = json.loads(out)
    assert rules == RULES
    print(f"memory of the snapshot: {after - before:.0f} MiB ({before:.0f} MiB without policies)")


def test_a_replay_of_five_hundred_prompts(large: Large) -> None:
    _, entries, snapshot = large
    milder = replace(snapshot, draw_canaries=False)
    asked = [replace(r, id=f"{r.id}-{k}") for k in range(13) for r in prompts(entries)][:500]
    for name, policy in (("these rules", snapshot), ("the shipped policies", Loader(sense).load(SHIPPED))):
        wall = time.perf_counter()
        assert replay(asked, policy, milder, sense).prompts == 500
        read = time.perf_counter() - wall
        signals = {r.id: sense(r) for r in asked}
        wall = time.perf_counter()
        replay(asked, policy, milder, lambda r, s=signals: s[r.id])
        print(f"replay of 500 prompts under {name}: {time.perf_counter() - wall:.2f} s, with reading them {read:.2f} s")
