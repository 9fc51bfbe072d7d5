"""Thousands of requests at two workers while the policy is swapped every second.

`python -m tests.bench.service_soak [--requests 10000] [--model FOLDER]` starts the service on two tiny models with
random weights (or on FOLDER alone), asks until that many requests are answered, and writes `results/soak.md` and
`soak.json`. Every picture is signed and watermarked, every fifth is asked for as a link and fetched, and each request
is for one of 40 persons, whose strikes a rule counts in Redis (`redis-server` must be there). It exits with 1 when one
of its laws does not hold:

* none lost: every request has an answer of 200 or 400; the connection never breaks; a link gives its picture;
* none mixed: an untouched picture is that of the stock pipeline of its model, byte for byte, for its own prompt and
  seed, with the watermark; each person has one keyed hash of its own;
* none unmarked: every picture has both marks;
* none decided by two versions: each version's rules carry its number in what they disclose, and the answer names the
  digest of the policies; all of one answer agree, the prompt's judgement with the picture's as well, and a digest
  always stands for the same number;
* none by an old version: what was replaced more than `--stale` seconds before a request came does not judge it (the
  time is printed; on two cores under load a worker needs its turn to look);
* memory is flat: the processes' resident memory in the last quarter is at most 10 % above that of the second.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from marking.spread import Spread
from tests.bench.stock import Stock, pixels
from tests.marking.chains import chain
from tests.running import ROOT, Answer, Server, free_port, lettering_pack, serving
from tests.tiny import save_pixart

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
# every rule says in its reason which version it is of; `disclose: reason` carries it into the answer
POLICY = """
schema: palimpsest.policy/v1
name: soak
version: 1.0.{n}
owner: tests@example.com
lists:
  toxic: {{values: [idiot, moron]}}
  benign: {{values: [bread, music]}}
rules:
  - id: never
    why: version {n}
    category: hate
    when: {{prompt: {{any_of: [forbidden]}}}}
    then: [{{do: block}}]
    disclose: reason
  - id: toxic-lettering
    why: version {n}
    category: harassment
    when: {{lettering: {{any_of: [$toxic], views: all}}}}
    watch: {{share: 0.1}}
    then:
      - {{do: steer, concept: lettering, toward: benign-word}}
      - {{do: verify, read: lettering, none_of: [$toxic], ladder: [wider, swap-prompt, blur], otherwise: block}}
    on_error: block
    disclose: reason
  - id: stubborn
    why: version {n}
    category: other
    when: {{prompt: {{any_of: [stubborn]}}}}
    watch: matched-prompts
    then:
      - {{do: steer, concept: lettering, toward: benign-word}}
      - {{do: verify, read: character/pip, below: 0.0, ladder: [wider], otherwise: block, max_extra_generations: 1}}
    on_error: block
    disclose: reason
  - id: patience
    why: version {n}
    category: other
    when: {{strikes: {{at_least: 100, within: 1s, of: [held]}}}}
    then: [{{do: block}}]
    disclose: reason
"""
# of 10 requests: 6 untouched, 2 steered and read, 1 refused at the prompt, 1 refused at the picture after a rung
PERSONS, LINKED = 40, 5
KINDS = ("free", "free", "read", "free", "never", "free", "read", "free", "stubborn", "free")


@dataclass(slots=True)
class Soak:
    """What happened: a request's kind, prompt, seed and answer; when each version was written; memory by time; the
    models by name.
    """

    models: Mapping[str, Path] = field(default_factory=dict)
    answers: list[tuple[str, str, int, Answer]] = field(default_factory=list)
    written: dict[int, float] = field(default_factory=dict)
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds, MB of all processes
    began: float = field(default_factory=time.monotonic)


def asked(k: int) -> tuple[str, str, int]:
    """The kind, prompt and seed of the `k`-th request; 48 different untouched pictures."""
    kind, colour = KINDS[k % len(KINDS)], ("red", "green", "blue", "gray")[k // 10 % 4]
    prompt = {
        "free": f"a {colour} moon", "read": f'a {colour} moon with a sign that says "idiot"',
        "never": f"a forbidden {colour} moon", "stubborn": f'a stubborn {colour} moon and a sign that says "hello"',
    }[kind]  # fmt: skip
    return kind, prompt, k % 12


def run(server: Server, requests: int, clients: int, models: Mapping[str, Path]) -> Soak:
    """Asks so many requests; swaps the policy every second and samples memory meanwhile."""
    soak = Soak(models)

    def one(k: int) -> None:
        kind, prompt, seed = asked(k)
        person, model = f"person-{k % PERSONS}", list(models)[k // len(KINDS) % len(models)]
        more = {"response_format": "url"} if k % LINKED == 0 else {}
        answer = server.ask(prompt, kind=kind, seed=seed, model=model, safety_identifier=person, **more)
        answer = _light(answer, {"model": model, "person": person})
        soak.answers.append((kind, prompt, seed, answer))
        if len(soak.answers) % 500 == 0:
            took = time.monotonic() - soak.began
            print(f"{len(soak.answers)} of {requests} in {took:.0f} s, {soak.memory[-1][1]:.0f} MB", flush=True)

    with (
        _every(1.0, lambda: _swap(server, soak)),
        _every(2.0, lambda: _sample(server, soak)),
        ThreadPoolExecutor(clients) as pool,
    ):
        list(pool.map(one, range(requests)))
    return soak


def _light(answer: Answer, asked_for: Mapping[str, str]) -> Answer:
    """The answer with a digest in place of its picture. A link that does not give one breaks it."""
    if answer.status != 200:
        return answer
    import httpx
    from PIL import Image

    (item,) = answer.body["data"]
    if "url" in item:
        got = httpx.get(item["url"], timeout=60, verify=False)
        if got.status_code != 200:
            return replace(answer, status=got.status_code, body={"error": {"code": "link"}})
        file = got.content
    else:
        file = base64.b64decode(item["b64_json"])
    body = {"steering": answer.body["steering"], "pixels": pixels(Image.open(io.BytesIO(file))), **asked_for}
    return replace(answer, body=body)


def _swap(server: Server, soak: Soak) -> None:
    number = len(soak.written) + 1
    fresh = server.policy.with_suffix(".fresh")
    fresh.write_text(POLICY.format(n=number))
    fresh.replace(server.policy)
    soak.written[number] = time.monotonic()


def _sample(server: Server, soak: Soak) -> None:
    pages = sum(_resident(pid) for pid in (server.process.pid, *server.workers))
    soak.memory.append((time.monotonic() - soak.began, pages / 1024))


def _resident(pid: int) -> float:
    """Kilobytes of memory that a process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return float(line.split()[1])
    return 0.0


@contextmanager
def _every(seconds: float, work: Any) -> Iterator[None]:
    """Does `work` at once and then again and again, on a thread of its own."""
    over = threading.Event()

    def go() -> None:
        while not over.is_set():
            work()
            over.wait(seconds)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def lost(soak: Soak) -> Counter[str]:
    """The answers that nobody should have got."""
    return Counter(a.code for _, _, _, a in soak.answers if a.code not in ("200", "400 moderation_blocked"))


def wrong_kind(soak: Soak) -> int:
    """Requests whose verdict is not what every version says of them."""
    want = {"free": "allow", "read": "steer", "never": None, "stubborn": None}
    return sum(
        want[kind] != (a.body["steering"]["verdict"] if a.status == 200 else None) for kind, _, _, a in soak.answers
    )


def versions(answer: Answer) -> set[int]:
    """The versions that an answer's judgements say they are of."""
    text = json.dumps(answer.body.get("steering", answer.body))
    return {int(part.split('"')[0].split()[0].rstrip(".")) for part in text.split("version ")[1:]}


def by_two_versions(soak: Soak) -> tuple[int, int]:
    """Answers whose parts disagree on the version; digests that stood for several numbers, or the other way round."""
    torn, named = 0, set()
    for _, _, _, answer in soak.answers:
        found = versions(answer)
        torn += len(found) > 1
        body = answer.body.get("steering") or answer.body.get("error", {}).get("moderation_details", {})
        if len(found) == 1:
            named.add((body["policy"], *found))
    digests, numbers = Counter(d for d, _ in named), Counter(n for _, n in named)
    return torn, sum(c > 1 for c in (*digests.values(), *numbers.values()))


def staleness(soak: Soak) -> list[float]:
    """For each answer that names its version: how long before the request it had been replaced; 0: it had not."""
    found = []
    for _, _, _, answer in soak.answers:
        for number in versions(answer):
            replaced = soak.written.get(number + 1, float("inf"))
            found.append(max(0.0, answer.began - replaced))
    return found


def not_stock(soak: Soak, stocks: Mapping[str, Stock]) -> tuple[int, int]:
    """How many untouched pictures there are, and how many of them are not the stock pipeline's."""
    free = [(p, s, a.body) for kind, p, s, a in soak.answers if kind == "free" and a.status == 200]
    found = [stocks[body["model"]].digest(p, s, body["steering"]["shape"]) == body["pixels"] for p, s, body in free]
    return len(free), found.count(False)


def unmarked(soak: Soak) -> int:
    """Pictures that do not say that they have both marks."""
    made = [a.body["steering"]["per_image"] for *_, a in soak.answers if a.status == 200]
    return sum(each["marks"] != ["watermark", "c2pa"] for images in made for each in images)


def mistaken(soak: Soak) -> int:
    """Persons with several keyed hashes, and hashes of several persons."""
    pairs = {(a.body["person"], a.body["steering"]["safety_identifier"]) for *_, a in soak.answers if a.status == 200}
    persons, hashes = Counter(person for person, _ in pairs), Counter(said for _, said in pairs)
    return sum(count > 1 for count in (*persons.values(), *hashes.values()))


def quarters(soak: Soak) -> list[float]:
    """The median of memory in each quarter of the run."""
    mb = [m for _, m in soak.memory]
    size = max(1, len(mb) // 4)
    return [statistics.median(mb[i * size : (i + 1) * size] or mb[-1:]) for i in range(4)]


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when a law did not hold."""
    asked_for = _parse(arguments)
    with tempfile.TemporaryDirectory(prefix="palimpsest-soak-") as folder:
        root = Path(folder)
        if asked_for.model is None:
            models = {name: save_pixart(root / name, seed=k) for k, name in enumerate(("first", "second"))}
            packs = {name: str(lettering_pack(model, root / f"{name}-packs")) for name, model in models.items()}
        else:
            models, packs = {"first": asked_for.model}, {}
        table = {
            name: {"source": str(model)} | ({"packs": packs[name]} if packs else {}) for name, model in models.items()
        }
        signs, key = chain(root), root / "marking.key"
        key.write_bytes(os.urandom(32))
        settings = {
            "models": json.dumps(table),
            "workers": asked_for.workers,
            "batching": "fixed",
            "max_batch": 4,
            "judge": ROOT / "reference" / "judges" / "first",  # a model of others has none by itself
            "picture_urls": "files",
            "marking": "both",
            "signing_certificate": signs.certificate,
            "signing_key": signs.key,
            "marking_key": key,
        }
        with (
            _redis() as url,
            serving(root / "s", model="first", policy=POLICY.format(n=1), redis_url=url, **settings) as server,
        ):
            soak = run(server, asked_for.requests, asked_for.clients, models)
            links = [int(server.metric("picture_links_total", result=result)) for result in ("kept", "opened")]
            series = len([x for x in _metrics(server).splitlines() if x.startswith("palimpsest_")])
            findings = server.verified()["findings"]
        embed = Spread(key.read_bytes()).embed
        stocks = {name: Stock(model, mark=embed) for name, model in models.items()}
        report = _report(soak, stocks, asked_for, series=series, findings=[f["kind"] for f in findings], links=links)
    if asked_for.out:
        asked_for.out.mkdir(parents=True, exist_ok=True)
        memory = [(round(at, 1), round(mb)) for at, mb in soak.memory]
        (asked_for.out / "soak.json").write_text(json.dumps(report | {"memory, s and MB": memory}) + "\n")
        (asked_for.out / "soak.md").write_text(_markdown(report))
    print(_markdown(report))
    return int(bool(report["broken"]))


@contextmanager
def _redis() -> Iterator[str]:
    """The URL of a Redis that runs, with nothing in it."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(30)


def _metrics(server: Server) -> str:
    import httpx

    return httpx.get(f"{server.url}/metrics", timeout=60).text


def _report(
    soak: Soak,
    stocks: Mapping[str, Stock],
    options: argparse.Namespace,
    *,
    series: int,
    findings: list[str],
    links: list[int],
) -> dict[str, Any]:
    from tests.bench.steering_stats import hardware

    free, off = not_stock(soak, stocks)
    torn, mixed = by_two_versions(soak)
    old, mb = staleness(soak), quarters(soak)
    took = sorted(a.ended - a.began for _, _, _, a in soak.answers)
    seconds = max(a.ended for _, _, _, a in soak.answers) - soak.began
    laws = {
        "lost": bool(lost(soak)),
        "verdict": bool(wrong_kind(soak)),
        "not the stock picture": bool(off),
        "unmarked": bool(unmarked(soak)),
        "persons": bool(mistaken(soak)),
        "two versions": bool(torn or mixed),
        "old version": max(old) > options.stale,
        "memory": len(soak.memory) >= 40 and mb[3] > 1.1 * mb[1],
    }
    machine = {k: str(v) for k, v in hardware().items()}
    return {
        "hardware": machine, "models": str(options.model or "two tiny ones, random weights").rsplit("/", 1)[-1],
        "workers": options.workers, "clients": options.clients, "requests": len(soak.answers),
        "seconds": round(seconds, 1), "kinds": dict(Counter(kind for kind, *_ in soak.answers)),
        "answers": dict(Counter(a.code for *_, a in soak.answers)), "lost": dict(lost(soak)),
        "wrong verdicts": wrong_kind(soak), "versions written": len(soak.written),
        "versions that judged": len(set().union(*(versions(a) for *_, a in soak.answers))),
        "answers of two versions": torn, "digests of two versions": mixed,
        "answers that name a version": len(old), "judged by a replaced version": sum(s > 0 for s in old),
        "longest after it was replaced, s": round(max(old), 2), "untouched": free,
        "untouched, not the stock picture with the watermark": off, "without both marks": unmarked(soak),
        "links kept": links[0], "links opened": links[1], "persons": PERSONS, "persons mistaken": mistaken(soak),
        "p50, s": round(took[len(took) // 2], 3), "p95, s": round(took[int(0.95 * len(took))], 3),
        "memory of all processes by quarter, MB": [round(m) for m in mb], "series": series,
        "audit findings": sorted(findings), "broken": [name for name, broken in laws.items() if broken],
    }  # fmt: skip


def _markdown(report: Mapping[str, Any]) -> str:
    lines = [f"| {name} | {_shown(value)} |" for name, value in report.items()]
    head = "# Soak\n\nWritten by `python -m tests.bench.service_soak`, whose docstring says what each line means.\n\n"
    return head + "\n".join(["| what | found |", "| --- | --- |", *lines]) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{n} x {k}" if isinstance(n, int) else f"{k} {n}" for k, n in value.items()) or "none"
    return (", ".join(map(str, value)) or "none") if isinstance(value, (list, tuple)) else str(value)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.service_soak", description="many requests, many policies"
    )
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stale", type=float, default=5.0, help="seconds that a replaced version may still judge")
    parser.add_argument("--model", type=Path, help="a diffusers folder with `defaults.json` and a lettering pack")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of `soak.md` and `soak.json`")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
