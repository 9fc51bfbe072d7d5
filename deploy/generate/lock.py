"""Writes the versions that the tests ran with: `constraints.txt` has every package that the project and its developers
need, `deploy/container/requirements.txt` what the service alone needs, for a Bento.

They are read from the environment that runs this (`make lock`: the developer's), for the project's dependencies, its
extra `dev`, and what these need. Builds of a version (`+cpu`) are left out, so that the files fit any of them. Hashes
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

__all__ = ["CONSTRAINTS", "REQUIREMENTS", "locked", "main", "pinned", "required"]

ROOT = Path(__file__).parents[2]
_HEAD = """\
# The versions that the tests ran with, made by `make lock`. %s
# Any build of a version fits. Without this file pip takes the newest versions that pyproject.toml allows.
"""
CONSTRAINTS = _HEAD % "To install them: pip install -c constraints.txt ."
REQUIREMENTS = _HEAD % "`bentoml build` puts them into a Bento."


def required(pyproject: Path, *extras: str) -> list[Requirement]:
    """The project's dependencies and those of some of its extras."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    chosen = (project["optional-dependencies"][extra] for extra in extras)
    return [Requirement(each) for each in (*project["dependencies"], *(text for texts in chosen for text in texts))]


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


def pinned(head: str, versions: dict[str, str]) -> str:
    """The text of a file of versions, for pip."""
    return head + "".join(f"{name}=={versions[name]}\n" for name in sorted(versions))


def main() -> int:
    """Writes the files. Exit code 1 if the environment lacks a package."""
    project = ROOT / "pyproject.toml"
    try:
        made = {
            "constraints.txt": pinned(CONSTRAINTS, locked(required(project, "dev"))),
            "deploy/container/requirements.txt": pinned(REQUIREMENTS, locked(required(project))),
        }
    except PackageNotFoundError as error:
        print(f"this environment lacks `{error.name}`; run `make dev` first", file=sys.stderr)
        return 1
    for name, text in made.items():
        (ROOT / name).write_text(text, "utf-8")
        print(f"{name} written: {text.count('==')} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
