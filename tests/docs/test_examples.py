"""The scripts in `examples/` run as they are, and each is short."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SAYS = {
    "steer_with_the_library": "without: equal pixels",
    "serve_your_own_folder": 'a sign that says "MORON": steer, a PNG of',
    "write_and_try_a_policy": 'a sign that says "n1tw1t": block',
    "localize_a_concept": "3 of 12 sites",
}


def test_each_example_is_tried_and_shorter_than_sixty_lines() -> None:
    assert {e.stem for e in EXAMPLES} == set(SAYS)
    for example in EXAMPLES:
        assert example.read_text("utf-8").count("\n") <= 60, example.name


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.stem)
def test_an_example_runs_and_says_what_it_did(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALIMPSEST_THREADS", "1")
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")  # the server that an example starts has a folder of its own
    monkeypatch.setattr("sys.argv", [str(example)])
    runpy.run_path(str(example), run_name="__main__")
    assert SAYS[example.stem] in capsys.readouterr().out
