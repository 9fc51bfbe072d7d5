"""Writes `constraints.txt`: the versions that the tests ran with, of every package that the project needs.

They are read from the environment that runs this (`make lock`: the developer's), for the project's dependencies, its
extra `dev`, and what these need. Builds of a version (`+cpu`) are left out, so that the file fits any of them. Hashes
and addresses are left out for the same reason. What only another Python or another system needs is not there, and pip
chooses its version.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["constraints", "locked", "main", "required"]

ROOT = Path(__file__).parents[2]
_HEAD = """\
# The versions that the tests ran with, made by `make lock`. To install them: pip install -c constraints.txt .
# Any build of a version fits. Without this file pip takes the newest versions that pyproject.toml allows.
"""


def required(pyproject: Path) -> list[Requirement]:
    """The project's dependencies and those of its extra `dev`."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    return [Requirement(each) for each in (*project["dependencies"], *project["optional-dependencies"]["dev"])]


def locked(requirements: Iterable[Requirement]) -> dict[str, str]:
    """The installed version of everything that `requirements` lead to, by name. Raises `PackageNotFoundError`."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(each, extra) for each in requirements for extra in ("", *each.extras)]
    while todo:
        requirement, extra = todo.pop()
        name = str(canonicalize_name(requirement.name))
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        installed = distribution(name)
        found[name] = installed.version.partition("+")[0]
        for text in installed.requires or ():
            inner = Requirement(text)
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                todo += [(inner, each) for each in ("", *inner.extras)]
    return found


def constraints(versions: dict[str, str]) -> str:
    """The text of a constraints file."""
    return _HEAD + "".join(f"{name}=={versions[name]}\n" for name in sorted(versions))


def main() -> int:
    """Writes the file. Exit code 1 if the environment lacks a package."""
    try:
        versions = locked(required(ROOT / "pyproject.toml"))
    except PackageNotFoundError as error:
        print(f"this environment lacks `{error.name}`; run `make dev` first", file=sys.stderr)
        return 1
    (ROOT / "constraints.txt").write_text(constraints(versions), "utf-8")
    print(f"constraints.txt written: {len(versions)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
