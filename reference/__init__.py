"""The small models that we train and ship, the world that they draw (the town), and the planted ground truth.

Pretrained text-to-image weights are large and not always available, and a safety system cannot be measured on random
weights. This package therefore owns a world whose every picture is known:

* `town/`: what a scene is, how it is drawn and described, and the judges that tell what a picture shows.
* `recipes/`: trains ordinary diffusers models of four families on it. They are stored in `reference/models/`.
* `planted/`: teaches these models names whose sites are known.
"""

from palimpsest_base import torchvision

torchvision.install()

__all__: list[str] = []
