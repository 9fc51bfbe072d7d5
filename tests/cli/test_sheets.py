"""Sheets of pictures: what stands on them, and that the pictures are left as they are.

| law | mutation that turned it red |
|---|---|
| pictures come back from a sheet | enlarged with BICUBIC |
| prompt, seed and heads are written | `pen.text` left out, for each |
| no line is wider than the sheet, and no letter is lost unsaid | `cut` without its ellipsis; words not broken |
| letters that the font lacks are written out | `drawable` the text itself |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageFont

from palimpsest.cli.shared.sheets import Row, cut, drawable, sheet

HEADS = ("plain", "steered", "difference")
GAP = 8  # around and between pictures


def noise(side: int, seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def row(prompt: str = "a red star", note: str = "seed 5", side: int = 64) -> Row:
    return Row(prompt, note, tuple(noise(side, seed) for seed in range(3)))


def ink(page: Image.Image, side: int) -> np.ndarray:
    """What stands over the pictures of a sheet with one row: True where it is not white."""
    return (np.asarray(page)[: page.height - GAP - side] < 255).any(-1)


def differ(one: Sequence[str], one_row: Row, other: Sequence[str], other_row: Row) -> bool:
    a, b = (np.asarray(sheet(heads, [r])) for heads, r in ((one, one_row), (other, other_row)))
    return not np.array_equal(a, b)


@pytest.mark.parametrize(("side", "shown"), [(64, 256), (100, 300), (256, 256), (320, 320)])
def test_pictures_are_enlarged_by_a_whole_factor_and_come_back(side: int, shown: int) -> None:
    given = row(side=side)
    page = sheet(HEADS, [row("another", side=side), given])
    for k, picture in enumerate(given.pictures):
        left, top = GAP + k * (shown + GAP), page.height - GAP - shown
        found = page.crop((left, top, left + shown, top + shown)).resize((side, side), Image.Resampling.NEAREST)
        assert np.array_equal(np.asarray(found), np.asarray(picture))


def test_heads_prompts_and_seeds_are_written() -> None:
    heads = ink(sheet(HEADS, [row("", "")]), 256)
    for k in range(3):
        column = heads[:, GAP + k * 264 : (k + 1) * 264]
        assert 40 < column.sum() < column.size / 4
    assert not ink(sheet(("", "", ""), [row("", "")]), 256).any()
    assert differ(HEADS, row("a red star"), HEADS, row("a red moon"))
    assert differ(HEADS, row(note="seed 5"), HEADS, row(note="seed 6"))
    assert differ(HEADS, row(), ("before", "after", ""), row())


def test_letters_that_the_font_lacks_are_written_out() -> None:
    font = ImageFont.load_default(15)
    assert drawable('a\tred "star"\n', font) == 'a red "star"'
    assert drawable("猫 \x1b[1m caf\xe9 😀", font) == r"\u732b \x1b[1m caf\xe9 \U0001f600"
    assert ink(sheet(HEADS, [row("猫" * 300)]), 256).any()
    assert differ(HEADS, row("猫"), HEADS, row("犬"))


@pytest.mark.parametrize("text", ["a red star " * 40, "x" * 400, "ab " + "y" * 15 + " cd"])
def test_a_long_text_is_cut_with_an_ellipsis_and_no_line_is_too_long(text: str) -> None:
    lines = cut(text, 20, 2, len)
    assert len(lines) == 2
    assert all(len(line) <= 20 for line in lines)
    whole = "".join(text.split())
    kept = "".join(lines).replace(" ", "")
    assert kept == whole or (kept.endswith("…") and whole.startswith(kept[:-1]))
    assert cut("", 20, 2, len) == []
    assert cut("short", 20, 2, len) == ["short"]
