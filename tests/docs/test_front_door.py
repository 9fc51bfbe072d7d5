"""`import palimpsest` is light, and what it gives is what the rooms give."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib

import pytest

from tests.docs.pages import ROOT


def test_importing_it_leaves_torch_alone() -> None:
    code = "import sys, palimpsest; print([m for m in ('torch', 'diffusers', 'policies') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_listed_before_they_are_loaded() -> None:
    code = "import palimpsest; print(set(palimpsest.__all__) <= set(dir(palimpsest)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_deciding_leaves_torch_alone() -> None:
    code = "import sys; from palimpsest import Loader, Request, decide; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_names_are_those_of_the_rooms_and_type_checkers_see_all_of_them() -> None:
    import palimpsest
    import policies
    import steering

    for name in palimpsest.__all__:
        room = policies if name in policies.__all__ else steering
        assert getattr(palimpsest, name) is getattr(room, name)
    with pytest.raises(AttributeError, match="has no attribute `Hots`"):
        _ = palimpsest.Hots
    tree = ast.parse((ROOT / "palimpsest" / "__init__.py").read_text("utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    typed = {a.name for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert typed == set(palimpsest.__all__)


def test_the_wheel_says_that_it_is_typed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["*"]
    for room in (file.parent for file in ROOT.glob("*/__init__.py")):
        assert (room / "py.typed").is_file() or room.name in ("tests", "deploy"), room.name


def test_the_classifiers_name_the_pythons_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    versions = [c.rpartition(" ")[2] for c in project["classifiers"] if "Python :: 3." in c]
    assert versions == ["3.11"]
    assert project["requires-python"] == ">=3.11"
