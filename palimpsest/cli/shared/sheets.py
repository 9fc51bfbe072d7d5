"""Sheets of pictures side by side, with a head over each column, and the prompt and the seed over each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Image as Picture

__all__ = ["Row", "cut", "drawable", "sheet"]

_LEAST = 256  # pixels; smaller pictures are enlarged until they are as wide
_GAP, _LINE, _LETTERS = 8, 20, 15  # pixels: between parts, of a line of text, of its letters
_MOST = 2  # lines of a prompt
_INK, _SOFT = "black", "#0b5c8a"


@dataclass(frozen=True, slots=True)
class Row:
    """The pictures of one prompt, one a column. `note` stands below the prompt, such as `seed 5`."""

    prompt: str
    note: str
    pictures: tuple[Picture, ...]


def sheet(heads: Sequence[str], rows: Sequence[Row], *, least: int = _LEAST) -> Picture:
    """The rows on one white page. Pictures narrower than `least` pixels are enlarged by a whole factor."""
    font = ImageFont.load_default(_LETTERS)
    shown = [[_enlarged(picture, least) for picture in row.pictures] for row in rows]
    column = max(picture.width for pictures in shown for picture in pictures) + _GAP
    across = _GAP + len(heads) * column
    length: Callable[[str], float] = font.getlength
    captions = [
        cut(drawable(text, font), across - 2 * _GAP, _MOST, length) for row in rows for text in (row.prompt, row.note)
    ]
    tall = [max(picture.height for picture in pictures) for pictures in shown]
    down = 2 * _GAP + _LINE * (1 + sum(map(len, captions))) + sum(tall) + 2 * _GAP * (len(rows) - 1)
    page = Image.new("RGB", (across, down), "white")
    pen = ImageDraw.Draw(page)
    top = _GAP
    for n, pictures in enumerate(shown):
        for lines, ink in zip(captions[2 * n : 2 * n + 2], (_INK, _SOFT), strict=True):
            for line in lines:
                pen.text((_GAP, top), line, ink, font)
                top += _LINE
        if n == 0:
            for k, head in enumerate(heads):
                pen.text((_GAP + k * column + pictures[0].width / 2, top), head, _INK, font, anchor="ma")
            top += _LINE
        for k, picture in enumerate(pictures):
            page.paste(picture, (_GAP + k * column, top))
        top += tall[n] + 2 * _GAP
    return page


def cut(text: str, width: float, most: int, length: Callable[[str], float]) -> list[str]:
    """The text in at most `most` lines that `length` finds no longer than `width`; what is left out, an ellipsis says.

    Lines break between words; a word longer than a line breaks where the line ends.
    """
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if length(longer) <= width:
            lines[-1] = longer
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            if length(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    if len(lines) > most:
        last = lines[most - 1]
        while last and length(f"{last}\N{HORIZONTAL ELLIPSIS}") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], f"{last.rstrip()}\N{HORIZONTAL ELLIPSIS}"]
    return lines if lines[0] else []


def drawable(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    r"""The text on one line, with letters that the font lacks written as Python escapes, such as `\u732b`."""
    nothing = bytes(font.getmask("\uffff"))  # never a letter, so each font draws its mark for a missing one

    def drawn(letter: str) -> str:
        lacks = bytes(font.getmask(letter)) == nothing
        return letter.encode("unicode_escape").decode() if lacks else letter

    return " ".join("".join(map(drawn, word)) for word in text.split())


def _enlarged(picture: Picture, least: int) -> Picture:
    """The picture with each pixel as a square of as many as make it `least` wide."""
    factor = max(1, -(-least // picture.width))
    return picture.convert("RGB").resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
