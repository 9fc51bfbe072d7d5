"""The page on capacity: its formula is right where one can count, its ratios are those of the results.

Breaks that it is made to show: minutes taken for seconds, the spare pod left out, `again` not multiplied by `steered`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.generate.capacity import Load, Ratios, main, measured, needed

EVEN = Ratios(service=1.0, plan=1.0, again=0.0, processor=0.5)


def test_a_load_that_one_can_count() -> None:
    # 60 a minute are one a second; at 2 s each, two engines are busy all the time, and four half of it
    need = needed(Load(60, 2.0, 3.0, steered=0.0, use=0.5, spare=1), EVEN)
    assert (need.pods, need.processors, need.hour) == (5, 5, 15.0)
    assert need.thousand == pytest.approx(1000 * 15 / 3600)


def test_each_ratio_costs_what_it_says() -> None:
    load = Load(6000, 1.0, 1.0, steered=0.5, use=1.0, spare=0)
    assert needed(load, EVEN).pods == 100
    assert needed(load, Ratios(1.5, 1.0, 0.0, 0.5)).pods == 150
    assert needed(load, Ratios(1.0, 2.0, 0.0, 0.5)).pods == 150, "half of the pictures cost twice as much"
    assert needed(load, Ratios(1.0, 2.0, 1.0, 0.5)).pods == 250, "and again for each that is drawn again"
    assert needed(load, Ratios(1.0, 1.0, 0.0, 5.0)).processors == 500


def test_the_ratios_are_near_one_and_those_on_the_page() -> None:
    ratios = measured()
    assert 0.9 < ratios.service < 1.2
    assert 1.0 < ratios.plan < 1.3
    assert 0.0 < ratios.again < 0.05
    assert 0.01 < ratios.processor < 1.0
    page = (Path(__file__).parents[2] / "deploy" / "capacity.md").read_text()
    for name in ("service", "plan", "again", "processor"):
        (shown,) = re.findall(rf"^\| `{name}` \| ([\d.]+)", page, re.M)
        assert float(shown) == pytest.approx(getattr(ratios, name), abs=0.001)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seconds", "-1", "--price", "1"], "error: seconds must be a number from 0 to inf, got -1"),
        (["--seconds", "1", "--price", "1", "--use", "0"], "error: use must be a number from 0.01 to 1, got 0"),
        (["--seconds", "nan", "--price", "1"], "error: seconds must be a number from 0 to inf, got nan"),
    ],
)
def test_a_number_that_cannot_be_is_refused(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(options) == 2
    assert capsys.readouterr().err.strip() == said


def test_the_command_prints_a_row_a_load(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "3", "--price", "2", "--pictures", "10", "2000"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["10", "2,000"]
