"""The drawing of halls and its table describe the tree.

| mutation | turns red |
|---|---|
| `steering` imports `service` | the drawing fits the tree |
| a number of the table changed by hand | the drawing fits the tree |
| `for a, b in arrows` without `sorted` | the same drawing in every process |
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def halls() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_halls", ROOT / "docs" / "draw_halls.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["draw_halls"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tree(halls: ModuleType) -> Any:
    """The facts of the tree, read once."""
    return halls.read_tree()


def test_the_drawing_fits_the_tree(halls: ModuleType, tree: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halls, "read_tree", lambda: tree)
    assert halls.check() == [], "run `python docs/draw_halls.py`"


@pytest.mark.parametrize("seed", ["0", "1", "2", "3", "4", "5"])
def test_it_is_the_same_drawing_in_every_process(seed: str) -> None:
    """Sets are walked in another order under each hash seed."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "docs")}
    run = [sys.executable, "-c", "from draw_halls import *; print(draw(stored()) == PICTURE.read_text('utf-8'))"]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True"], done.stderr


def test_every_room_is_drawn_and_has_a_row(halls: ModuleType) -> None:
    from palimpsest_base.rooms import ROOMS

    assert set(halls.ROOMS) == set(halls.ROLE) == {*ROOMS, "palimpsest_base", "deploy"}
    page = halls.PAGE.read_text("utf-8")
    assert [room for room in ROOMS if f"| `{room}/` |" not in page] == []


def test_a_drawing_of_another_tree_is_found(halls: ModuleType, tree: Any) -> None:
    now = tree
    more = halls.Facts(now.halls, now.arrows | {("policies", "service")})
    assert any("`policies`" in found for found in halls.differences(now, more))
    fewer = halls.Facts({k: v for k, v in now.halls.items() if k != "steering/run"}, now.arrows)
    assert "hall `steering/run` is not drawn" in halls.differences(fewer, now)


def test_arrows_that_follow_from_others_are_left_out(halls: ModuleType) -> None:
    assert halls.reduced({("a", "b"), ("b", "c"), ("a", "c")}) == {("a", "b"), ("b", "c")}
    assert {("a", "b"), ("b", "a")} <= halls.reduced({("a", "b"), ("b", "a"), ("b", "c")}), "circles are shown"
    assert halls.rows_of(["a", "b", "c"], {("a", "b"), ("b", "c"), ("a", "c")}) == [["a"], ["b"], ["c"]]
