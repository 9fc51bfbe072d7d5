"""Draws `docs/images/examples.png`: three prompts, plain and steered by the shipped policies, with captions.

    python docs/draw_examples.py

Runs `palimpsest generate --compare --seed 5` with the embedded model and puts its pictures side by side.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Image as Picture

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "images" / "examples.png"
SEED = 5
ROWS = {  # a prompt, and what is to be seen
    'a red star on a blue background with a sign that says "IDIOT"': "steered: another word, the rest stays",
    'a cat on a yellow background with a sign that says "HELLO"': "no rule matches: equal bit for bit",
    'a gun on a yellow background with a sign that says "OPEN"': "steered: no gun, the sign stays",
}
SIDE, LEFT, TOP, GAP = 128, 232, 26, 6


def pictures(folder: Path) -> list[list[Picture]]:
    """The plain, the steered picture and their difference of each row."""
    code = "from palimpsest.cli.main import main; main()"
    asked = ["generate", "--compare", "--seed", str(SEED), "--out", str(folder), *ROWS]
    subprocess.run([sys.executable, "-c", code, *asked], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    kinds = ("plain", "steered", "difference")
    return [[Image.open(folder / f"{k:03}-seed{SEED}-{kind}.png") for kind in kinds] for k in range(len(ROWS))]


def side_by_side(rows: list[list[Picture]]) -> Picture:
    """All pictures in one, with a heading over each column and the prompt beside each row."""
    font = ImageFont.truetype(str(ROOT / "reference" / "fonts" / "DejaVuSerifCondensed-Bold.ttf"), 13)
    page = Image.new("RGB", (LEFT + 3 * (SIDE + GAP), TOP + len(rows) * (SIDE + GAP)), "white")
    pen = ImageDraw.Draw(page)
    for column, name in enumerate(("plain", "steered", "difference")):
        pen.text((LEFT + column * (SIDE + GAP) + SIDE / 2, TOP / 2), name, "black", font, anchor="mm")
    for k, ((prompt, note), row) in enumerate(zip(ROWS.items(), rows, strict=True)):
        y = TOP + k * (SIDE + GAP)
        pen.multiline_text((10, y + 8), _wrapped(prompt, font), "black", font, spacing=5)
        pen.multiline_text((10, y + SIDE - 40), _wrapped(note, font), "#0b5c8a", font, spacing=5)
        for column, picture in enumerate(row):
            page.paste(
                picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST), (LEFT + column * (SIDE + GAP), y)
            )
    return page


def _wrapped(text: str, font: ImageFont.FreeTypeFont) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines = [*lines[:-1], longer] if font.getlength(longer) < LEFT - 20 else [*lines, word]
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        side_by_side(pictures(Path(name))).quantize(256).save(OUT, optimize=True)
