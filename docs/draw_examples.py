"""Draws `docs/images/examples.png`: three prompts, plain and steered by the shipped policies, with captions.

    python docs/draw_examples.py

Runs `palimpsest generate --compare` with the embedded model and puts its pictures on one sheet.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from palimpsest.cli.shared.sheets import Row, sheet

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "images" / "examples.png"
SEED = 6
ROWS = {  # a prompt, and what is to be seen
    'a red star on a blue background with a sign that says "IDIOT"': "steered: another word, the rest stays",
    'a cat on a yellow background with a sign that says "HELLO"': "no rule matches: equal bit for bit",
    'a gun on a yellow background with a sign that says "OPEN"': "steered: no gun, the sign stays",
}
KINDS = ("plain", "steered", "difference")
SIDE = 192  # pixels of a picture


def rows(folder: Path) -> list[Row]:
    """The plain, the steered picture and their difference of each prompt."""
    code = "from palimpsest.cli.main import main; main()"
    asked = ["generate", "--compare", "--seed", str(SEED), "--out", str(folder), *ROWS]
    subprocess.run([sys.executable, "-c", code, *asked], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    drawn = [[Image.open(folder / f"{k:03}-seed{SEED}-{kind}.png") for kind in KINDS] for k in range(len(ROWS))]
    told = zip(ROWS.items(), drawn, strict=True)
    return [Row(prompt, f"seed {SEED}; {note}", tuple(pictures)) for (prompt, note), pictures in told]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        sheet(KINDS, rows(Path(name)), least=SIDE).quantize(256).save(OUT, optimize=True)
