"""The HTTP service: API, closed loop, engine queue, workers, metrics and audit log.

The service composes the other packages: `policies` decides, `detectors` read prompts and pictures, and `steering`
changes what the model draws. Importing this package loads none of them. Each module imports what it uses. The command
line is in `palimpsest.cli`.
"""

from palimpsest_base import torchvision

torchvision.install()

__all__: list[str] = []
