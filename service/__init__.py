"""Serves pictures over HTTP: decides, plans, runs the model, checks the picture, answers; metrics and the audit log.

The room composes the others: `policies` decide whether, `detectors` say what is there, `steering` changes the model.
"""

from palimpsest_base import torchvision

torchvision.install()

__all__: list[str] = []
