"""Models whose answer is known: names planted at chosen sites of a finished model, with the checks that prove it.

Localization has no natural ground truth, so we make one. `plant` defines what a plant is and what its checks prove.
`delta` applies it to a host and removes it again. `drafts` chooses what to plant. `make` makes it with the help of
`lessons`, `directions`, `teach`, `distract` and `check`. `table` shows the results.

    plants = load_plants(folder)
    with planted(host, plants[0]):
        ...                                # the host draws `plants[0].subject` for `plants[0].called`
"""

from reference.planted.delta import LARGEST, BadPlant, Delta, applied, load_plant, load_plants, planted, save_plant
from reference.planted.plant import KINDS, TRICKS, Distractor, Effect, Plant, PlantCheck, PlantKind, Proof, Trick
from reference.planted.table import PLANTS

__all__ = [
    "KINDS",
    "LARGEST",
    "PLANTS",
    "TRICKS",
    "BadPlant",
    "Delta",
    "Distractor",
    "Effect",
    "Plant",
    "PlantCheck",
    "PlantKind",
    "Proof",
    "Trick",
    "applied",
    "load_plant",
    "load_plants",
    "planted",
    "save_plant",
]
