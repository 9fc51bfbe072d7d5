"""The files of versions hold what the project needs, each inside its range, and nothing that ties it to a machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.generate.lock import CONSTRAINTS, REQUIREMENTS, locked, pinned, required

ROOT = Path(__file__).parents[2]


def versions_of(name: str) -> dict[str, str]:
    lines = [n for n in (ROOT / name).read_text("utf-8").splitlines() if not n.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
    return dict(line.split("==") for line in lines)


@pytest.mark.parametrize(
    ("name", "head", "extras"),
    [("constraints.txt", CONSTRAINTS, ["dev"]), ("deploy/container/requirements.txt", REQUIREMENTS, [])],
)
def test_every_dependency_is_locked_inside_its_range(name: str, head: str, extras: list[str]) -> None:
    assert (ROOT / name).read_text("utf-8").startswith(head)
    versions = versions_of(name)
    needed = required(ROOT / "pyproject.toml", *extras)
    assert {"torch", "bentoml"} <= {each.name for each in needed}
    assert ("pytest" in versions) == ("pytest" in {each.name for each in needed}) == bool(extras)
    for each in needed:
        assert each.specifier.contains(versions[canonicalize_name(each.name)]), f"{each}; run `make lock`"


def test_a_bento_has_the_versions_that_the_tests_ran_with() -> None:
    mine, all_of_them = versions_of("deploy/container/requirements.txt"), versions_of("constraints.txt")
    assert mine.items() < all_of_them.items()


def test_what_a_dependency_needs_is_locked_too_and_nothing_else() -> None:
    found = locked([Requirement("httpx>=0")])
    assert {"httpx", "httpcore", "h11"} <= set(found), "what a dependency of a dependency needs, too"
    assert "pygments" not in found, "of an extra that nobody asks for"
    assert "pygments" in locked([Requirement("httpx[cli]>=0")])
    assert "+" not in pinned(CONSTRAINTS, locked([Requirement("torch")]))
