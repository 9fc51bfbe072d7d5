"""The arrows between rooms, and what importing them costs and leaves behind."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (
    "policies",
    "detectors",
    "steering",
    "localization",
    "reference",
    "evaluation",
    "service",
    "palimpsest",
    "palimpsest_base",
)
BASE = {"palimpsest_base"}
# room -> the rooms that it may import
ARROWS = {
    "palimpsest_base": set(),
    "policies": BASE,
    "detectors": BASE | {"policies"},
    "steering": BASE,
    "localization": BASE | {"steering"},
    "reference": BASE | {"steering"},
    "evaluation": set(ROOMS) - {"service", "evaluation", "palimpsest"},
    "service": set(ROOMS) - {"evaluation", "palimpsest"},
    "palimpsest": set(ROOMS),
}


def modules(room: str) -> list[Path]:
    return sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


def imported(tree: ast.AST) -> Iterator[str]:
    """First parts of the names that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_that_it_may(room: str) -> None:
    for path in modules(room):
        used = {name for name in imported(ast.parse(path.read_text("utf-8"))) if name in ROOMS} - {room}
        assert used <= ARROWS[room], f"{path.relative_to(ROOT)} imports {sorted(used - ARROWS[room])}"


def test_only_the_command_line_calls_evaluation() -> None:
    callers = [p.name for p in modules("service") if "evaluation" in imported(ast.parse(p.read_text("utf-8")))]
    # `local` is what the command line evaluates when there is no server
    assert all(name.startswith("cli") or name == "local.py" for name in callers), callers


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_and_lists_what_it_exports(room: str) -> None:
    tree = ast.parse((ROOT / room / "__init__.py").read_text("utf-8"))
    assert ast.get_docstring(tree), f"{room} has no docstring"
    package = importlib.import_module(room)
    exported = list(package.__all__)
    assert len(set(exported)) == len(exported)
    for name in exported:
        assert hasattr(package, name), f"{room}.__all__ names `{name}`, which it does not have"


def test_every_module_exports_what_it_says() -> None:
    for path in (p for room in ROOMS for p in modules(room)):
        tree = ast.parse(path.read_text("utf-8"))
        defined = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                defined |= {t.id for target in targets for t in ast.walk(target) if isinstance(t, ast.Name)}
            elif isinstance(node, ast.Import | ast.ImportFrom):
                defined |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        missing = exports(tree) - defined
        assert not missing, f"{path.relative_to(ROOT)} exports {sorted(missing)}, which it does not define"


def exports(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__" and isinstance(node.value, ast.List):  # type: ignore[attr-defined]
            names |= {e.value for e in node.value.elts if isinstance(e, ast.Constant)}  # type: ignore[attr-defined]
    return names


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("name", ["policies", "detectors.text", "palimpsest.cli.main", "service.bento"])
def test_what_must_be_light_leaves_torch_alone(name: str) -> None:
    heavy = ("torch", "diffusers", "transformers", "easyocr", "onnxruntime")
    found = run(f"import sys, {name}; print([m for m in {heavy!r} if m in sys.modules])")
    assert found.strip() == "[]"


@pytest.mark.slow
def test_every_module_of_ours_imports_beside_easyocr_diffusers_and_transformers() -> None:
    ours = [dotted(p) for room in ROOMS for p in modules(room) if p.name != "__main__.py"]
    code = f"""
import importlib
for name in {ours!r}:
    importlib.import_module(name)
import easyocr, diffusers, transformers, torchvision
from diffusers import PixArtAlphaPipeline
from transformers import T5EncoderModel
print("together")
"""
    assert run(code).strip().endswith("together")


def test_no_file_of_ours_knows_a_machine() -> None:
    known = re.compile(r"(?<![\w./$}])/(work|root|opt|home)/[\w.-]+")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = [n for n in names if n.endswith((".py", ".md", ".yaml", ".yml", ".toml", ".json", "Makefile", ".ci/run"))]
    for name in texts:
        if (ROOT / name).is_file():
            found = known.search((ROOT / name).read_text("utf-8"))
            assert found is None or name == "tests/test_architecture.py", f"{name} holds `{found and found.group()}`"


def test_the_bento_holds_the_rooms_and_dependencies_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text("utf-8"))
    rooms = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    included = {entry.removesuffix("/**") for entry in bento["include"] if entry.endswith("/**")}
    assert included == set(ROOMS)
    assert rooms == set(ROOMS) - {"palimpsest_base"}, "`palimpsest*` holds both"
    assert bento["python"]["packages"] == project["project"]["dependencies"]
    assert bento["python"]["lock_packages"] is False
