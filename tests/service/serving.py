"""What tests of real server processes share."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.running import ROOT, free_port, policy_text

__all__ = ["HOLDING", "POLICY", "ROOT", "command", "eventually", "family", "free_port", "wait"]

POLICY = policy_text(
    "test-policy",
    """
  - id: toxic-lettering
    why: Insults do not belong on signs.
    category: harassment
    when: {lettering: {any_of: [$toxic], views: all}}
    then:
      - {do: steer, concept: lettering, toward: benign-word, strength: auto}
      - do: verify
        read: lettering
        none_of: [$toxic]
        ladder: [wider, swap-prompt, blur]
        otherwise: block
        max_extra_generations: 2
    unfit: swap-prompt
    on_error: block
    disclose: category
  - id: never
    why: Some words are refused wherever they stand.
    category: hate
    when: {prompt: {any_of: [forbidden]}}
    then: [{do: block}]
    disclose: reason
""",
)

# rules that hold: on the prompt, with a repair of their own, beside rules that steer and block
HOLDING = policy_text(
    "holding",
    """
  - id: desk
    why: The news desk looks at these first.
    category: news
    when: {prompt: {any_of: [election]}}
    then: [{do: review-hold, queue: news-desk}]
    disclose: category
  - id: both
    why: Words on signs are looked at, and would be repaired.
    category: signs
    when: {lettering: {any_of: [moron], views: all}}
    then:
      - {do: steer, concept: lettering, toward: benign-word, strength: auto}
      - {do: review-hold, queue: signs}
    disclose: category
  - id: toxic-lettering
    why: Insults do not belong on signs.
    category: harassment
    when: {lettering: {any_of: [idiot], views: all}}
    then: [{do: steer, concept: lettering, toward: benign-word, strength: auto}]
    disclose: category
  - id: never
    why: Some words are refused wherever they stand.
    category: hate
    when: {prompt: {any_of: [forbidden]}}
    then: [{do: block}]
    disclose: reason
""",
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from palimpsest.cli.main import main; main()", *arguments]


def family(pid: int) -> list[int]:
    """A process and its children; the test is skipped where the system does not list them."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("this system does not list a process's children")
    return [pid, *map(int, children.read_text().split())]


def wait(url: str, process: subprocess.Popen[bytes], log: Path) -> list[int]:
    """Status codes of `/readyz` until it says 200."""
    codes: list[int] = []
    for _ in range(3000):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            codes.append(httpx.get(f"{url}/readyz", timeout=30).status_code)
        except httpx.TransportError:
            codes.append(0)
        if codes[-1] == 200:
            return codes
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])


def eventually(true: Callable[[], bool], seconds: float) -> float:
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it did not come"
        time.sleep(0.02)
    return time.monotonic() - began
