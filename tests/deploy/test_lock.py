"""`constraints.txt` holds what the project needs, each inside its range, and nothing that ties it to a machine."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.generate.lock import constraints, locked, required

ROOT = Path(__file__).parents[2]


def test_every_dependency_is_locked_inside_its_range() -> None:
    lines = [n for n in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not n.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)
    versions = dict(line.split("==") for line in lines)
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
    needed = required(ROOT / "pyproject.toml")
    assert {"torch", "pytest", "redis"} <= {each.name for each in needed}
    for each in needed:
        assert each.specifier.contains(versions[canonicalize_name(each.name)]), f"{each}; run `make lock`"


def test_what_a_dependency_needs_is_locked_too_and_nothing_else() -> None:
    found = locked([Requirement("httpx>=0")])
    assert {"httpx", "httpcore", "h11"} <= set(found), "what a dependency of a dependency needs, too"
    assert "pygments" not in found, "of an extra that nobody asks for"
    assert "pygments" in locked([Requirement("httpx[cli]>=0")])
    assert "+" not in constraints(locked([Requirement("torch")]))
