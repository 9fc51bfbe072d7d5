"""Which sites of a host carry a concept, how few are enough, and with what evidence.

`effects` measures what a set of sites carries, `choose` finds the smallest set that carries enough, `prompts` makes
the contrasts that both are asked about, and `run` does it all and writes a pack.
"""

import palimpsest_torchvision

palimpsest_torchvision.install()

from localization.choose import Grown, choose_sites  # noqa: E402  (torchvision's remedy comes before torch)
from localization.effects import Bench, Contrast, Shares  # noqa: E402
from localization.prompts import concept_contrasts, control_contrasts, lettering_contrasts, load_contrasts  # noqa: E402
from localization.run import Aim, Outcome, Witness, localize, witness_lettering, witness_score  # noqa: E402

__all__ = [
    "Aim",
    "Bench",
    "Contrast",
    "Grown",
    "Outcome",
    "Shares",
    "Witness",
    "choose_sites",
    "concept_contrasts",
    "control_contrasts",
    "lettering_contrasts",
    "load_contrasts",
    "localize",
    "witness_lettering",
    "witness_score",
]
