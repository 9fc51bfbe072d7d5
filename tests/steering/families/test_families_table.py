"""The table of families in `docs/your-model.md`: it claims what marked tests check, and nothing else.

| mutation | turns red |
|---|---|
| the mark of a law taken off | the table claims what is tested |
| a `not applicable` of the table changed to `yes` | the table claims what is tested |
| a failed test does not count | a cell is yes when every test of its hosts passed |
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.steering.families_table import COLUMNS, FAMILIES, Found, cells_of, checked, render, written
from tests.steering.zoo import NAMES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "your-model.md"


def test_every_host_of_the_zoo_is_of_one_family() -> None:
    assert sorted(name for names in FAMILIES.values() for name in names) == sorted(NAMES)


def test_the_table_claims_what_is_tested_and_nothing_else() -> None:
    cells, rows = checked(), written(PAGE.read_text("utf-8")).splitlines()
    for row in rows[2:]:
        family, _, *claims = (cell.strip() for cell in row.strip("|").split("|"))
        for column, claim in zip(COLUMNS, claims, strict=True):
            there = cells_of(cells, column, family)
            if claim == "not applicable":
                assert not there, f"{family}, {column}: `{there}` are tested"
                continue
            assert claim.split()[0] in ("yes", "refused"), f"{family}, {column}: `{claim}`"
            assert there, f"{family}, {column}: no test checks `{claim}`"
            some = [name for name in FAMILIES[family] if f"`{name}`" in claim]
            assert there == (some or list(FAMILIES[family])), f"{family}, {column}: `{claim}`, but `{there}` are tested"
    assert [row.strip("| ").split(" |")[0] for row in rows[2:]] == list(FAMILIES)


def test_a_cell_is_yes_when_every_test_of_its_hosts_passed() -> None:
    found = Found()
    for name in ("sd1", "sd2", "sana", "pixart-alpha", "pixart-sigma"):
        found.add(("L0", name), passed=True, refused=name.startswith("pixart"))
    found.add(("L0", "sd1"), passed=False, refused=False)
    cells = {row.split(" | ")[0].strip("| "): row.split(" | ")[2] for row in render(found).splitlines()}
    assert cells["Stable Diffusion 1, 2"] == "**no**"
    assert cells["SANA, SANA-Sprint"] == "yes (`sana`)"
    assert cells["PixArt-alpha, -sigma"] == "refused"
    assert cells["FLUX.1 dev, schnell"] == "not applicable"


def test_the_table_goes_between_its_marks_and_comes_back() -> None:
    text = "a\n<!-- families -->\nold\n<!-- /families -->\nb\n"
    fresh = written(text, "| new |")
    assert fresh == "a\n<!-- families -->\n| new |\n<!-- /families -->\nb\n"
    assert written(fresh) == "| new |"
    with pytest.raises(ValueError, match="once each"):
        written("nothing")
