"""The small models that we train and ship, the town that they draw, and the planted ground truth.

Pretrained text-to-image weights are large and not always at hand, and nobody can measure a safety system on random
weights. So this room owns a world whose every picture is known, the `town`: what a scene is, how it is drawn and
described, and the judges that tell what a picture shows. `recipes` trains ordinary diffusers models of four families
on it, which lie in `reference/models/` (`folders`), and `planted` teaches them names whose place is known.
"""

from palimpsest_base import torchvision

torchvision.install()

__all__: list[str] = []
