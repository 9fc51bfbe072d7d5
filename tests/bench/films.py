"""How often a sign that is shown for a moment is in a key frame of a painted film, and in one of as many even steps.

    python -m tests.bench.films [--films 100] [--out FILE]

No reader is asked: it counts the frames that are chosen. Seeds are others than those of the tests.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectors.images import key_frames
from tests.detectors.films import even_steps, film

__all__ = ["main"]

_MOST = 8
# frames, frames that show the sign, pixels by which the ground moves, shots
_CASES = [(n, k, moves, 1) for n in (24, 81) for k in (1, 2, 4, 8) for moves in (0, 2, 5)]
_CASES += [(72, k, 2, shots) for shots in (4, 12, 24) for k in (1, 2)]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "films.json")
    asked = parser.parse_args(arguments)
    rows = []
    for count, shown, moves, shots in _CASES:
        found = by_steps = 0
        for seed in range(1000, 1000 + asked.films):
            frames, where = film(seed, shown=shown, moves=moves, count=count, shots=shots)
            found += bool(where & set(key_frames(frames, _MOST)))
            by_steps += bool(where & even_steps(count, _MOST))
        row = {"frames": count, "shown": shown, "moves": moves, "shots": shots, "films": asked.films}
        rows.append(row | {"in a key frame": found, "in an even step": by_steps})
    body = {"key frames": _MOST, "pixels": 64, "rows": rows}
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    asked.out.write_text(f'{{\n "key frames": {_MOST},\n "pixels": 64,\n "rows": [\n  {lines}\n ]\n}}\n', "utf-8")
    return body


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
