"""Every result file in the repository is shown on a page or read by a benchmark; a file that nobody names is removed.

| break | red |
|---|---|
| add `evaluation/results/old.json` | every result is named |
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "evaluation" / "README.md", *(ROOT / "docs").glob("*.md")]
BENCHES = sorted((ROOT / "tests" / "bench").glob("*.py"))
RESULTS = sorted(p for f in ("evaluation/results", "tests/bench/results") for p in (ROOT / f).iterdir())


@pytest.mark.parametrize("result", RESULTS, ids=lambda p: p.name)
def test_every_result_is_named_by_a_page_or_a_benchmark(result: Path) -> None:
    named = f"results/{result.name}"
    pages = [p.name for p in PAGES if named in p.read_text("utf-8")]
    benches = [p.name for p in BENCHES if f'"{result.name}"' in p.read_text("utf-8")]
    assert pages or benches, f"nobody names {result.relative_to(ROOT)}"
