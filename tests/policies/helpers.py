"""What the tests of the policies share: small policies as text, and a loader with the real text detectors."""

from __future__ import annotations

from pathlib import Path

from detectors.text import sense
from policies import Loader, Snapshot

HEAD = "schema: palimpsest.policy/v1\nname: {name}\nversion: 1.0.0\nowner: me@example.com\n"
RULE = """
  - id: {id}
    why: because the test says so
    category: test
    when: {when}
    then: {then}
"""
LETTERING = "{lettering: {any_of: [grumpf, blorch]}}"


def policy(*rules: str, name: str = "p", more: str = "") -> str:
    return HEAD.format(name=name) + more + "\nrules:" + "".join(rules)


def rule(id: str = "r", when: str = LETTERING, then: str = "[{do: block}]", more: str = "") -> str:
    return RULE.format(id=id, when=when, then=then) + "".join(f"    {line}\n" for line in more.splitlines())


def load(folder: Path, *texts: str, **options: object) -> Snapshot:
    """The snapshot of `texts`, each a file of `folder`."""
    for i, text in enumerate(texts):
        (folder / f"{i}.yaml").write_text(text, "utf-8")
    return Loader(sense=sense, **options).load(folder)  # type: ignore[arg-type]
