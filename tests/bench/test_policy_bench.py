"""What policies cost: 1,000 rules over 50,000 list entries, loaded as a writer would load them.

Run by `make bench`; not part of `make test`. Times of decisions are of processor time, because the machine may do other
things too; the time of loading is both.
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

RULES, ENTRIES, LISTS, LONG = 1_000, 50_000, 20, 300
N = 5_000

HEAD = "schema: palimpsest.policy/v1\nname: large\nversion: 1.0.0\nowner: bench@example.com\n"


def words(rng: random.Random, n: int) -> list[str]:
    """`n` different words that nobody says, of four to ten letters."""
    found: set[str] = set()
    while len(found) < n:
        found.add("".join(rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 5))))
    return sorted(found)


def write(folder: Path) -> list[str]:
    """A policy of 1,000 rules, each over one of the lists and words of its own; its entries."""
    rng = random.Random(5)
    entries = words(rng, ENTRIES)
    rng.shuffle(entries)
    (folder / "lists").mkdir()
    size = ENTRIES // LISTS
    for k in range(LISTS):
        (folder / "lists" / f"{k}.txt").write_text("\n".join(entries[k * size : (k + 1) * size]))
    lists = "lists:\n" + "".join(f"  l{k}: {{file: lists/{k}.txt}}\n" for k in range(LISTS))
    whens = (
        "{{lettering: {{any_of: [$l{k}, {own}]}}}}",
        "{{any: [{{prompt: {{any_of: [{own}]}}}}, {{lettering: {{any_of: [$l{k}], unless: [{other}]}}}}]}}",
        "{{all: [{{prompt: {{any_of: [$l{k}]}}}}, {{lettering: {{asked: true}}}}]}}",
        "{{all: [{{tenant: {{any_of: [acme-*]}}}}, {{prompt: {{any_of: [{own}, {other}]}}}}]}}",
    )
    thens = ("[{do: block}]", "[{do: label, value: seen}]", "[{do: review-hold}]")
    rules = "rules:\n" + "".join(
        f"  - id: r{i}\n    why: bench\n    category: bench\n"
        f"    when: {whens[i % 4].format(k=i % LISTS, own=rng.choice(entries), other=rng.choice(entries))}\n"
        f"    then: {thens[i % 3]}\n"
        f"    rollout: {{mode: {'shadow' if i % 10 == 0 else 'enforce'}}}\n"
        for i in range(RULES)
    )
    (folder / "large.yaml").write_text(HEAD + lists + rules)
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
        "wide",
        "river",
        "with",
        "two",
        "boats",
        "near",
        "the",
        "old",
        "harbour",
        "at",
        "dusk",
    ]
    made = []
    for i in range(40):
        said = rng.choice(entries) if i % 4 == 0 else "HELLO"
        text = f'a sign that says "{said}" beside '
        while len(text) < LONG:
            text += rng.choice(calm) + " "
        made.append(Request(text[:LONG], tenant="acme-1" if i % 2 else "", id=str(i)))
    return made


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Snapshot]:
    folder = tmp_path_factory.mktemp("large")
    entries = write(folder)
    wall, cpu = time.perf_counter(), time.process_time()
    snapshot = Loader(sense).load(folder)
    print(
        f"\n{platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores"
        f"\nload of {len(snapshot.rules)} rules and {ENTRIES} entries: {time.perf_counter() - wall:.2f} s,"
        f" {time.process_time() - cpu:.2f} s of processor time"
    )
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


def test_decisions_of_a_thousand_rules(large: Any) -> None:
    _, entries, snapshot = large
    asked = [(r, sense(r)) for r in prompts(entries)]
    verdicts = {decide(r, s, snapshot).verdict for r, s in asked}
    assert {"allow", "block"} <= verdicts
    times = timed(lambda pair: decide(pair[0], pair[1], snapshot), asked)
    print(f"decision, signals given, lists matched, {LONG} characters: {quantiles(times)}")
    hits = [pair for pair in asked if decide(pair[0], pair[1], snapshot).verdict != "allow"]
    print(f"  of them {len(hits)} of {len(asked)} prompts with a listed word: "
          f"{quantiles(timed(lambda pair: decide(pair[0], pair[1], snapshot), hits))}")  # fmt: skip
    assert statistics.quantiles(times, n=100)[98] <= 1e-3


def test_views_of_a_prompt(large: Any) -> None:
    texts = [r.prompt for r in prompts(large[1])]
    print(f"views of {LONG} characters: {quantiles(timed(make_views, texts))}")


def test_memory_of_a_snapshot(large: Any) -> None:
    code = (
        "import resource, sys; from detectors.text import sense; from policies import Loader;"
        "sense.__call__; peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024;"
        "Loader(sense).load(()); before = peak(); s = Loader(sense).load(sys.argv[1]);"
        "import json; print(json.dumps([before, peak(), len(s.rules)]))"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code, str(large[0])]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    before, after, rules = json.loads(out)
    assert rules == RULES
    print(f"memory: {after - before:.0f} MiB more at its peak ({before:.0f} MiB without policies)")


def test_a_replay_of_five_hundred_prompts(large: Any) -> None:
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
