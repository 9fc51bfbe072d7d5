"""The everyday English words that come with the package, innocent by themselves.

No form of a list entry is one of them (`inflections`), and the text views take none of them apart.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from policies.spelling import fold

__all__ = ["FOLDER", "load_everyday"]

FOLDER = Path(__file__).parent / "data"


@cache
def load_everyday() -> frozenset[str]:
    """The words of all files in `FOLDER`, folded, loaded once; a line with `#` in front is a comment."""
    lines = (line for path in sorted(FOLDER.glob("*.txt")) for line in path.read_text("utf-8").splitlines())
    return frozenset(word for line in lines if not line.startswith("#") for word in fold(line).split())
