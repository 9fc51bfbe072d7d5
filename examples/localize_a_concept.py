"""Finds the sites that carry lettering in an embedded model, with the smallest budget that shows the idea.

    python examples/localize_a_concept.py [PACK TO WRITE]

`palimpsest localize` takes 4 prompts to search, 12 to check, and has a reader look at the pictures. This takes 2 and
2, draws pictures of few steps, and nobody looks at them.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from localization import Aim, Search, control_contrasts, lettering_contrasts, localize
from palimpsest import Host

ROOT = Path(__file__).resolve().parent.parent


def main(out: Path) -> None:
    host = Host.load(ROOT / "reference" / "models" / "signpost-pixart")
    started = time.monotonic()
    outcome = localize(
        host,
        Aim("lettering"),
        search=lettering_contrasts(2, seed=1),  # two signs, all else equal
        check=lettering_contrasts(2, seed=2),
        controls=control_contrasts(2, seed=3),  # same sign, other picture: these sites should not carry it
        how=Search(steps=4, budget=200),
        progress=lambda stage, done, total: print(f"  {stage}: {done} of {total}", end="\r"),
    )
    pack = outcome.pack
    print(f"\n{len(pack.sites)} of {len(host.sites)} sites after {time.monotonic() - started:.0f} s:")
    print("  " + ", ".join(pack.sites))
    assert pack.choice is not None
    print(f"  together they carry {pack.choice.share:.2f} of what a swap at all sites changes")
    print(f"wrote {pack.save(out)}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "lettering.safetensors"))
