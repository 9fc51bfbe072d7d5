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

import palimpsest_base.rooms

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("palimpsest_base", *palimpsest_base.rooms.ROOMS)
BASE = {"palimpsest_base"}
# room -> the rooms that it may import
ARROWS = {
    "palimpsest_base": set(),
    "policies": BASE,
    "detectors": BASE | {"policies"},
    "marking": BASE,
    "steering": BASE,
    "localization": BASE | {"steering"},
    "tuning": BASE | {"steering", "localization"},
    "reference": BASE | {"steering"},
    "evaluation": set(ROOMS) - {"service", "evaluation", "palimpsest"},
    "service": set(ROOMS) - {"evaluation", "localization", "tuning", "palimpsest"},
    "palimpsest": set(ROOMS),
    "deploy": BASE | {"service"},
}
# room -> its halls and the modules beside them, from the ground up: each may import what stands before it
HALLS = {
    "policies": [
        "types fields problems spelling near pieces everyday inflections matcher judgement evidence",
        "predicates",
        "format",
        "decide",
        "store",
    ],
    "detectors": ["running data", "text", "images", "semantic detox"],
    "marking": ["watermark", "spread credentials", "loading"],
    "steering": [
        "errors sites values plans sentinel maths attach",
        "families",
        "batch editing",
        "run",
        "measure",
        "host",
        "packs",
    ],
    "localization": [
        "errors contrasts prompts",
        "measure",
        "search",
        "run calibrate fit_methods fit probes sentinels",
        "verify edit_packs report",
    ],
    "tuning": ["errors noise arms student lessons pictures", "cost loop applications", "page merge", "run"],
    "reference": [
        "folders loop batches autoencoder",
        "town/scenes town/letters town/layout town/captions",
        "town/drawing",
        "town",
        "recipes/shapes recipes/tokens recipes/marks recipes/texts recipes/family",
        "recipes/teach",
        "recipes/causal",
        "recipes/models",
        "recipes",
        "planted",
    ],
    "evaluation": ["metrics answers draw distributions p2p", "prompts", "readers", "training", "tables"],
    "service": [
        "errors settings secret_files sealing periodic",
        "audit hosts image_files picture_links tracing logs redis_client",
        "order loading",
        "metrics",
        "marking",
        "reading",
        "engine",
        "rules reviews",
        "http",
        "worker",
        "console",
        "bento",
    ],
    "palimpsest": ["cli/shared models", "cli/operate", "cli", "__main__"],
}
MOST_FILES = 15  # in one folder


def modules(room: str) -> list[Path]:
    return sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a module imports, wherever in it; of `from a import b` both `a` and, if that is one, `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inner if is_module(name)]
            yield from found
            if len(found) < len(inner):
                yield node.module


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("room", ARROWS)
def test_a_room_imports_only_the_rooms_that_it_may(room: str) -> None:
    for path in modules(room):
        names = {name.split(".")[0] for name in imported(ast.parse(path.read_text("utf-8")))}
        used = {name for name in names if name in ROOMS} - {room}
        assert used <= ARROWS[room], f"{path.relative_to(ROOT)} imports {sorted(used - ARROWS[room])}"


@pytest.mark.parametrize("room", HALLS)
def test_no_arrow_between_halls_goes_up(room: str) -> None:
    level = {name: k for k, names in enumerate(HALLS[room]) for name in names.split()}
    for path in modules(room):
        if path.parent == ROOT / room and path.name == "__init__.py":
            continue  # a face imports whatever it shows
        own = hall_of(dotted(path), level)
        for name in imported(at_run_time(ast.parse(path.read_text("utf-8")))):
            if name.startswith(f"{room}."):
                other = hall_of(name, level)
                assert level[other] <= level[own], f"{path.relative_to(ROOT)} in `{own}` imports `{name}` above it"


def hall_of(module: str, level: dict[str, int]) -> str:
    """The hall, or the module beside the halls, that holds `module`: the longest name of `level` that fits."""
    parts = module.split(".")[1:]
    names = ["/".join(parts[:k]) for k in range(len(parts), 0, -1)]
    found = next((name for name in names if name in level), None)
    assert found is not None, f"`{module}` stands in no hall; say in HALLS where it belongs"
    return found


def at_run_time(tree: ast.Module) -> ast.Module:
    """The tree without what only a type checker imports."""
    kept = [n for n in tree.body if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test))]
    return ast.Module(kept, [])


def test_no_folder_has_more_files_than_one_can_read() -> None:
    folders = {p.parent for room in (*ARROWS, "tests") for p in modules(room)}
    crowded = {str(f.relative_to(ROOT)): n for f in folders if (n := len(list(f.glob("*.py")))) > MOST_FILES}
    assert not crowded


def test_the_tree_stays_light_to_clone() -> None:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    size = sum((ROOT / n).lstat().st_size for n in names.split("\0") if n and (ROOT / n).exists())
    assert size < 48_000_000, f"{size / 1e6:.2f} MB"


def test_serving_imports_no_research_room() -> None:
    """Of `reference`, the service needs the judge of the embedded models and the addresses of folders."""
    for path in modules("service"):
        for name in imported(ast.parse(path.read_text("utf-8"))):
            assert not name.startswith("reference.") or name.startswith(("reference.folders", "reference.town.")), (
                f"{path.relative_to(ROOT)} imports `{name}`"
            )


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


def test_the_bento_holds_the_rooms_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text("utf-8"))
    rooms = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    included = {entry.removesuffix("/**") for entry in bento["include"] if entry.endswith("/**")}
    assert included == set(ROOMS)
    assert rooms == set(ROOMS) - {"palimpsest_base"}, "`palimpsest*` holds both"
    assert bento["python"]["lock_packages"] is False
    assert (ROOT / bento["python"]["requirements_txt"]).is_file(), "tests/deploy/test_lock.py looks into it"
