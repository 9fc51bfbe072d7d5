"""Writes a policy, runs its tests, and asks what it decides. No model is loaded.

python examples/write_and_try_a_policy.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from detectors.text import sense
from palimpsest import Loader, Request, decide
from policies import PolicyError

POLICY = """\
schema: palimpsest.policy/v1
name: no-twerps
version: 1.0.0
owner: you@example.com
lists:
  rude: {values: [twerp, nitwit]}
rules:
  - id: rude-signs
    why: Our signs are read by children.
    category: harassment
    when: {lettering: {any_of: [$rude]}}
    then: [{do: block}]
tests:
  - name: a rude sign is refused
    given: {prompt: 'a sign that says "twerp"'}
    expect: {verdict: block, rules: [rude-signs]}
"""


def main(folder: Path) -> None:
    file = folder / "no-twerps.yaml"
    loader = Loader(sense)  # `sense` reads prompts; the tests inside the file run with it

    file.write_text(POLICY.replace("any_of", "anyof"))
    try:
        loader.load([file])
    except PolicyError as error:
        print(f"with a mistake in it: {error}")

    file.write_text(POLICY)
    snapshot = loader.load([file])  # its tests have passed
    for prompt in ('a sign that says "TWERP"', 'a sign that says "n1tw1t"', 'a sign that says "hello"'):
        request = Request(prompt)
        decision = decide(request, sense(request), snapshot)
        print(f"{prompt}: {decision.verdict} {[reason.text for reason in decision.reasons]}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
