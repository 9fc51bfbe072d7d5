"""Steers one of two pictures of the same prompt and seed, and shows that the other one is untouched.

python examples/steer_with_the_library.py [FOLDER FOR THE PICTURES]
"""

from __future__ import annotations

import sys
from pathlib import Path

from palimpsest import Host, Pack

ROOT = Path(__file__).resolve().parent.parent
PROMPT = 'a red star on a blue background with a sign that says "IDIOT"'
DONOR = 'a red star on a blue background with a sign that says "APPLE"'


def main(out: Path) -> None:
    # a host is a diffusers pipeline with its sites found and its self-test passed
    host = Host.load(ROOT / "reference" / "models" / "signpost-pixart")

    # a pack says which of the sites carry a concept in this very model
    pack = Pack.load(ROOT / "reference" / "packs" / "signpost-pixart" / "lettering.safetensors", host=host)
    print(f"{pack.concept} sits in {len(pack.sites)} of {len(host.sites)} sites: {', '.join(pack.sites)}")

    # one plan for each prompt of the batch; None leaves the picture as it is
    result = host.generate([PROMPT, PROMPT], plans=[pack.plan(toward=DONOR), None], seeds=[5, 5])
    stock = host.generate([PROMPT, PROMPT], plans=[None, None], seeds=[5, 5])  # bits need the same execution shape

    out.mkdir(parents=True, exist_ok=True)
    for name, image, report in zip(("steered", "plain"), result.images, result.report, strict=True):
        image.save(out / f"{name}.png")
        print(f"{name}: {sum(report.fired.values())} rows replaced, saved {out / name}.png")
    same = result.images[1].tobytes() == stock.images[1].tobytes()
    print(f"the plain picture, beside a steered one and without: {'equal' if same else 'different'} pixels")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out"))
