"""The small models that we train and ship, their world, and the planted ground truth.

Pretrained text-to-image weights are large and not always at hand, and nobody can measure a safety system on random
weights. So this room owns a world whose every picture is known (`world`, `paint`, `captions`), the recipe that trains
ordinary diffusers models on it (`recipe` and the modules beside it), and the judge that tells what a picture shows
(`judge`). The weights lie in `reference/models/`.
"""

import palimpsest_torchvision

palimpsest_torchvision.install()

__all__: list[str] = []
